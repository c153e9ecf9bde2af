"""Figures and names in words, as every output has them."""

from __future__ import annotations


def unit(speed: float) -> str:
    """Of the box's times: "s" at speed 1, where its seconds are real; "box s" at any other."""
    return "s" if speed == 1 else "box s"


def seconds(time: float, speed: float = 1.0) -> str:
    """ "0.25 s", "14.2 s", "1,240 s"; "14.2 box s" where a real second is `speed` of the box's."""
    number = f"{time:.2f}" if 0 < time < 1 else f"{time:.1f}" if time < 1000 else f"{time:,.0f}"
    return f"{number} {unit(speed)}"


def real_seconds(time: float, speed: float) -> str:
    """ "2.2 s"; "2.2 s of real time" where the box's seconds are others."""
    return seconds(time) if speed == 1 else f"{seconds(time)} of real time"


def plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'s' if count != 1 else ''}"


def were(count: int) -> str:
    return "was" if count == 1 else "were"


def words(name: str) -> str:
    """ "port_fail" as people write it."""
    return name.replace("_", " ")
