"""From a queued packet to its verdict: the box decides; who moves the bytes is a setting.

Both ways give the same packet on the wire. In user space the whole packet is copied here, rewritten and
copied back; in the kernel a mark goes back, by which the nft rules rewrite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog
from netfilterqueue import Packet

from lb.core.box import DROPPED, Box
from lb.core.packet import Drop
from lb.core.rewrite import Rewriter
from lb.linux.queue import COPY_ALL
from lb.linux.rules import MARK_BASE

_log = structlog.get_logger()


def userspace(
    box: Box, now: Callable[[], float], rewriters: Mapping[int, Rewriter]
) -> Callable[[Packet], None]:
    """A handler for `PacketQueue` that rewrites packets here. `rewriters` are by server id."""

    def handle(packet: Packet) -> None:
        try:
            payload = packet.get_payload()
            if len(payload) >= COPY_ALL and _is_cut(payload):
                box.count_drop(Drop.OVERSIZE)
                packet.drop()
                return
            server = box.handle_packet(now(), payload)
            if server == DROPPED:
                packet.drop()
                return
            packet.set_payload(rewriters[server].rewrite(payload))
            packet.accept()
        except Exception:  # noqa: BLE001 - whatever it is
            # A defect of ours. The packet must not wait in the kernel for ever, nor the box stop (SPEC §8).
            packet.drop()
            box.count_drop(Drop.INTERNAL)
            _log.exception("packet handling failed")

    return handle


def kernel(box: Box, now: Callable[[], float]) -> Callable[[Packet], None]:
    """A handler for `PacketQueue` that leaves the rewriting to the rules; the headers are all it needs."""

    def handle(packet: Packet) -> None:
        try:
            server = box.handle_packet(now(), packet.get_payload())
            if server == DROPPED:
                packet.drop()
                return
            packet.set_mark(MARK_BASE | server)
            packet.accept()
        except Exception:  # noqa: BLE001 - see above
            packet.drop()
            box.count_drop(Drop.INTERNAL)
            _log.exception("packet handling failed")

    return handle


def _is_cut(payload: bytes) -> bool:
    """Whether the packet is longer than what was copied of it."""
    if payload[0] >> 4 == 4:
        return int.from_bytes(payload[2:4], "big") > len(payload)
    return 40 + int.from_bytes(payload[4:6], "big") > len(payload)
