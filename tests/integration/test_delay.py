"""The delay of the clients' links, judged by round trips and captures relative to what was asked for."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import threading
import time
from pathlib import Path

import pytest
from scapy.layers.inet import TCP

from netns import labs
from netns.lab import state
from netns.linux import process
from netns.namespaces import delay
from netns.namespaces.lab import NamespaceLab
from netns.namespaces.status import look
from netns.observe import kernels
from tests.integration.conftest import NAME, VIP, MakeLab, alive_in, eventually, timed_packets

pytestmark = [pytest.mark.integration, pytest.mark.alone]

SIZE = 900_000
HANDSHAKES = 30
DATAGRAMS = 5000


def handshakes_ms(lab: NamespaceLab, address: str) -> list[float]:
    """How long the client's TCP handshakes take."""

    def measure() -> list[float]:
        found = []
        for _ in range(HANDSHAKES):
            began = time.monotonic()
            with socket.create_connection((address, 80), timeout=10):
                found.append((time.monotonic() - began) * 1000)
        return found

    return lab.inside("client", measure)


def curl(lab: NamespaceLab, *words: str) -> str:
    """The status code, the bytes received and the bytes sent."""
    argv = ["curl", "-s", "--max-time", "30", "-o", "/dev/null"]
    return lab.run("client", [*argv, "-w", "%{http_code} %{size_download} %{size_upload}", *words]).stdout


def queue_rules(lab: NamespaceLab) -> list[str]:
    rules = lab.run("router", ["iptables", "-t", "mangle", "-S"], check=True).stdout.splitlines()
    return [rule for rule in rules if "NFQUEUE" in rule]


@pytest.mark.parametrize("asked_ms", [5, 20, 80])
def test_clients_round_trips_take_what_was_asked_for_longer_by_vip_and_to_the_server_itself(
    make_lab: MakeLab, asked_ms: int
) -> None:
    lab = make_lab(lab={"delay_ms": asked_ms})
    for address in (VIP, str(lab.node("rs1").address)):
        found = handshakes_ms(lab, address)
        assert min(found) >= asked_ms
        # The best is free of what else this machine does; the median is not.
        assert min(found) < 1.5 * asked_ms
        assert statistics.median(found) < 3 * asked_ms


@pytest.mark.parametrize("offload", [True, False])
def test_every_packet_is_captured_at_client_and_server_half_the_delay_apart(
    make_lab: MakeLab, tmp_path: Path, offload: bool
) -> None:
    half_s = 0.010
    lab = make_lab(lab={"delay_ms": half_s * 2000, "offload": offload, "server": [{"name": "rs1"}]})
    (tmp_path / "body").write_bytes(bytes(SIZE))
    with lab.capture(["client", "rs1"], tmp_path / "out.pcapng", expression="tcp port 80") as capture:
        assert curl(lab, "--data-binary", f"@{tmp_path}/body", f"http://{VIP}/") == f"200 4 {SIZE}"
        # nginx answers before it has the whole body: the rest, and the FINs, are still on their way then.
        eventually(lambda: not open_connections(lab), "the connection has ended on both sides")
    client = str(lab.node("client").address)
    for sender, receiver, end in (("client", "rs1", "src"), ("rs1", "client", "dst")):
        sent = seen_at(sender, capture.path, **{end: client})
        received = seen_at(receiver, capture.path, **{end: client})
        assert sent.keys() == received.keys()
        assert len(sent) > 5
        waits = [received[key] - sent[key] for key in sent]
        assert min(waits) >= half_s
        assert min(waits) < 1.5 * half_s


def open_connections(lab: NamespaceLab) -> list[kernels.Socket]:
    """Those that the client's or the server's kernel may still send for or wait for."""
    client = str(lab.node("client").address)
    held = [*kernels.sockets(lab, "client"), *kernels.sockets(lab, "rs1")]
    return [one for one in held if one.state != "TIME-WAIT" and client in one.local + one.peer]


def seen_at(point: str, path: Path, **wanted: str) -> dict[tuple[int, ...], float]:
    """When each TCP packet with that address passed the point, in seconds, in the order of time."""
    return {
        (packet.id, packet[TCP].seq, packet[TCP].ack): at
        for at, where, packet in timed_packets(path)
        if where == point and TCP in packet and all(getattr(packet, k) == v for k, v in wanted.items())
    }


