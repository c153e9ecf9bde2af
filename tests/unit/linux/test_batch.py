"""The packet path's part in C: it decides what `Box.handle_packet` would, and speaks the queue's language.

The other end of the queue is a socket here: a pair of them keeps messages apart as netlink does.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lb.core.box import DROPPED, Box
from lb.core.packet import TCP
from lb.core.session import LAYOUT, ROW
from lb.linux import batch, datapath
from tests.unit.core.dialogue import CLIENT, CLIENT6, ISN, VIP6, Dialogue, service, tcp, udp
from tests.unit.core.test_box_fast_path import arrivals, segments, state_of

QUEUE, MARK = 7, 0x4C340000
PACKET, VERDICT = 3 << 8, 3 << 8 | 1  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET and NFQNL_MSG_VERDICT
PACKET_HDR, HWADDR, PAYLOAD = 1, 9, 10
DROP, ACCEPT = 0, 1

Decide = Callable[[float, bytes], int]


Timeouts = tuple[list[float], list[float], list[float], list[float]]


def parts(box: Box) -> tuple[bytearray, list[dict[bytes, int]], Timeouts]:
    return box.table.rows, box.table.index[TCP], box.table.timeouts_s


def handle(box: Box, now: float, packet: bytes) -> int:
    """As the daemon does with both."""
    server = batch.known(now, packet, *parts(box))
    if server:
        box.forwarded += 1
        return server
    return box.handle_packet(now, packet)


# The session table's rows


@pytest.mark.parametrize("field", LAYOUT)
def test_field_that_was_compiled_elsewhere_or_in_another_size_is_an_import_error(field: str) -> None:
    datapath.check_layout(batch.LAYOUT, batch.ROW)
    offset, size = LAYOUT[field]
    without = {name: place for name, place in batch.LAYOUT.items() if name != field}

    for place in ({field: (offset + size, size)}, {field: (offset, 2 * size)}, {}):
        with pytest.raises(ImportError, match=f"field '{field}'"):
            datapath.check_layout(without | place, ROW)


def test_field_that_the_session_table_has_not_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="field 'color'"):
        datapath.check_layout({**batch.LAYOUT, "color": (49, 1)}, ROW)


def test_rows_that_were_compiled_longer_are_an_import_error() -> None:
    with pytest.raises(ImportError, match="rows of 128"):
        datapath.check_layout(batch.LAYOUT, 128)


def test_daemon_does_not_start_with_a_module_compiled_for_another_table() -> None:
    """The comparison is made when the packet path is imported."""
    program = """
from lb.linux import batch
batch.LAYOUT["ack"] = (32, 4)
import lb.daemon
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "ImportError: lb.linux.batch is compiled for another session table" in done.stderr
    assert "'ack' at (32, 4), lb.core.session (28, 4)" in done.stderr


# Decisions


@settings(max_examples=300)
@given(arrivals, st.sampled_from([CLIENT, CLIENT6]))
@example([(120.0, True, bytes(tcp("A", seq=ISN + 1, ack=501)))], CLIENT)
@example([(119.9, True, bytes(tcp("A", seq=ISN + 1, ack=501)))], CLIENT)
@example(
    [(0.0, False, bytes(tcp("FA", seq=ISN + 1, ack=9))), (8.0, True, bytes(tcp("A", seq=ISN + 2, ack=501)))],
    CLIENT,
)
@example(
    [(0.0, False, bytes(tcp("FA", seq=ISN + 1, ack=9))), (7.9, True, bytes(tcp("A", seq=ISN + 2, ack=501)))],
    CLIENT,
)
@example(
    [(0.0, False, bytes(tcp("S", seq=77))), (60.0, True, bytes(tcp("A", seq=78, ack=501)))],
    CLIENT,
)
@example(
    [(0.0, False, bytes(tcp("S", seq=77))), (59.9, True, bytes(tcp("A", seq=78, ack=501)))],
    CLIENT,
)
def test_compiled_path_and_general_path_agree_on_every_packet(
    arrivals: list[tuple[float, bool, bytes]], client: str
) -> None:
    """From the SYN on, and when a session has expired that is still in the table."""
    compiled, general = _talk(), _talk()
    for talk in (compiled, general):
        talk.send(tcp("S", client=client))
    third = bytes(tcp("A", seq=ISN + 1, ack=501, client=client))

    for seconds, timer_is_late, packet in [(0.0, False, third), *arrivals]:
        for talk in (compiled, general):
            if timer_is_late:
                talk.now += seconds
            else:
                talk.wait(seconds)
        verdict = handle(compiled.box, compiled.now, packet)

        assert verdict == general.box._handle_any(general.now, packet), packet.hex(" ")
        assert state_of(compiled.box) == state_of(general.box), packet.hex(" ")


