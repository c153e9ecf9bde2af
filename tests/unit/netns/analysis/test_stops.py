"""Each stop of each server, by what it lacked, what was said of it and what its interface saw."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from netns.analysis.stops import Stop, stops
from netns.record.pcapng import Trace, merge
from netns.record.recording import Fact, Step
from netns.record.segments import Captures
from tests.unit.netns.analysis.story import ADDRESS, CLIENT, DSCP, PLACES, VIP, Story


def seen(story: Story, captures: Mapping[str, Path], *servers: str) -> tuple[Stop, ...]:
    return stops(
        story.recording(), dict.fromkeys(servers, "nginx"), Captures(captures, lambda unix_s: unix_s), PLACES
    )


def capture(path: Path, *packets: tuple[float, Packet]) -> Path:
    """What rs1's interface saw, with its times in the run."""
    data = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for time, packet in packets:
        frame = bytes(Ether() / packet)
        data += struct.pack("=IIII", int(time), round(time % 1 * 1e9), len(frame), len(frame)) + frame
    pcap = path / "rs1.pcap"
    pcap.write_bytes(data)
    merge([Trace("rs1", pcap)], path / "rs1.pcapng")
    return path / "rs1.pcapng"


def to_server(port: int, flags: str) -> Packet:
    return IP(src=CLIENT, dst=ADDRESS["rs1"], tos=DSCP << 2) / TCP(
        sport=port, dport=80, flags=flags, seq=port
    )


def to_client(port: int, flags: str) -> Packet:
    return IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=port, flags=flags)


def test_each_stop_of_a_server_is_told_with_its_own_connections(tmp_path: Path) -> None:
    story = Story()
    for began in (20.0, 60.0):
        story.told_to_stop("rs1", began, "graceful: QUIT")
        story.loses("rs1", Fact.LISTENING, began + 1, began + 5)
        story.steps.append(Step(began + 2, "web server has ended", "rs1"))
    packets = []
    for port, opened, closed in ((40001, 1.0, 20.5), (40002, 2.0, 20.5), (40003, 30.0, 60.5)):
        packets += [(opened, to_server(port, "S")), (opened + 0.1, to_client(port, "SA"))]
        packets.append((closed, to_client(port, "FA")))
    path = capture(tmp_path, *sorted(packets, key=lambda pair: pair[0]))
    first, second = seen(story, {"rs1": path}, "rs1", "rs2")
    assert (first.told, second.told) == (20.0, 60.0)
    assert (first.pattern.idle.fin, second.pattern.idle.fin) == (2, 1)
    assert (first.pattern.ended_s, second.pattern.ended_s) == (2.0, 2.0)
    assert first.how == second.how == "web server told to stop (graceful: QUIT)"


def test_what_was_said_of_one_stop_is_not_said_of_the_next(tmp_path: Path) -> None:
    story = Story()
    story.told_to_stop("rs1", 20.0, "graceful: QUIT")
    story.loses("rs1", Fact.LISTENING, 21.0, 25.0)
    story.loses("rs1", Fact.LISTENING, 61.0, 65.0)
    _, second = seen(story, {"rs1": capture(tmp_path)}, "rs1")
    assert (second.told, second.how) == (61.0, "")


def test_stop_that_nobody_told_begins_with_the_first_sign_of_it_after_the_one_before(tmp_path: Path) -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 55.0, 70.0)
    story.loses("rs1", Fact.LISTENING, 61.0, 65.0)
    packets = [(1.0, to_server(40001, "S")), (1.1, to_client(40001, "SA")), (60.2, to_client(40001, "FA"))]
    (one,) = seen(story, {"rs1": capture(tmp_path, *packets)}, "rs1")
    assert one.told == 60.2


def test_health_file_that_never_was_is_no_sign_of_a_stop(tmp_path: Path) -> None:
    """Connections that were closed long before the stop were closed for other reasons."""
    story = Story()
    story.changes = [one for one in story.changes if one.fact is not Fact.HEALTH_FILE]
    story.loses("rs1", Fact.HEALTH_FILE, 0.0)
    story.loses("rs1", Fact.LISTENING, 61.0, 65.0)
    packets = [(1.0, to_server(40001, "S")), (1.1, to_client(40001, "SA")), (30.0, to_client(40001, "FA"))]
    (one,) = seen(story, {"rs1": capture(tmp_path, *packets)}, "rs1")
    assert one.told == 61.0


def test_stop_is_told_where_its_capture_is_empty_or_missing(tmp_path: Path) -> None:
    story = Story()
    for server in ("rs1", "rs2", "rs3"):
        story.loses(server, Fact.LISTENING, 20.0)
    (tmp_path / "empty.pcapng").touch()
    paths = {"rs1": tmp_path / "empty.pcapng", "rs2": tmp_path / "none.pcapng"}
    found = seen(story, paths, "rs1", "rs2", "rs3")
    assert [(one.server, one.told, one.pattern.idle.total) for one in found] == [
        ("rs1", 20.0, 0),
        ("rs2", 20.0, 0),
        ("rs3", 20.0, 0),
    ]


def test_server_that_never_listened_has_not_stopped(tmp_path: Path) -> None:
    story = Story()
    story.changes = []
    story.loses("rs1", Fact.LISTENING, 0.0)
    assert seen(story, {}, "rs1") == ()
