"""What a client's kernel makes of packets sent in a VIP's name (SPEC §5): what precise resets rest on.

The connections are real ones between two namespaces, the packets are the box's own (`lb.core.reset`), and the
kernel is asked what it expects (TCP_REPAIR), what it counted (nstat) and what it sent (a capture).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import TCP
from scapy.packet import Packet

from lb.core.packet import ACK, RST, SYN
from lb.core.reset import segment
from lb.core.session_resets import CHALLENGE_INTERVAL_S
from lb.linux.inject import Injector
from tests.integration.netns_fixtures import (
    Capture,
    capture,
    execute,
    inside,
    link,
    namespaces,
    snmp,
)

pytestmark = pytest.mark.integration

CLIENT = "10.93.0.2"
VIP = "10.93.0.1"
PORT = 80
SILENT_PORT = 81
"""Where SYNs are lost."""
SILENCE = f"""
table ip silent {{
	chain input {{
		type filter hook input priority 0
		tcp dport {SILENT_PORT} drop
	}}
}}
"""

# linux/tcp.h
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
TCP_RECV_QUEUE, TCP_REPAIR_OFF_NO_WP = 1, -1
TCPI_RCV_WND = 232
"""Offset of tcpi_rcv_wnd in struct tcp_info."""

CHALLENGES = "TcpExtTCPChallengeACK"
SKIPPED = "TcpExtTCPACKSkippedChallenge"
RESETS = "TcpEstabResets"
FAILED_ATTEMPTS = "TcpAttemptFails"


@dataclass(frozen=True, slots=True)
class Peers:
    """A client's namespace, and one that is both the server and the box."""

    client: str
    vip: str
    listener: socket.socket
    injector: Injector

    def count(self, counter: str) -> int:
        return snmp(self.client, counter)


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with namespaces("client", "vip") as (client, vip):
        link(client, [f"{CLIENT}/24"], vip, [f"{VIP}/24"])
        execute(vip, "nft -f -", SILENCE)
        with inside(vip), socket.create_server((VIP, PORT)) as listener, Injector() as injector:
            listener.settimeout(5)
            yield Peers(client, vip, listener, injector)


class Connection:
    """One connection, seen from the client's kernel, the server's, and the wire between them."""

    def __init__(self, peers: Peers, wire: Capture) -> None:
        with inside(peers.client):
            self.client = socket.create_connection((VIP, PORT), timeout=5)
        self.server, _ = peers.listener.accept()
        self.peers = peers
        self.wire = wire
        self.port = self.client.getsockname()[1]
        # A request and its answer, all acknowledged: a keep-alive client between two requests.
        self.client.sendall(b"request")
        self.server.recv(100)
        self.server.sendall(b"answer")
        self.client.recv(100)
        wire.wait_for(lambda packet: self.sent_by_client(packet) and packet[TCP].ack == self.rcv_nxt)

    def sent_by_client(self, packet: Packet) -> bool:
        return TCP in packet and packet.src == CLIENT and packet[TCP].sport == self.port

    @property
    def rcv_nxt(self) -> int:
        """The sequence number that the client's kernel expects next; it says so itself."""
        repaired = self.client
        repaired.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        repaired.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)
        number = repaired.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
        repaired.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
        return number & 0xFFFFFFFF

    @property
    def window(self) -> int:
        """How many bytes from rcv_nxt on the client's kernel takes."""
        info = self.client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCPI_RCV_WND + 4)
        return int(struct.unpack_from("I", info, TCPI_RCV_WND)[0])

    def spoof(self, seq: int, flags: int, *, ack: int = 0) -> None:
        """Send the client a segment in the VIP's name, as the box does."""
        packet = segment(
            socket.inet_aton(VIP), PORT, socket.inet_aton(CLIENT), self.port,
            seq=seq & 0xFFFFFFFF, ack=ack, flags=flags,
        )  # fmt: skip
        assert self.peers.injector.send_all([packet]) == 1

    def is_alive(self) -> bool:
        """Whether a byte from the server still arrives; fails when neither that nor an error does."""
        try:
            self.server.sendall(b"x")
            return self.client.recv(1) == b"x"
        except (ConnectionResetError, BrokenPipeError):
            return False

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def connection(peers: Peers) -> Iterator[Connection]:
    with capture(peers.client, peers.vip.split("-")[-1]) as wire:
        made = Connection(peers, wire)
        yield made
        made.close()


