"""Merged captures, read back by scapy."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from scapy.utils import RawPcapNgReader

from netns.record.pcapng import Trace, merge, split

ETHERNET = 1


def pcap(path: Path, *packets: tuple[int, bytes], cut: int = 0) -> Path:
    """A capture of (time in ns, data), as tcpdump writes it; `cut` bytes short."""
    text = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, ETHERNET)
    for time_ns, data in packets:
        seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
        text += struct.pack("=IIII", seconds, nanoseconds, len(data), len(data) + 100) + data
    path.write_bytes(text[: len(text) - cut])
    return path


def read(path: Path) -> list[tuple[str, int, bytes, int]]:
    """(interface name, time in ns, data, length on the wire) of each packet."""
    with RawPcapNgReader(str(path)) as reader:
        return [
            (meta.ifname.decode(), ((meta.tshigh << 32) + meta.tslow), data, meta.wirelen)
            for data, meta in reader
        ]


def test_packets_come_in_the_order_of_their_time_each_with_its_interface(tmp_path: Path) -> None:
    start = 1_800_000_000_000_000_000
    one = pcap(tmp_path / "one", (start + 1, b"aaa"), (start + 5_000_000_001, b"cccccc"))
    two = pcap(tmp_path / "two", (start + 2, b"bb"))
    merge([Trace("client", one), Trace("router:rs1", two)], tmp_path / "merged")
    assert read(tmp_path / "merged") == [
        ("client", start + 1, b"aaa", 103),
        ("router:rs1", start + 2, b"bb", 102),
        ("client", start + 5_000_000_001, b"cccccc", 106),
    ]


def test_capture_cut_in_the_middle_of_a_packet_keeps_the_packets_before(tmp_path: Path) -> None:
    cut = pcap(tmp_path / "cut", (1, b"whole"), (2, b"broken"), cut=3)
    merge([Trace("box", cut)], tmp_path / "merged")
    assert [data for _, _, data, _ in read(tmp_path / "merged")] == [b"whole"]


def test_file_that_is_no_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("tcpdump: no permission")
    with pytest.raises(ValueError, match="is not a capture"):
        merge([Trace("box", tmp_path / "text")], tmp_path / "merged")


def test_frames_of_a_merged_capture_are_split_among_their_owners_as_they_were(tmp_path: Path) -> None:
    one = pcap(tmp_path / "one", (1, b"rs1 a"), (3, b"nobody"), (5, b"rs2 bc"))
    two = pcap(tmp_path / "two", (2, b"rs1 def"))
    merge([Trace("router:eth1", one), Trace("router:eth2", two)], tmp_path / "merged")
    asked = []

    def owner(frame: bytes) -> str | None:
        asked.append(frame)
        return frame[:3].decode() if frame.startswith(b"rs") else None

    targets = {name: tmp_path / f"{name}.pcapng" for name in ("rs1", "rs2", "rs3")}
    assert split(tmp_path / "merged", owner, targets) == {"rs1": 2, "rs2": 1, "rs3": 0}
    assert asked == [b"rs1 a", b"rs1 def", b"nobody", b"rs2 bc"]
    assert read(targets["rs1"]) == [("rs1", 1, b"rs1 a", 105), ("rs1", 2, b"rs1 def", 107)]
    assert read(targets["rs2"]) == [("rs2", 5, b"rs2 bc", 106)]
    assert read(targets["rs3"]) == []
