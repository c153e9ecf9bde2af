"""The Internet checksum: computed whole (RFC 1071) and adjusted for a change (RFC 1624).

Sums are kept modulo 0xFFFF, where one's complement addition is ordinary addition. Of the two forms of zero,
a sum over anything that is not all zero bits is 0xFFFF, never 0; every header here has such bits.
"""

from __future__ import annotations


def checksum(data: bytes) -> int:
    """The 16-bit checksum of `data` (RFC 1071); an odd last byte counts as the high half of a word."""
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data, "big")
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return 0xFFFF - total


def difference(old: bytes, new: bytes) -> int:
    """What replacing `old` by `new`, both of whole 16-bit words, adds to a sum; for `adjust`."""
    return (int.from_bytes(new, "big") - int.from_bytes(old, "big")) % 0xFFFF


def adjust(old: int, delta: int) -> int:
    """The checksum `old` after its data changed by `delta` (RFC 1624, equation 3)."""
    total = (0xFFFF - old + delta) % 0xFFFF or 0xFFFF
    return 0xFFFF - total
