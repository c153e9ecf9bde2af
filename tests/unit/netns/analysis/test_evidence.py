"""What the captures say of requests that no client has logged."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from netns.analysis.evidence import UnderWay, actors, under_way
from netns.plan.config import LabConfig
from netns.plan.topology import plan
from netns.play.clock import RunClock
from netns.record.pcapng import Trace, merge
from netns.record.recording import Outcome, Request
from netns.record.segments import Captures

CONFIG = LabConfig()
PLAN = plan(CONFIG)
WHERE = actors(PLAN, CONFIG)
CLIENT = str(PLAN.node("client").address)
VIP = "192.0.2.10"
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
"""With addresses: scapy asks the network for those that are missing."""
START_S = 1_800_000_000
CLOCK = RunClock(speed=10.0, monotonic_s=0.0, unix_s=float(START_S), box_s=0.0)
"""A real second of the capture is ten of the run's."""


def asks(name: str, *, port: int = 40001, path: str = "/large") -> Packet:
    line = f"GET {path}?{name} HTTP/1.1\r\n".encode()
    return LINK / IP(src=CLIENT, dst=VIP) / TCP(sport=port, dport=80, flags="PA") / Raw(line)


def opens(*, port: int = 40001) -> Packet:
    return LINK / IP(src=CLIENT, dst=VIP) / TCP(sport=port, dport=80, flags="S")


def server(flags: str, *, port: int = 40001) -> Packet:
    return LINK / IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=port, flags=flags)


def under(
    tmp_path: Path,
    seen: Sequence[tuple[float, Packet]],
    requests: Sequence[Request] = (),
    closed: frozenset[str] = frozenset(),
) -> UnderWay:
    """A run of 10 real seconds in which the client saw these packets, at real seconds."""
    data = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for at, packet in seen:
        frame = bytes(packet)
        data += struct.pack("=IIII", START_S + int(at), int(at % 1 * 1e9), len(frame), len(frame)) + frame
    pcap = tmp_path / "client.pcap"
    pcap.write_bytes(data)
    merge([Trace("client", pcap)], tmp_path / "client.pcapng")
    return under_way(
        requests,
        WHERE,
        Captures({"client": tmp_path / "client.pcapng"}, CLOCK.unix),
        groups={"curl", "curl-new", "curl-download", "curl@api"},
        speed=CLOCK.speed,
        ended=100.0,
        closed=closed,
    )


def logged(name: str) -> Request:
    return Request("curl-1", 10.0, 11.0, Outcome.OK, 200, "rs1", True, 40001, id=name)


def test_request_that_its_client_has_logged_is_not_under_way(tmp_path: Path) -> None:
    assert under(tmp_path, [(1, asks("curl-1.1"))], [logged("curl-1.1")]) == UnderWay((), 0)


def test_request_that_has_not_ended_is_unfinished(tmp_path: Path) -> None:
    assert under(tmp_path, [(1, asks("curl-download-1.1"))]) == UnderWay((), 1)


@pytest.mark.parametrize(("flags", "outcome"), [("FA", Outcome.CLOSED), ("RA", Outcome.RESET)])
def test_request_whose_connection_the_server_ended_is_lost_though_its_client_has_not_read_so_far(
    tmp_path: Path, flags: str, outcome: Outcome
) -> None:
    seen = [(0.9, opens()), (1, asks("curl-download-1.1")), (5, server(flags))]
    found = under(tmp_path, seen)
    assert found.unfinished == 0
    (lost,) = found.lost
    assert (lost.client, lost.id, lost.outcome) == ("curl-download-1", "curl-download-1.1", outcome)
    assert (lost.started, lost.ended, lost.local_port) == (10.0, 50.0, 40001)


def test_request_whose_server_has_closed_behind_data_that_waits_is_lost(tmp_path: Path) -> None:
    found = under(tmp_path, [(1, asks("curl-download-1.1"))], closed=frozenset({f"{CLIENT}:40001"}))
    assert [(one.outcome, one.ended) for one in found.lost] == [(Outcome.CLOSED, 100.0)]


def test_request_that_ended_as_the_run_did_may_have_ended_well(tmp_path: Path) -> None:
    found = under(tmp_path, [(9.8, asks("curl-new-1.9")), (9.9, server("FA"))])
    assert found == UnderWay((), 1)


def test_close_of_an_earlier_connection_from_the_port_is_not_that_of_the_request(tmp_path: Path) -> None:
    seen = [(1, server("FA")), (2, opens()), (3, asks("curl-download-1.2"))]
    assert under(tmp_path, seen) == UnderWay((), 1)


def test_what_comes_after_the_end_of_the_run_is_not_of_it(tmp_path: Path) -> None:
    assert under(tmp_path, [(1, asks("curl-1.1")), (10.1, server("FA"))]) == UnderWay((), 1)
    assert under(tmp_path, [(10.1, asks("curl-1.1"))]) == UnderWay((), 0)


def test_what_somebody_else_asks_is_none_of_the_runs_requests(tmp_path: Path) -> None:
    others = [asks("x=1.5"), asks("page-2.1", path="/"), asks("", path="/")]
    assert under(tmp_path, [(1, other) for other in others]) == UnderWay((), 0)
    assert under(tmp_path, [(1, asks("curl@api-3.17"))]) == UnderWay((), 1)
