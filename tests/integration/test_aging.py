"""Idle aging of sessions (SPEC §3): what keeps one, and what the client of one that is gone meets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP

from netns.namespaces.lab import NamespaceLab
from tests.integration.conftest import VIP, MakeLab, events, eventually, nstat, packets
from tests.integration.keepalive import KeepAlive

pytestmark = pytest.mark.integration

at_speed_100 = pytest.mark.alone
"""10 ms in which this machine does something else are a second of the box's; these tests count seconds."""

ANSWERS_AFTER_THE_CLIENTS_FIN = """
import socketserver, sys, time

class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(4096):
            pass
        for part in (b"one ", b"two ", b"three"):
            time.sleep(1.5)
            self.request.sendall(part)

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", int(sys.argv[1])), Answer).serve_forever()
"""

HALF_CLOSES = f"""
import socket
with socket.create_connection(("{VIP}", 80), timeout=20) as connection:
    connection.sendall(b"request")
    connection.shutdown(socket.SHUT_WR)
    while data := connection.recv(4096):
        print(data.decode(), end="")
"""


def sessions(lab: NamespaceLab, port: int) -> list[dict[str, Any]]:
    return list(lab.box.sessions(client=f"{lab.node('client').address}:{port}"))


@at_speed_100
def test_session_is_there_at_599_s_gone_at_601_and_its_next_packet_gets_an_accepted_reset(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(speed=100, health_check={"timeout_s": 10})
    before = nstat(lab, "client", "TcpEstabResets")
    with KeepAlive(lab, VIP) as client:
        assert client.get().startswith("rs")
        [session] = sessions(lab, client.port)
        last_seen = session["idle_s"]
        assert isinstance(last_seen, float)
        removed = eventually(lambda: events(lab, "session_removed"), "removal", 20)[-1]
        [opened] = events(lab, "session_opened")
        # The last packet is the client's ACK of the answer; the removal's age less the idle time is when.
        assert removed["reason"] == "aged_out"
        assert 600 <= removed["age_s"] < 605
        assert removed["box_time"] - opened["box_time"] == pytest.approx(removed["age_s"], abs=0.01)
        with lab.capture(["client"], tmp_path / "late.pcapng", expression="tcp") as capture:
            assert client.get() == "ConnectionResetError"
        assert nstat(lab, "client", "TcpEstabResets") == before + 1
    resets = [packet for _, packet in packets(capture.path) if "R" in packet[TCP].flags and packet.src == VIP]
    [asked] = [packet for _, packet in packets(capture.path) if packet.dst == VIP and packet[TCP].payload]
    assert [reset[TCP].seq for reset in resets] == [asked[TCP].ack]


@at_speed_100
def test_idle_time_runs_to_599_s_and_no_further(make_lab: MakeLab) -> None:
    lab = make_lab(speed=100, health_check={"timeout_s": 10})
    with KeepAlive(lab, VIP) as client:
        client.get()
        oldest = 0.0
        while rows := sessions(lab, client.port):
            idle = rows[0]["idle_s"]
            assert isinstance(idle, float)
            oldest = max(oldest, idle)
            assert idle < 601
        assert oldest > 590, "seen shortly before the end"


@at_speed_100
def test_traffic_refreshes_a_session(make_lab: MakeLab) -> None:
    lab = make_lab(speed=100, aging_s=120, health_check={"timeout_s": 10})
    with KeepAlive(lab, VIP) as client:
        server = client.get()
        opened = events(lab, "session_opened")[0]["box_time"]
        while float(lab.box.stats()["uptime_s"]) < opened + 400:
            assert client.get() == server
            eventually(
                lambda: all(row["idle_s"] > 40 for row in sessions(lab, client.port)), "some idle time"
            )
        assert events(lab, "session_removed") == []


def test_tcp_keepalive_probes_refresh_a_session(make_lab: MakeLab) -> None:
    lab = make_lab(speed=60, aging_s=120, health_check={"timeout_s": 5})
    with KeepAlive(lab, VIP, probe=True) as probing, KeepAlive(lab, VIP) as silent:
        probing.get()
        silent.get()
        removed = eventually(lambda: events(lab, "session_removed"), "the silent one's removal")
        assert [event["client"].rsplit(":")[-1] for event in removed] == [str(silent.port)]
        passed = removed[0]["box_time"]
        eventually(lambda: float(lab.box.stats()["uptime_s"]) > passed + 240, "two more idle timeouts")
        assert len(sessions(lab, probing.port)) == 1
        assert probing.get().startswith("rs")


def test_half_closed_client_gets_an_answer_that_takes_its_time_at_any_speed(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    """A box that forgets the client resets it at the first ACK of the answer."""
    program = tmp_path / "server.py"
    program.write_text(ANSWERS_AFTER_THE_CLIENTS_FIN)
    lab = make_lab(
        speed=100,
        lab={"server": [{"name": "rs1", "command": f"{sys.executable} {program} {{port}}"}]},
        health_check={"kind": "l4"},
    )
    done = lab.run("client", [sys.executable, "-c", HALF_CLOSES], check=False)
    assert (done.stdout, done.stderr) == ("one two three", "")


@pytest.mark.parametrize(("speed", "kept_s"), [(2, 8), (20, 80)])
def test_closed_connection_leaves_the_table_8_s_after_the_clients_fin_and_4_s_of_real_time(
    make_lab: MakeLab, speed: float, kept_s: float
) -> None:
    lab = make_lab(speed=speed)
    with KeepAlive(lab, VIP) as client:
        client.get()
        client.ask("close")
        removed = eventually(lambda: events(lab, "session_removed"), "removal")[0]
    assert removed["reason"] == "client_closed"
    assert kept_s <= removed["age_s"] < kept_s + 5 * speed, "5 real seconds are for a busy machine"
