"""The daemon on a real kernel: mistakes in its configuration, its death, its reload, garbage."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from netns.linux.programs import SYSTEM_PATH
from netns.namespaces.lab import NamespaceLab
from tests.integration.conftest import NAME, VIP, MakeLab, events, eventually, row, wait_for_state
from tests.integration.keepalive import KeepAlive

pytestmark = pytest.mark.integration

CURL = ["curl", "--silent", "--show-error", "--max-time", "1"]
VIRTUAL_SERVER: dict[str, Any] = {"name": '"web"', "address": f'"{VIP}"', "port": 80, "dscp": 10}


def netfilter(lab: NamespaceLab) -> list[str]:
    """All lines of the rules of the box's namespace, sorted, without their counters."""
    listed = [
        lab.run("box", command, check=True).stdout
        for command in (["nft", "--stateless", "list", "ruleset"], ["iptables-save", "-t", "mangle"])
    ]
    return sorted(line for text in listed for line in text.splitlines() if line[:1] not in ("#", ":"))


def files() -> list[str]:
    """What the box of the lab, or the one of `write`, has in the run directory."""
    return sorted(path.name for path in Path("/run/l4box").iterdir() if path.stem in (NAME, "other"))


def run_box(lab: NamespaceLab, config: Path) -> subprocess.CompletedProcess[str]:
    return lab.run("box", [sys.executable, "-m", "lb.cli", "run", "-c", str(config)], timeout=20)


def write(path: Path, **changes: Any) -> Path:
    """A box.toml with some of its virtual server's keys changed; `more` is appended."""
    more = changes.pop("more", "")
    keys = {**VIRTUAL_SERVER, **changes}
    lines = [f"{key} = {value}" for key, value in keys.items()]
    server = '[[virtual_server.real_server]]\nname = "rs1"\naddress = "10.80.1.2"\n'
    path.write_text("\n".join(['name = "other"', "[[virtual_server]]", *lines, server, more]))
    return path


SECOND = """
[[virtual_server]]
name = "other"
address = "192.0.2.11"
port = 80
dscp = 10
[[virtual_server.real_server]]
name = "rs2"
address = "10.80.2.2"
"""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aging_s": 60}, ["virtual_server[0].aging_s", "60", "120 to 3600"]),
        ({"dscp": 64}, ["virtual_server[0].dscp", "64", "1 to 63"]),
        ({"agingg_s": 600}, ["virtual_server[0].agingg_s", "unknown key"]),
        ({"scheduler": '"fastest"'}, ["virtual_server[0].scheduler", "'fastest'", "'round-robin'"]),
        ({"more": SECOND}, ["dscp 10", "'web'", "'other'", "1 to 63"]),
    ],
)
def test_mistake_in_the_configuration_is_named_and_nothing_is_changed(
    make_lab: MakeLab, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    lab = make_lab()
    lab.stop_box()
    before = netfilter(lab), files()
    config = write(tmp_path / "box.toml", **changes)
    for command in ("run", "check"):
        done = lab.run("box", [sys.executable, "-m", "lb.cli", command, "-c", str(config)], timeout=20)
        assert done.returncode == 3
        for word in [str(config), *words]:
            assert word in done.stderr
        assert "Traceback" not in done.stderr
    assert (netfilter(lab), files()) == before


def test_sigterm_leaves_nothing_behind(make_lab: MakeLab) -> None:
    lab = make_lab()
    assert any("l4box" in line for line in netfilter(lab))
    lab.stop_box(signal.SIGTERM)
    assert not any("l4box" in line for line in netfilter(lab))
    assert not list(Path("/run/l4box").glob(f"{lab.name}.*"))


def test_killed_daemon_is_a_dead_box_and_the_next_one_takes_over_its_leftovers(make_lab: MakeLab) -> None:
    lab = make_lab()
    rules = netfilter(lab)
    lab.stop_box(signal.SIGKILL)
    assert lab.run("client", [*CURL, f"http://{VIP}/"]).returncode == 28, "a time-out: there is no bypass"
    assert netfilter(lab) == rules
    lab.start_box()
    lab.wait_until_bound()
    assert lab.run("client", [*CURL, f"http://{VIP}/"]).returncode == 0
    assert netfilter(lab) == rules


def descriptor_limits(lab: NamespaceLab) -> tuple[int, int]:
    """The daemon's soft and hard limit."""
    return resource.prlimit(lab.running("box")[0], resource.RLIMIT_NOFILE)


def test_daemon_takes_all_the_descriptors_that_it_may_have(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.stop_box()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        lab.start_box()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptor_limits(lab) == (hard, hard)


def test_daemon_without_a_local_port_for_its_checks_calls_no_server_failed(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.wait_until_bound()
    ports = "net.ipv4.ip_local_port_range"
    usual = lab.run("box", ["sysctl", "-n", ports], check=True).stdout.strip()

    def not_made() -> int:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(lab.box.path))) as api:
            text = api.get("http://box/metrics").text
        found = re.search(r'health_checks_not_made_total{error="EADDRNOTAVAIL"} (\d+)', text)
        return int(found[1]) if found is not None else 0

    assert not_made() == 0
    with lab.inside("box", socket.socket) as holder:
        holder.bind(("", 40000))
        before = lab.box.stats()["last_event"]
        lab.run("box", ["sysctl", "-qw", f"{ports}=40000 40000"], check=True)
        # A server is FAILED after two misses.
        eventually(lambda: not_made() >= 3 * len(lab.plan.servers), "three rounds of checks")
        lab.run("box", ["sysctl", "-qw", f"{ports}={usual}"], check=True)
        eventually(lambda: "checks are made again" in lab.box_log.read_text(), "the log says so")
    assert lab.box_log.read_text().count("health checks are not made") == 1
    assert [event for event in events(lab, "server_state") if event["id"] > before] == []
    assert [event for event in events(lab, "probe", outcome="miss") if event["id"] > before] == []


NEVER_CLOSES = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])))
held = []
while True:
    held.append(listener.accept()[0])
    held[-1].recv(4096)
    held[-1].sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
