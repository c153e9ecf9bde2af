"""The box itself, pure: no socket, no clock, no event loop. Time is an argument."""
