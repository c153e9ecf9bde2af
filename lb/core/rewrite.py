"""The L3DSR rewrite (SPEC §2): destination address and DSCP change, checksums follow, nothing else does.

The time to live is left to the kernel, which forwards the packet next and takes one off.
"""

from __future__ import annotations

from lb.core.checksum import adjust, difference
from lb.core.packet import ICMPV6, TCP, UDP

_ECN = 0x03
_CHECKSUM_OFFSET = {TCP: 16, UDP: 6, ICMPV6: 2}
"""Where a header keeps its checksum, for the protocols whose checksum covers the destination address."""


class Rewriter:
    """Rewrites packets to `vip` into packets to the real server at `address` (both 4 or 16 bytes)."""

    __slots__ = ("_address", "_address_delta", "_dscp")

    def __init__(self, vip: bytes, address: bytes, dscp: int) -> None:
        self._address = address
        self._address_delta = difference(vip, address)
        self._dscp = dscp

    def rewrite(self, packet: bytes, protocol: int, start: int) -> bytes:
        """`packet` as it goes to the real server; `start` is the offset of its TCP, UDP or ICMP header."""
        out = bytearray(packet)
        if len(self._address) == 4:
            out[1] = self._dscp << 2 | packet[1] & _ECN
            out[16:20] = self._address
            _adjust_at(out, 10, self._address_delta + out[1] - packet[1])
        else:
            # The traffic class lies across the first two bytes: version(4) class(8) flow label(20).
            word = int.from_bytes(packet[0:2], "big")
            out[0:2] = (word & 0xF03F | self._dscp << 6).to_bytes(2, "big")
            out[24:40] = self._address
        offset = _CHECKSUM_OFFSET.get(protocol)
        if offset is not None:
            at = start + offset
            none = protocol == UDP and not (out[at] or out[at + 1])  # the sender computed none (RFC 768)
            if not none:
                _adjust_at(out, at, self._address_delta)
            if protocol == UDP and not none and not (out[at] or out[at + 1]):
                out[at : at + 2] = b"\xff\xff"
        return bytes(out)


def _adjust_at(out: bytearray, at: int, delta: int) -> None:
    out[at : at + 2] = adjust(out[at] << 8 | out[at + 1], delta).to_bytes(2, "big")