def answer_to(connection: Connection, spoofed: int) -> Packet:
    """What the client said first after the spoofed packet with this sequence number."""
    connection.wire.wait_for(lambda packet: packet.src == VIP and packet[TCP].seq == spoofed & 0xFFFFFFFF)
    earlier = {id(packet) for packet in connection.wire.packets}
    return connection.wire.wait_for(
        lambda packet: connection.sent_by_client(packet) and id(packet) not in earlier
    )


Lab = Callable[[Connection], int]


def test_reset_at_rcv_nxt_is_accepted(connection: Connection) -> None:
    resets, challenges = connection.peers.count(RESETS), connection.peers.count(CHALLENGES)
    connection.spoof(connection.rcv_nxt, RST)
    with pytest.raises(ConnectionResetError):
        connection.client.recv(1)
    assert connection.peers.count(RESETS) == resets + 1
    assert connection.peers.count(CHALLENGES) == challenges


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda c: c.rcv_nxt + 1, id="next"),
        pytest.param(lambda c: c.rcv_nxt + c.window // 2, id="middle"),
        pytest.param(lambda c: c.rcv_nxt + c.window, id="edge"),
    ],
)
def test_reset_elsewhere_in_the_window_draws_a_challenge_that_carries_rcv_nxt(
    connection: Connection, place: Lab
) -> None:
    resets, challenges = connection.peers.count(RESETS), connection.peers.count(CHALLENGES)
    expected, spoofed = connection.rcv_nxt, place(connection)
    connection.spoof(spoofed, RST)
    challenge = answer_to(connection, spoofed)
    assert challenge[TCP].flags == "A"
    assert challenge[TCP].ack == expected
    assert connection.peers.count(CHALLENGES) == challenges + 1
    connection.spoof(challenge[TCP].ack, RST)  # what `precise` answers
    assert not connection.is_alive()
    assert connection.peers.count(RESETS) == resets + 1


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda c: c.rcv_nxt - 1, id="just-before"),
        pytest.param(lambda c: c.rcv_nxt - 100_000, id="long-before"),
        pytest.param(lambda c: c.rcv_nxt + c.window + 1, id="just-after"),
        pytest.param(lambda c: c.rcv_nxt + (1 << 30), id="long-after"),
    ],
)
def test_reset_outside_the_window_is_dropped_in_silence(connection: Connection, place: Lab) -> None:
    resets, challenges = connection.peers.count(RESETS), connection.peers.count(CHALLENGES)
    spoofed = place(connection)
    connection.spoof(spoofed, RST)
    assert connection.is_alive()
    assert connection.peers.count(RESETS) == resets
    assert connection.peers.count(CHALLENGES) == challenges
    # The one thing the client says afterwards is the acknowledgement of that byte.
    said = answer_to(connection, spoofed)
    assert said[TCP].ack == connection.rcv_nxt


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda c: c.rcv_nxt, id="rcv_nxt"),
        pytest.param(lambda c: c.rcv_nxt + 1000, id="in-the-window"),
        pytest.param(lambda c: c.rcv_nxt - 100_000, id="long-before"),
        pytest.param(lambda c: c.rcv_nxt + (1 << 30), id="long-after"),
        pytest.param(lambda _: 0, id="zero"),
    ],
)
def test_syn_at_any_number_draws_a_challenge_that_carries_rcv_nxt(connection: Connection, place: Lab) -> None:
    challenges = connection.peers.count(CHALLENGES)
    spoofed = place(connection)
    connection.spoof(spoofed, SYN)
    assert answer_to(connection, spoofed)[TCP].ack == connection.rcv_nxt
    assert connection.peers.count(CHALLENGES) == challenges + 1
    assert connection.is_alive()


def test_reset_at_the_last_ack_is_inexact_while_data_is_unacknowledged(connection: Connection) -> None:
    # The client delays its ACK by 40 ms at least: what it said last is then not what it expects.
    connection.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    last_ack, challenges = connection.rcv_nxt, connection.peers.count(CHALLENGES)
    connection.server.sendall(b"data in flight")
    connection.spoof(last_ack, RST)
    challenge = answer_to(connection, last_ack)
    assert challenge[TCP].ack == last_ack + len(b"data in flight")
    assert connection.peers.count(CHALLENGES) == challenges + 1
    connection.spoof(challenge[TCP].ack, RST)
    assert not connection.is_alive()


