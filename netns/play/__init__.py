"""A run: its clock, what can be done in it, looked at and expected; and what a scenario is."""
