"""Health probes against real servers behind a real L3DSR path."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from lb.core.health import Outcome, ProbeResult
from lb.linux import netfilter, probe
from lb.linux.rules import MARK_BASE, Service, Target, render
from tests.integration.netns_fixtures import (
    capture,
    checksums_are_right,
    eventually,
    execute,
    inside,
    link,
    namespaces,
    snmp,
)

pytestmark = pytest.mark.integration

VIP, VIP6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
REAL, REAL6 = ip_address("10.80.2.2"), ip_address("fd00:80:2::2")
DSCP = 10
MARK, MARK6 = MARK_BASE | 1, MARK_BASE | 2

THROUGH_DSR = probe.Request(
    kind="l7",
    address=VIP,
    port=80,
    mark=MARK,
    url="/health_check.html",
    expect=(200,),
    host="www.example.com",
    timeout_s=5.0,
)
THROUGH_DSR_IPV6 = replace(THROUGH_DSR, address=VIP6, mark=MARK6)
DIRECT = replace(THROUGH_DSR, address=REAL, mark=None)
ANSWERED = ProbeResult(Outcome.SUCCESS, "200", 200)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"y" * 300_000


@dataclass(frozen=True, slots=True)
class NamespaceLab:
    """A box between a router, where its routes lead, and a server, where only its marks lead."""

    box: str
    server: str


@pytest.fixture
def lab() -> Iterator[NamespaceLab]:
    with namespaces("router", "box", "server") as (router, box, server):
        link(router, ["10.80.1.1/24", "fd00:80:1::1/64"], box, ["10.80.1.2/24", "fd00:80:1::2/64"])
        link(box, ["10.80.2.1/24", "fd00:80:2::1/64"], server, [f"{REAL}/24", f"{REAL6}/64"])
        execute(box, "ip route add default via 10.80.1.1")
        execute(box, "ip -6 route add default via fd00:80:1::1")
        execute(server, "ip route add default via 10.80.2.1")
        execute(server, "ip -6 route add default via fd00:80:2::1")
        vip_up(server)
        dscp_rule(server)
        services = [
            Service(VIP, 80, "tcp", DSCP, (Target(MARK, REAL),)),
            Service(VIP6, 80, "tcp", DSCP, (Target(MARK6, REAL6),)),
        ]
        with inside(box):
            netfilter.install(render("web", 35, services))
        yield NamespaceLab(box, server)


def vip_up(server: str) -> None:
    execute(server, f"ip address add {VIP}/32 dev lo label lo:0")
    execute(server, f"ip address add {VIP6}/128 dev lo")


def dscp_rule(server: str) -> None:
    rules = "".join(
        f"table {family} dsr {{ chain prerouting {{ type filter hook prerouting priority raw;\n"
        f"{family} daddr {real} {family} dscp {DSCP} {family} daddr set {vip} {family} dscp set 0\n}}\n}}\n"
        for family, real, vip in (("ip", REAL, VIP), ("ip6", REAL6, VIP6))
    )
    execute(server, "nft -f -", text=rules)


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, WebServer)
        self.server.requests.append((self.path, dict(self.headers)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None:
        pass


class WebServer(ThreadingHTTPServer):
    """A real HTTP server that answers everything with one status."""

    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, status: int) -> None:
        self.address_family = family
        self.status = status
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__(("::" if family == socket.AF_INET6 else "0.0.0.0", 80), Pages)


@contextmanager
def web_server(
    namespace: str, status: int = 200, family: socket.AddressFamily = socket.AF_INET
) -> Iterator[WebServer]:
    with inside(namespace):
        server = WebServer(family, status)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tcp_server(namespace: str, behaviour: Callable[[socket.socket], None]) -> Iterator[list[Exception]]:
    """A server that does as told with its first connection; what its reads and writes raised."""
    raised: list[Exception] = []
    with inside(namespace):
        listener = socket.create_server(("", 80))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            try:
                behaviour(connection)
            except OSError as error:
                raised.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield raised
    finally:
        thread.join()
        listener.close()


async def checked(request: probe.Request) -> ProbeResult:
    """The one result of a check that has ended its connection."""
    results: list[ProbeResult] = []
    await probe.check(request, results.append)
    (result,) = results
    return result


async def watched(request: probe.Request, left_or_reading: threading.Event) -> ProbeResult:
    """The result of a check; the event is set once the check has reported and waits, or has closed.

    A check that does not read on closes in the step in which it reports: before this coroutine's next one.
    """
    result: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(probe.check(request, result.set_result))
    await result
    left_or_reading.set()
    await task
    return result.result()


def check(lab: NamespaceLab, request: probe.Request) -> ProbeResult:
    with inside(lab.box):
        return asyncio.run(checked(request))


def delivered(connection: socket.socket) -> None:
    """Wait until the box has acknowledged all that was sent; OSError if it has reset the connection."""

    def settled() -> bool:
        if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        return fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)) == bytes(4)

    assert eventually(settled)


def reads_then(answer: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return behave


def test_an_expected_status_through_the_dsr_path_is_a_success(lab: NamespaceLab) -> None:
    with web_server(lab.server) as server, capture(lab.server, "box") as wire:
        assert check(lab, THROUGH_DSR) == ANSWERED
        syn = wire.wait_for(lambda packet: TCP in packet and packet[TCP].flags == "S")
        request = wire.wait_for(lambda packet: TCP in packet and b"GET " in bytes(packet[TCP].payload))
    ((path, headers),) = server.requests
    assert path == "/health_check.html"
    assert headers == {"Host": "www.example.com", "User-Agent": "l4box", "Connection": "close"}
    assert snmp(lab.server, "TcpInSegs") > 0
    assert snmp(lab.server, "TcpInCsumErrors") == 0
    for packet in (syn, request):
        assert (packet[IP].dst, packet[IP].tos >> 2) == (str(REAL), DSCP)
        assert checksums_are_right(packet)


def test_ipv6_goes_the_same_way(lab: NamespaceLab) -> None:
    with web_server(lab.server, family=socket.AF_INET6), capture(lab.server, "box") as wire:
        assert check(lab, THROUGH_DSR_IPV6) == ANSWERED
        syn = wire.wait_for(lambda packet: TCP in packet and packet[TCP].flags == "S")
    assert (syn[IPv6].dst, syn[IPv6].tc >> 2) == (str(REAL6), DSCP)
    assert checksums_are_right(syn)


def test_another_status_is_a_bad_status_unless_expected(lab: NamespaceLab) -> None:
    with web_server(lab.server, status=404):
        assert check(lab, THROUGH_DSR) == ProbeResult(Outcome.BAD_STATUS, "404", 404)
        assert check(lab, replace(THROUGH_DSR, expect=(200, 404))) == ProbeResult(Outcome.SUCCESS, "404", 404)


def test_a_stopped_web_server_is_known_at_once(lab: NamespaceLab) -> None:
    for kind in ("l7", "l4"):
        # Were it not known at once, the timeout would be the answer.
        request = replace(THROUGH_DSR, kind=kind, timeout_s=60.0)
        assert check(lab, request) == ProbeResult(Outcome.MISS, "refused")


def test_a_server_without_its_vip_times_out_and_is_green_only_on_the_direct_path(lab: NamespaceLab) -> None:
    execute(lab.server, f"ip address del {VIP}/32 dev lo")
    with web_server(lab.server):
        request = replace(THROUGH_DSR, timeout_s=0.3)
        assert check(lab, request) == ProbeResult(Outcome.MISS, "timeout")
        assert check(lab, replace(request, kind="l4")) == ProbeResult(Outcome.MISS, "timeout")
        assert check(lab, DIRECT) == ANSWERED


def test_a_server_without_its_dscp_rule_times_out(lab: NamespaceLab) -> None:
    execute(lab.server, "nft delete table ip dsr")
    with web_server(lab.server):
        assert check(lab, replace(THROUGH_DSR, timeout_s=0.3)).outcome is Outcome.MISS


def test_the_direct_path_is_not_rewritten(lab: NamespaceLab) -> None:
    with web_server(lab.server), capture(lab.server, "box") as wire:
        assert check(lab, DIRECT) == ANSWERED
        syn = wire.wait_for(lambda packet: TCP in packet and packet[TCP].flags == "S")
    assert (syn[IP].dst, syn[IP].tos) == (str(REAL), 0)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", 'not HTTP: "SSH-2.0-OpenSSH_9.2"'),
        (b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n", "not HTTP: binary data"),
        (b"HTTP/1.1 20", "closed before the status"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed before the status"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "no status within 16384 bytes"),
        (b"HTTP/1.1 200 " + b"x" * 100_000, "no status within 16384 bytes"),
        (b"x" * 100_000, f'not HTTP: "{"x" * 40}"'),
    ],
    ids=lambda value: value[:24].decode("latin-1").strip() if isinstance(value, bytes) else "",
)
def test_what_has_no_status_is_a_miss_that_says_why(lab: NamespaceLab, answer: bytes, detail: str) -> None:
    with tcp_server(lab.server, reads_then(answer)) as raised:
        assert check(lab, replace(THROUGH_DSR, timeout_s=20.0)) == ProbeResult(Outcome.MISS, detail)
    assert raised == []


def test_the_status_line_decides_although_its_head_never_ends(lab: NamespaceLab) -> None:
    decided = threading.Event()
    results: list[ProbeResult] = []

    def report(result: ProbeResult) -> None:
        results.append(result)
        decided.set()

    def answer_and_wait(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nMore: to co")
        assert decided.wait(20)

    with tcp_server(lab.server, answer_and_wait), inside(lab.box):
        asyncio.run(probe.check(replace(THROUGH_DSR, timeout_s=20.0), report))
    assert results == [ANSWERED]


def test_a_page_of_300_kb_ends_without_a_reset(lab: NamespaceLab) -> None:
    with tcp_server(lab.server, reads_then(PAGE)) as raised:
        assert check(lab, THROUGH_DSR) == ANSWERED
    assert raised == []
    assert snmp(lab.box, "TcpOutRsts") == 0


def test_a_body_that_comes_after_its_status_ends_without_a_reset(lab: NamespaceLab) -> None:
    left_or_reading = threading.Event()

    def answer_in_two_parts(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        assert left_or_reading.wait(20)
        connection.sendall(b"ok")
        delivered(connection)

    with tcp_server(lab.server, answer_in_two_parts) as raised, inside(lab.box):
        assert asyncio.run(watched(THROUGH_DSR, left_or_reading)) == ANSWERED
    assert raised == []
    assert snmp(lab.box, "TcpOutRsts") == 0


def test_a_server_that_ignores_connection_close_gets_a_fin(lab: NamespaceLab) -> None:
    def keep_alive(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert connection.recv(4096) == b""

    with tcp_server(lab.server, keep_alive) as raised:
        assert check(lab, THROUGH_DSR) == ANSWERED
    assert raised == []


def test_a_server_that_never_stops_sending_is_left_after_a_megabyte(lab: NamespaceLab) -> None:
    sent: list[int] = []

    def send_for_ever(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(connection.send(b"y" * 65536))

    with tcp_server(lab.server, send_for_ever) as raised:
        assert check(lab, THROUGH_DSR) == ANSWERED
        assert eventually(lambda: bool(raised))
    assert sum(sent) >= probe.READ_ON_BYTES


@pytest.mark.parametrize("early", [True, False], ids=["before the check closes", "after that"])
def test_an_l4_check_of_a_server_that_speaks_first_ends_without_a_reset(
    lab: NamespaceLab, early: bool
) -> None:
    left_or_reading = threading.Event()

    def greet(connection: socket.socket) -> None:
        if not early:
            assert connection.recv(4096) == b""
            assert left_or_reading.wait(20)
        connection.sendall(b"220 mail.example.com ESMTP\r\n" * 100)
        if early:
            assert connection.recv(4096) == b""
        connection.sendall(b"221 bye\r\n")
        delivered(connection)

    with tcp_server(lab.server, greet) as raised, inside(lab.box):
        result = asyncio.run(watched(replace(THROUGH_DSR, kind="l4"), left_or_reading))
        assert result == ProbeResult(Outcome.SUCCESS, "connected")
    assert raised == []
    assert snmp(lab.box, "TcpOutRsts") == 0


def test_a_server_that_accepts_and_says_nothing_times_out_and_gets_a_reset(lab: NamespaceLab) -> None:
    def wait_for_the_end(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with tcp_server(lab.server, wait_for_the_end) as raised:
        result = check(lab, replace(THROUGH_DSR, timeout_s=0.3))
        assert result == ProbeResult(Outcome.MISS, "timeout")
        assert eventually(lambda: bool(raised))
    assert isinstance(raised[0], ConnectionResetError)


def test_a_reset_is_a_miss(lab: NamespaceLab) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with tcp_server(lab.server, reset):
        assert check(lab, THROUGH_DSR) == ProbeResult(Outcome.MISS, "reset")


def test_an_l4_check_connects_and_closes_with_a_fin(lab: NamespaceLab) -> None:
    ends: list[bytes] = []
    request = replace(THROUGH_DSR, kind="l4")
    with (
        tcp_server(lab.server, lambda connection: ends.append(connection.recv(4096))) as raised,
        capture(lab.server, "box") as wire,
    ):
        assert check(lab, request) == ProbeResult(Outcome.SUCCESS, "connected")
        wire.wait_for(from_the_box_with("F"))
        assert eventually(lambda: ends == [b""])
    assert raised == []
    assert not any(map(from_the_box_with("R"), wire.packets))


def test_no_route_is_unreachable(lab: NamespaceLab) -> None:
    execute(lab.box, "ip route del default")
    assert check(lab, THROUGH_DSR) == ProbeResult(Outcome.MISS, "unreachable")


def test_a_check_for_which_there_is_no_local_port_is_not_made_and_is_no_miss(lab: NamespaceLab) -> None:
    execute(lab.box, "sysctl -qw 'net.ipv4.ip_local_port_range=40000 40000'")
    with (
        web_server(lab.server),
        inside(lab.box),
        socket.create_connection((str(REAL), 80)),
        pytest.raises(probe.NotMade, match=r"^EADDRNOTAVAIL$"),
    ):
        asyncio.run(checked(DIRECT))


def test_a_cancelled_check_ends_at_once_and_leaves_no_connection(lab: NamespaceLab) -> None:
    async def cancel_when_connected() -> None:
        task = asyncio.create_task(checked(replace(THROUGH_DSR, timeout_s=60.0)))
        await asyncio.get_running_loop().run_in_executor(None, connected.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    connected = threading.Event()

    def connect_and_wait(connection: socket.socket) -> None:
        connected.set()
        while connection.recv(4096):
            pass

    with tcp_server(lab.server, connect_and_wait), inside(lab.box):
        asyncio.run(cancel_when_connected())
    assert execute(lab.box, "ss -Htan") == ""


def test_checks_at_the_same_time_each_go_by_their_own_mark(lab: NamespaceLab) -> None:
    async def both() -> list[ProbeResult]:
        nowhere = replace(THROUGH_DSR, mark=MARK_BASE | 99, timeout_s=0.3)
        return list(await asyncio.gather(checked(THROUGH_DSR), checked(nowhere)))

    with web_server(lab.server), inside(lab.box):
        found, lost = asyncio.run(both())
    assert found == ANSWERED
    assert lost == ProbeResult(Outcome.MISS, "timeout")


def from_the_box_with(flag: str) -> Callable[[Packet], bool]:
    return lambda packet: TCP in packet and packet[TCP].dport == 80 and flag in packet[TCP].flags