def test_a_connection_sends_one_challenge_per_half_second(connection: Connection) -> None:
    challenges, skipped = connection.peers.count(CHALLENGES), connection.peers.count(SKIPPED)
    spoofed, first = connection.rcv_nxt + 1, time.monotonic()
    for _ in range(5):
        connection.spoof(spoofed, RST)
    assert connection.peers.count(CHALLENGES) == challenges + 1
    assert connection.peers.count(SKIPPED) == skipped + 4
    while connection.peers.count(CHALLENGES) == challenges + 1:
        assert time.monotonic() < first + 5, "no second challenge ACK"
        connection.spoof(spoofed, RST)
    assert time.monotonic() - first >= CHALLENGE_INTERVAL_S
    limit_ms = execute(connection.peers.client, "sysctl -n net.ipv4.tcp_invalid_ratelimit")
    assert int(limit_ms) == CHALLENGE_INTERVAL_S * 1000


def test_challenges_of_many_connections_at_once_are_not_limited_together(peers: Peers) -> None:
    challenges = peers.count(CHALLENGES)
    with capture(peers.client, peers.vip.split("-")[-1]) as wire:
        many = [Connection(peers, wire) for _ in range(50)]
    for one in many:
        one.spoof(0, SYN)
    assert peers.count(CHALLENGES) == challenges + len(many)
    for one in many:
        one.close()


def test_half_closed_connection_accepts_the_reset_at_rcv_nxt_and_at_the_servers_fin(
    connection: Connection,
) -> None:
    resets = connection.peers.count(RESETS)
    connection.server.shutdown(socket.SHUT_WR)
    assert connection.client.recv(1) == b""
    connection.spoof(connection.rcv_nxt - 1, RST)  # the last ACK that a box may have seen
    with pytest.raises(BrokenPipeError):
        connection.client.sendall(b"more")
    assert connection.peers.count(RESETS) == resets + 1


@dataclass(frozen=True, slots=True)
class Opening:
    """A client whose SYN nobody answers."""

    client: socket.socket
    port: int
    isn: int
    peers: Peers

    def spoof(self, flags: int, *, seq: int = 0, ack: int = 0) -> None:
        packet = segment(
            socket.inet_aton(VIP), SILENT_PORT, socket.inet_aton(CLIENT), self.port,
            seq=seq, ack=ack, flags=flags,
        )  # fmt: skip
        assert self.peers.injector.send_all([packet]) == 1

    def is_refused(self) -> bool:
        return self.client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


@pytest.fixture
def opening(peers: Peers) -> Iterator[Opening]:
    with (
        capture(peers.client, peers.vip.split("-")[-1]) as wire,
        inside(peers.client),
        socket.socket() as client,
    ):
        client.setblocking(False)
        client.connect_ex((VIP, SILENT_PORT))
        port = client.getsockname()[1]
        syn = wire.wait_for(lambda packet: TCP in packet and packet[TCP].sport == port)
        yield Opening(client, port, syn[TCP].seq, peers)


def test_client_in_syn_sent_accepts_a_reset_that_acknowledges_its_syn(opening: Opening) -> None:
    failed = opening.peers.count(FAILED_ATTEMPTS)
    opening.spoof(RST | ACK, ack=opening.isn + 1 & 0xFFFFFFFF)
    assert opening.is_refused()
    assert opening.peers.count(FAILED_ATTEMPTS) == failed + 1


def test_client_in_syn_sent_ignores_any_other_reset(opening: Opening) -> None:
    failed = opening.peers.count(FAILED_ATTEMPTS)
    opening.spoof(RST)
    opening.spoof(RST, seq=opening.isn + 1 & 0xFFFFFFFF)
    opening.spoof(RST | ACK, ack=opening.isn)
    opening.spoof(RST | ACK, ack=opening.isn + 2 & 0xFFFFFFFF)
    assert not opening.is_refused()
    assert opening.peers.count(FAILED_ATTEMPTS) == failed
