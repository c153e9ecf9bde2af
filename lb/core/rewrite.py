"""The L3DSR rewrite (SPEC §2): destination address and DSCP change, checksums follow, nothing else does.

The time to live is left to the kernel, which forwards the packet next and takes one off.
"""

from __future__ import annotations

from lb.core.checksum import adjust, difference
from lb.core.packet import ICMPV6, TCP, UDP, Drop, transport

_ECN = 0x03
_NONE = b"\0\0"  # in UDP: the sender computed no checksum (RFC 768)
_CHECKSUM_OFFSET = {TCP: 16, UDP: 6, ICMPV6: 2}
"""Where a header keeps its checksum, for the protocols whose checksum covers the destination address."""


class Rewriter:
    """Rewrites packets to `vip` into packets to the real server at `address` (both 4 or 16 bytes)."""

    __slots__ = ("_address", "_address_delta", "_dscp")

    def __init__(self, vip: bytes, address: bytes, dscp: int) -> None:
        self._address = address
        self._address_delta = difference(vip, address)
        self._dscp = dscp

    def rewrite(self, packet: bytes) -> bytes:
        """A whole packet to the VIP as it goes to the real server. ValueError for what `Box` refuses."""
        found = transport(packet)
        if isinstance(found, Drop):
            raise ValueError(found.value)  # noqa: TRY004 - the value is wrong
        protocol, start = found
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
        if protocol in _CHECKSUM_OFFSET:
            at = start + _CHECKSUM_OFFSET[protocol]
            if protocol != UDP or packet[at : at + 2] != _NONE:
                _adjust_at(out, at, self._address_delta)
                if protocol == UDP and out[at : at + 2] == _NONE:
                    out[at : at + 2] = b"\xff\xff"
        return bytes(out)


def _adjust_at(out: bytearray, at: int, delta: int) -> None:
    out[at : at + 2] = adjust(out[at] << 8 | out[at + 1], delta).to_bytes(2, "big")
