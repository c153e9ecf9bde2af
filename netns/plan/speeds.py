"""How fast the box's clock runs by default: box seconds in a real one. Every default is from here."""

from __future__ import annotations

from typing import Final

OWN_COMMAND: Final = 1.0
"""Around a user's own command, whose waits are real: only then are the box's of the same length."""

SCENARIO: Final = 20.0
"""Of our own scenarios and measurements, in which every wait is the box's."""


def in_words(speed: float) -> str:
    """The speed in force, and whose the seconds are that are printed. Said once, before any of them."""
    if speed == 1:
        return "speed 1: all times are real"
    return f"speed {speed:g}: {speed:g} box s pass in 1 s of real time; a time in s alone is real"