@settings(max_examples=300)
@given(segments(), st.data())
def test_bytes_that_a_client_changes_at_will_are_decided_alike(packet: bytes, data: st.DataObject) -> None:
    changed = bytearray(packet)
    for place in data.draw(st.lists(st.integers(0, min(len(packet), 64) - 1), max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    compiled, general = _talk(), _talk()
    for talk in (compiled, general):
        talk.send(tcp("S"))
        talk.send(tcp("A", seq=ISN + 1, ack=501))

    verdict = handle(compiled.box, compiled.now, bytes(changed))

    assert verdict == general.box._handle_any(general.now, bytes(changed)), changed.hex(" ")
    assert state_of(compiled.box) == state_of(general.box), changed.hex(" ")


def _talk() -> Dialogue:
    return Dialogue(service(aging_s=120), service("six", vip=VIP6, aging_s=120))


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_only_the_first_and_the_last_packets_of_a_connection_are_not_decided_in_c(client: str) -> None:
    """Else the tests above would compare the general path with itself."""
    talk = _talk()
    dialogue = [
        ("S", ISN, 0, False),
        ("A", ISN + 1, 501, True),
        ("PA", ISN + 1, 501, True),
        ("AE", ISN + 6, 900, True),
        ("FA", ISN + 6, 901, False),
        ("A", ISN + 7, 902, True),
        ("RA", ISN + 7, 902, False),
    ]
    for flags, seq, ack, in_c in dialogue:
        packet = bytes(tcp(flags, seq=seq, ack=ack, client=client))
        server = batch.known(talk.now, packet, *parts(talk.box))
        assert bool(server) is in_c, flags
        if not server:
            talk.send(packet)
    assert not batch.known(talk.now, bytes(udp()), *parts(talk.box))


def test_parts_that_are_none_of_a_table_are_refused() -> None:
    rows, shards, timeouts_s = parts(Dialogue().box)
    syn_s, aging_s, fin_s, _ = timeouts_s
    packet = bytes(tcp("A"))

    with pytest.raises(TypeError, match="list of 256 dicts"):
        batch.known(1.0, packet, rows, shards[:9], timeouts_s)
    with pytest.raises(TypeError, match="4 lists of floats"):
        batch.known(1.0, packet, rows, shards, (syn_s, aging_s, fin_s))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="4 lists of floats"):
        batch.known(1.0, packet, rows, shards, (syn_s, aging_s, fin_s, 600.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        batch.known(1.0, packet, bytes(rows), shards, timeouts_s)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        batch.known(1.0, "text", rows, shards, timeouts_s)  # type: ignore[arg-type]


# The queue


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def queued(number: int, packet: bytes, kind: int = PACKET) -> bytes:
    """The kernel's message about a packet; nfnetlink_queue.c, nfqnl_build_packet_message."""
    body = bytes((2, 0)) + struct.pack("!H", QUEUE)
    body += attribute(PACKET_HDR, struct.pack("!IHB", number, 0x0800, 0))
    body += attribute(HWADDR, struct.pack("!HH8s", 6, 0, b"\x02bench!!"))
    body += attribute(PAYLOAD, packet)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def verdicts(message: bytes) -> list[tuple[int, int, int]]:
    """Packet number, verdict and mark of each in a message to the kernel."""
    found = []
    while message:
        length, kind, flags, _, _, family, version, queue = struct.unpack_from("=IHHIIBB2s", message)
        assert (length, kind, flags) == (40, VERDICT, 1), "a request of 40 bytes"
        assert (family, version, queue) == (0, 0, struct.pack("!H", QUEUE))
        assert struct.unpack_from("=HH", message, 20) == (12, 2), "NFQA_VERDICT_HDR"
        assert struct.unpack_from("=HH", message, 32) == (8, 3), "NFQA_MARK"
        verdict, number = struct.unpack_from("!II", message, 24)
        found.append((number, verdict, struct.unpack_from("!I", message, 36)[0]))
        message = message[length:]
    return found


class Kernel:
    """The other end."""

    def __init__(self) -> None:
        self._ours, self._daemons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def drain(self, *messages: bytes, box: Box, now: float, decide: Decide) -> tuple[int, int]:
        for message in messages:
            self._ours.send(message)
        return batch.drain(self._daemons.fileno(), QUEUE, MARK, now, *parts(box), decide)

    def told(self) -> list[tuple[int, int, int]]:
        """The verdicts of the next batch; none if there is no message."""
        try:
            return verdicts(self._ours.recv(1 << 16))
        except BlockingIOError:
            return []

    def close(self) -> None:
        self._ours.close()
        self._daemons.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


def _established() -> tuple[Dialogue, int]:
    talk = _talk()
    talk.send(tcp("S"))
    talk.send(tcp("A", seq=ISN + 1, ack=501))
    return talk, talk.box.table.page(0, 100)[0][0].server


def test_verdicts_of_a_batch_go_in_one_message_in_the_packets_order(kernel: Kernel) -> None:
    talk, server = _established()
    asked = []

    def decide(now: float, packet: bytes) -> int:
        asked.append((now, packet))
        return talk.box.handle_packet(now, packet)

    known, unknown = bytes(tcp("A", seq=ISN + 1, ack=501)), bytes(tcp("A", port=9))
    opens = bytes(tcp("S", port=10))

    counts = kernel.drain(
        queued(5, known), queued(6, unknown), queued(8, opens), box=talk.box, now=talk.now, decide=decide
    )

    third = talk.box.table.page(0, 100)[0][1].server
    assert counts == (1, 2)
    assert asked == [(talk.now, unknown), (talk.now, opens)]
    assert kernel.told() == [(5, ACCEPT, MARK | server), (6, DROP, MARK), (8, ACCEPT, MARK | third)]
    assert kernel.told() == []


def test_empty_queue_has_nothing_to_decide_and_more_than_a_batch_waits_for_the_next(kernel: Kernel) -> None:
    talk, server = _established()
    packet = bytes(tcp("A", seq=ISN + 1, ack=501))

    def drain(*messages: bytes) -> tuple[int, int]:
        return kernel.drain(*messages, box=talk.box, now=talk.now, decide=talk.box.handle_packet)

    assert drain() == (0, 0)
    assert kernel.told() == []
    assert drain(*(queued(number, packet) for number in range(70))) == (64, 0)
    assert drain() == (6, 0)
    assert kernel.told() + kernel.told() == [(number, ACCEPT, MARK | server) for number in range(70)]


def test_exception_while_deciding_drops_the_packet_and_no_other(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, server = _established()
    reported = []
    monkeypatch.setattr("sys.unraisablehook", lambda failure: reported.append(failure.exc_value))

    def decide(now: float, packet: bytes) -> int:
        raise ValueError("a defect")

    known = bytes(tcp("A", seq=ISN + 1, ack=501))
    kernel.drain(queued(1, b""), queued(2, known), box=talk.box, now=talk.now, decide=decide)

    assert kernel.told() == [(1, DROP, MARK), (2, ACCEPT, MARK | server)]
    assert [str(error) for error in reported] == ["a defect"]


def test_socket_that_fails_is_an_os_error() -> None:
    box = Dialogue().box
    with pytest.raises(OSError, match="Bad file descriptor"):
        batch.drain(-1, QUEUE, MARK, 1.0, *parts(box), box.handle_packet)


def test_message_without_a_payload_is_a_packet_of_no_bytes(kernel: Kernel) -> None:
    talk, asked = _talk(), []
    message = queued(3, b"")[:-4]

    def decide(now: float, packet: bytes) -> int:
        asked.append(packet)
        return DROPPED

    kernel.drain(message, box=talk.box, now=talk.now, decide=decide)

    assert asked == [b""]
    assert kernel.told() == [(3, DROP, MARK)]


def test_other_messages_are_no_packets(kernel: Kernel) -> None:
    """An error about a verdict, say: the packet had gone with its interface."""
    talk, server = _established()
    packet = bytes(tcp("A", seq=ISN + 1, ack=501))
    error = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + bytes(16)

    counts = kernel.drain(
        error,
        queued(4, packet, kind=VERDICT),
        queued(5, packet),
        box=talk.box,
        now=talk.now,
        decide=talk.box.handle_packet,
    )

    assert counts == (1, 0)
    assert kernel.told() == [(5, ACCEPT, MARK | server)]


@given(st.lists(st.binary(min_size=1, max_size=700) | st.tuples(st.binary(max_size=90), segments())))
def test_no_message_whatever_is_in_it_does_harm(messages: list[bytes | tuple[bytes, bytes]]) -> None:
    """Cut off, with attributes that end beyond it or are too short to be any."""
    talk, _ = _established()
    kernel = Kernel()
    try:
        for message in messages:
            if isinstance(message, tuple):
                garbage, packet = message
                whole = queued(1, packet)
                message = whole[: 20 + len(garbage)] + garbage + whole[20 + len(garbage) :]
            counts = kernel.drain(message, box=talk.box, now=talk.now, decide=talk.box.handle_packet)
            assert len(kernel.told()) == sum(counts) <= 1
    finally:
        kernel.close()
