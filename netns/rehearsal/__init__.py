"""A deploy played by the user's own command, and why it loses what it loses."""
