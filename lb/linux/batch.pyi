from collections.abc import Callable

LAYOUT: dict[str, tuple[int, int]]
"""Offset and size in bytes of each field of a session's row, as compiled."""

ROW: int
"""Bytes of a row, as compiled."""

def drain(
    fd: int,
    queue: int,
    mark: int,
    now: float,
    rows: bytearray,
    shards: list[dict[bytes, int]],
    timeouts_s: tuple[list[float], list[float], list[float], list[float]],
    decide: Callable[[float, bytes], int],
    /,
) -> tuple[int, int]:
    """Receive a batch of packets from the netfilter queue `fd` and give the verdict of each.

    An accepted packet gets the mark `mark` | server. Returns how many were forwarded here and about how many
    `decide`, which does not raise, was asked. Raises OSError.
    """

def known(
    now: float,
    packet: bytes,
    rows: bytearray,
    shards: list[dict[bytes, int]],
    timeouts_s: tuple[list[float], list[float], list[float], list[float]],
    /,
) -> int:
    """The server of a packet that only has to be noted in its session, which is done; 0 of any other."""