"""


def test_checks_of_a_server_that_never_closes_hold_one_connection(make_lab: MakeLab, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(NEVER_CLOSES)
    command = f"{sys.executable} {tmp_path}/app.py {{port}}"
    lab = make_lab(lab={"server": [{"name": "rs1", "command": command}]})
    held = set()

    def eight_checks() -> bool:
        connections = lab.run("box", ["ss", "-Htn", "state", "established"], check=True).stdout
        held.add(len(connections.splitlines()))
        return len(events(lab, "probe", server="rs1", outcome="success")) >= 8

    # Four checks are made while the first may read on.
    eventually(eight_checks, "eight checks")
    assert max(held) <= 2  # one reads on, one is being made


def test_second_daemon_of_the_same_name_is_refused_and_the_first_one_serves_on(make_lab: MakeLab) -> None:
    lab = make_lab()
    done = run_box(lab, lab.directory / "box.toml")
    assert done.returncode == 1
    assert "already running" in done.stderr
    assert lab.run("client", [*CURL, f"http://{VIP}/"]).returncode == 0


def test_queue_that_another_box_has_is_refused_and_nothing_is_left_of_the_attempt(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab()
    before = netfilter(lab)
    done = run_box(lab, write(tmp_path / "box.toml", address='"192.0.2.99"', dscp=11))
    assert done.returncode == 1
    assert "queue 0" in done.stderr
    assert netfilter(lab) == before


def test_reload_takes_a_server_away_and_brings_one_and_sessions_survive(make_lab: MakeLab) -> None:
    lab = make_lab()
    config = lab.directory / "box.toml"
    text = config.read_text()
    with KeepAlive(lab, VIP) as client:
        server = client.get()
        other = next(name for name in ("rs1", "rs2", "rs3") if name != server)
        _reload(lab, text.replace(f'name = "{other}"', 'name = "renamed"'))
        eventually(lambda: {one["name"] for one in lab.box.servers()} >= {"renamed"}, "the new server")
        wait_for_state(lab, "renamed", "ACTIVE")
        assert row(lab, server)["sessions"] == 1
        assert client.get() == server
        _reload(lab, text + "\nnonsense = 1")
        eventually(lambda: "nonsense" in lab.box_log.read_text(), "the mistake in the log")
        assert client.get() == server
        assert {one["name"] for one in lab.box.servers()} >= {"renamed"}


def test_packets_flow_while_nft_takes_its_time_over_a_reload(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nft waits at the gate, by a wrapper that the daemon finds first; box and clients do not wait for it."""
    lab = make_lab()
    lab.stop_box()
    gate, waiting = tmp_path / "gate", tmp_path / "waiting"
    wrapper = tmp_path / "nft"
    wrapper.write_text(
        NFT_AT_A_GATE.format(gate=gate, waiting=waiting, nft=shutil.which("nft", path=SYSTEM_PATH))
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lab.start_box()
    lab.wait_until_bound()
    config = lab.directory / "box.toml"
    with KeepAlive(lab, VIP) as client:
        server = client.get()
        other = next(name for name in ("rs1", "rs2", "rs3") if name != server)
        gate.touch()
        _reload(lab, config.read_text().replace(f'name = "{other}"', 'name = "renamed"'))
        eventually(waiting.exists, "nft runs")
        assert [client.get() for _ in range(5)] == [server] * 5
        for _ in range(3):
            assert lab.run("client", [*CURL, f"http://{VIP}/"]).returncode == 0
        assert waiting.exists()  # all of that while it ran
        gate.unlink()
        wait_for_state(lab, "renamed", "ACTIVE")
        assert client.get() == server


def test_configuration_sent_to_the_api_takes_servers_away_and_brings_them_and_sessions_survive(
    make_lab: MakeLab,
) -> None:
    lab = make_lab()
    whole = lab.box.configuration()

    def only(*names: str) -> dict[str, Any]:
        (service,) = whole["virtual_server"]
        servers = [one for one in service["real_server"] if one["name"] in names]
        return {**whole, "virtual_server": [{**service, "real_server": servers}]}

    with KeepAlive(lab, VIP) as client:
        server = client.get()
        lab.box.configure(only(server))
        assert [(one["name"], one["sessions"]) for one in lab.box.servers()] == [(server, 1)]
        assert client.get() == server
        lab.box.configure(only())
        assert lab.box.servers() == []
        assert lab.run("client", [*CURL, f"http://{VIP}/"]).returncode == 7  # a reset: no server is bound
        lab.box.configure(whole)
    for name in ("rs1", "rs2", "rs3"):
        wait_for_state(lab, name, "ACTIVE")
    assert lab.run("client", [*CURL, f"http://{VIP}/"]).returncode == 0


def test_garbage_to_the_vip_is_dropped_counted_and_harmless(make_lab: MakeLab) -> None:
    lab = make_lab()
    with KeepAlive(lab, VIP) as client:
        server = client.get()
        sent = 400
        lab.run("client", [sys.executable, "-c", GARBAGE, VIP, str(sent)], check=True)
        stats = eventually(
            lambda: (
                (stats := lab.box.stats())["queue"]["waiting"] == 0
                and sum(stats["dropped"].values()) > sent / 4
                and stats
            ),
            "the garbage counted",
        )
        assert stats["dropped"].get("internal_error", 0) == 0, json.dumps(stats["dropped"])
        assert client.get() == server


def test_packets_past_the_vip_are_not_queued(make_lab: MakeLab) -> None:
    """What is not for a VIP is forwarded by the kernel and never seen by the box."""
    lab = make_lab()
    before = lab.box.stats()["queue"]["received"]
    lab.run("client", ["ping", "-c", "3", "-i", "0.05", str(lab.node("rs1").address)])
    assert lab.box.stats()["queue"]["received"] == before


def _reload(lab: NamespaceLab, text: str) -> None:
    (lab.directory / "box.toml").write_text(text)
    [pid] = lab.running("box")[:1]
    os.kill(pid, signal.SIGHUP)


NFT_AT_A_GATE = """#!/bin/sh
if [ -e {gate} ] && [ "$1" = -f ]; then
  touch {waiting}
  for _ in $(seq 500); do [ -e {gate} ] || break; sleep 0.02; done
  rm {waiting}
fi
exec {nft} "$@"
"""

GARBAGE = """
import random, socket, struct, sys
vip, count = sys.argv[1], int(sys.argv[2])
rng = random.Random(7)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect((vip, 80))
me = probe.getsockname()[0]
for number in range(count):
    protocol = rng.choice([1, 6, 6, 6, 17])
    body = rng.randbytes(rng.choice([4, 8, 19, 20, 21, 40, 200]))
    if protocol == 6:
        body = struct.pack("!HH", rng.randrange(1024, 65536), 80) + body[4:]
    fields = 0x45, rng.randrange(256), 20 + len(body), number, 0, 64, protocol, 0
    addresses = socket.inet_aton(me) + socket.inet_aton(vip)
    raw.sendto(struct.pack("!BBHHHBBH", *fields) + addresses + body, (vip, 0))
"""
