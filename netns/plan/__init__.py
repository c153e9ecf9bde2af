"""What a lab will be, before it is: `lab.toml`, the network made of it, the speeds. Pure."""
