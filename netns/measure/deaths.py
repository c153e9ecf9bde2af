"""The ways in which a client's connection dies under it, and which of its clients gets which."""

from __future__ import annotations

from enum import Enum


class Ending(Enum):
    RST_IDLE = "rst_idle"
    FIN_IDLE = "fin_idle"
    RST_BUSY = "rst_busy"
    """With a request in flight: in place of its answer."""
    FIN_BUSY = "fin_busy"
    BLACK_HOLE = "black_hole"
    """Packets vanish, as they do when the VIP is taken off the server's lo."""

    @property
    def idle(self) -> bool:
        return self in (Ending.RST_IDLE, Ending.FIN_IDLE)

    @property
    def busy(self) -> bool:
        return self in (Ending.RST_BUSY, Ending.FIN_BUSY)

    @property
    def reset(self) -> bool:
        return self in (Ending.RST_IDLE, Ending.RST_BUSY)


BYSTANDER = 1
"""The number of a client to which nothing happens."""


def ending_of(number: int) -> Ending:
    """What happens to a client of that number beyond BYSTANDER: the endings in turn, over and over."""
    endings = list(Ending)
    return endings[(number - BYSTANDER - 1) % len(endings)]
