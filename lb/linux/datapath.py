"""From queued packets to their verdicts: the box decides; who moves the bytes is a setting.

Both ways give the same packet on the wire. In user space the whole packet is copied here, rewritten and
copied back; in the kernel a mark goes back, by which the nft rules rewrite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog
from netfilterqueue import Packet

from lb.core.box import DROPPED, Box
from lb.core.packet import TCP, Drop
from lb.core.rewrite import Rewriter
from lb.core.session import LAYOUT, ROW
from lb.linux import batch
from lb.linux.queue import COPY_ALL, PacketQueue
from lb.linux.rules import MARK_BASE

Drain = Callable[[], bool]
"""Gives the verdicts of what has arrived, a batch at most; whether the box may have effects to be taken."""

_log = structlog.get_logger()


def check_layout(compiled: Mapping[str, tuple[int, int]], row: int) -> None:
    """Raise ImportError unless rows of `row` bytes with these fields are those of the session table.

    `compiled` has each field's offset and size in bytes, as `LAYOUT` of lb.core.session does.
    """
    for name in [*LAYOUT, *compiled]:
        if compiled.get(name) != LAYOUT.get(name):
            raise ImportError(_mismatch(f"the field {name!r} at", compiled.get(name), LAYOUT.get(name)))
    if row != ROW:
        raise ImportError(_mismatch("rows of", row, ROW))


def _mismatch(what: str, compiled: object, wanted: object) -> str:
    return (
        f"lb.linux.batch is compiled for another session table: it has {what} {compiled}, "
        f"lb.core.session {wanted}; install l4box again to compile it"
    )


check_layout(batch.LAYOUT, batch.ROW)


def userspace(
    box: Box, now: Callable[[], float], queue: PacketQueue, rewriters: Mapping[int, Rewriter]
) -> Drain:
    """Rewrites packets here. `rewriters` are by server id."""

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

    def drain() -> bool:
        queue.drain(handle)
        return True

    return drain


def kernel(box: Box, now: Callable[[], float], queue: PacketQueue) -> Drain:
    """Leaves the rewriting to the rules; the headers are all it needs.

    Packets of known sessions are decided in C, in the session table's own memory.
    """

    def decide(now: float, packet: bytes) -> int:
        try:
            return box.handle_packet(now, packet)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("packet handling failed")
            return box.count_drop(Drop.INTERNAL)

    table = box.table
    fixed = (table.rows, table.index[TCP], table.timeouts_s, decide)
    fd = queue.fileno()

    def drain() -> bool:
        forwarded, asked = batch.drain(fd, queue.number, MARK_BASE, now(), *fixed)
        box.forwarded += forwarded
        return asked > 0

    return drain


def _is_cut(payload: bytes) -> bool:
    """Whether the packet is longer than what was copied of it."""
    if payload[0] >> 4 == 4:
        return int.from_bytes(payload[2:4], "big") > len(payload)
    return 40 + int.from_bytes(payload[4:6], "big") > len(payload)