def test_no_packet_overtakes_another_and_none_is_lost(make_lab: MakeLab) -> None:
    lab = make_lab(lab={"delay_ms": 20, "server": [{"name": "rs1"}]})
    address = (str(lab.node("rs1").address), 9999)

    def receiver() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(address)
        made.settimeout(10)
        return made

    def send() -> None:
        # From one CPU: what a kernel sends from several may change places before it comes to the router.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(DATAGRAMS):
                sender.sendto(number.to_bytes(4, "big"), address)
                time.sleep(0.0001)  # less than the receiver's buffer holds is under way

    with lab.inside("rs1", receiver) as received:
        sending = threading.Thread(target=lab.inside, args=("client", send))
        sending.start()
        numbers = [int.from_bytes(received.recv(4), "big") for _ in range(DATAGRAMS)]
        sending.join()
    assert numbers == list(range(DATAGRAMS))


@pytest.mark.parametrize("offload", [True, False])
def test_large_pages_pass_a_delayed_link_whole_both_ways(
    make_lab: MakeLab, tmp_path: Path, offload: bool
) -> None:
    lab = make_lab(lab={"delay_ms": 10, "offload": offload, "server": [{"name": "rs1"}]})
    (lab.root("rs1") / "large").write_bytes(bytes(20 * SIZE))
    (tmp_path / "body").write_bytes(bytes(SIZE))
    assert curl(lab, f"http://{VIP}/large") == f"200 {20 * SIZE} 0"
    assert curl(lab, "--data-binary", f"@{tmp_path}/body", f"http://{VIP}/") == f"200 4 {SIZE}"


def test_health_checks_are_not_delayed_because_the_box_stands_beside_its_servers(make_lab: MakeLab) -> None:
    # A check may take 50 ms of real time here, a client's round trip takes 300.
    lab = make_lab(speed=20, health_check={"timeout_s": 1}, lab={"delay_ms": 300})
    assert min(handshakes_ms(lab, VIP)) >= 300
    assert {row["state"] for row in lab.box.servers()} == {"ACTIVE"}


def test_every_clients_link_is_delayed(make_lab: MakeLab) -> None:
    lab = make_lab(lab={"delay_ms": 20, "clients": 2})
    assert len(queue_rules(lab)) == 4
    assert {rule.split()[3] for rule in queue_rules(lab)} == {"client", "client2"}


def test_without_a_delay_there_is_no_queue_and_no_process(make_lab: MakeLab) -> None:
    lab = make_lab(lab={"delay_ms": 0})
    assert queue_rules(lab) == []
    assert lab.running(delay.ROLE) == []
    assert alive_in({os.stat(f"/run/netns/{NAME}-router").st_ino}) == []


def test_status_names_the_delay_and_says_when_it_is_dead_and_down_removes_it(make_lab: MakeLab) -> None:
    lab = make_lab(lab={"delay_ms": 20})
    made = state.read(NAME)
    assert made is not None
    shown = look(made)
    assert (shown.delay_ms, shown.problems) == (20, ())
    assert delay.ROLE in {program.role for program in shown.programs if program.running}
    router = {os.stat(f"/run/netns/{NAME}-router").st_ino}
    assert alive_in(router)
    os.kill(lab.running(delay.ROLE)[0], signal.SIGKILL)
    eventually(lambda: not lab.running(delay.ROLE), "the delay's process is dead")
    (problem,) = look(made).problems
    assert problem.startswith("delay is dead")
    labs.down(NAME)
    assert alive_in(router) == []


def test_delays_process_is_a_running_part_of_the_lab_until_it_dies(make_lab: MakeLab) -> None:
    lab = make_lab(lab={"delay_ms": 20})
    (pid,) = lab.running("delay")
    assert process.network(pid) == os.stat(f"/run/netns/{NAME}-router").st_ino
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: lab.running("delay") == [], "the delay's process is dead")


def test_down_ends_the_delays_process(make_lab: MakeLab) -> None:
    make_lab(lab={"delay_ms": 20})
    router = {os.stat(f"/run/netns/{NAME}-router").st_ino}
    assert alive_in(router)
    labs.down(NAME)
    assert alive_in(router) == []
