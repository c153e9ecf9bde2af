"""The lab on real namespaces: what it makes, what is done to it, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from scapy.layers.inet import IP, TCP

from lb.config import parse
from netns import labs
from netns.cli.main import main
from netns.errors import LabError
from netns.lab import box, state
from netns.linux import namespace
from netns.namespaces.lab import NamespaceLab
from netns.plan.config import LabConfig, load
from netns.web import StopSignal
from tests.integration.conftest import alive_in, eventually, packets

pytestmark = pytest.mark.integration

NAME = "labdev"
VIP = "192.0.2.10"
CURL = ["curl", "--silent", "--show-error", "--max-time", "5"]

KILLED_UP = """
import os, signal, sys
from netns.lab import state
from netns.labs import up
from netns.plan.config import load

name, step, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
write, done = state.write, 0

def write_and_die(made):
    global done
    done += 1
    if done == step and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    write(made)
    if done == step and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)

state.write = write_and_die
up(load(None, name=name), wait=False)
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Labs of these tests are taken down whatever happens, and a test that begins on leftovers says so."""
    names = (NAME, f"{NAME}2")
    for name in names:
        assert leftovers(name) == []
    yield
    for name in names:
        labs.down(name)


@pytest.fixture
def lab() -> NamespaceLab:
    return labs.up(load(None, name=NAME))


def leftovers(name: str) -> list[str]:
    """Namespaces and files of a lab; its processes are looked for by namespace, see `alive_in`."""
    nodes = ("client", "router", "box", "rs1", "rs2", "rs3")
    found = [f"namespace {name}-{node}" for node in nodes if namespace.identity(f"{name}-{node}") is not None]
    for directory in (Path("/run/l4lab"), Path("/run/l4box")):
        found += [str(path) for path in directory.glob(f"{name}*") if path.stem == name]
    return found


def none_alive_in(namespaces: set[int]) -> bool:
    return alive_in(namespaces) == []


def inodes(name: str) -> set[int]:
    """The lab's namespaces, by the number that their processes can be found by."""
    return {path.stat().st_ino for path in Path("/run/netns").glob(f"{name}-*")}


def l4lab(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def get(lab: NamespaceLab, url: str = f"http://{VIP}/") -> subprocess.CompletedProcess[str]:
    return lab.run("client", [*CURL, url])


# What it makes


def test_client_gets_pages_of_every_server_through_the_vip_and_each_answers_its_own_name(
    lab: NamespaceLab,
) -> None:
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.add(get(lab).stdout.strip())
        return len(seen) == 3

    eventually(all_seen, "a page of each server")
    assert seen == {"rs1", "rs2", "rs3"}


def test_request_passes_the_box_and_the_reply_does_not(lab: NamespaceLab, tmp_path: Path) -> None:
    with lab.capture(
        ["client", "box", "router:box", "rs1", "rs2", "rs3"], tmp_path / "out.pcapng"
    ) as capture:
        name = get(lab).stdout.strip()
    vip, server, client = VIP, str(lab.node(name).address), str(lab.node("client").address)
    # A health check may come meanwhile, and its answer goes from the VIP to the box.
    seen = [(point, packet) for point, packet in packets(capture.path) if client in (packet.src, packet.dst)]
    assert {(point, packet.dst) for point, packet in seen if packet.src != vip} == {
        ("client", vip),
        ("router:box", vip),
        ("box", vip),
        ("box", server),
        ("router:box", server),
        (name, server),
    }
    assert {point for point, packet in seen if packet.src == vip} == {"client", name}
    assert {packet.tos for point, packet in seen if packet.dst == server} == {10 << 2}


def test_capture_holds_the_last_packets_before_it_ended(lab: NamespaceLab, tmp_path: Path) -> None:
    with lab.capture(["client"], tmp_path / "out.pcapng", expression="tcp port 80") as capture:
        for _ in range(5):
            get(lab)
    sent = [packet[TCP] for _, packet in packets(capture.path) if packet.dst == VIP]
    assert sum("S" in segment.flags for segment in sent) == 5
    assert sum("F" in segment.flags for segment in sent) == 5
    assert [(seen.name, seen.packets) for seen in capture.counted] == [("client", len(packets(capture.path)))]
    assert not (lab.directory / "captures").exists() or not list((lab.directory / "captures").iterdir())


def test_without_offload_every_captured_checksum_is_right(tmp_path: Path) -> None:
    config = parse(LabConfig, {"name": NAME, "offload": False}, "test")
    lab = labs.up(config)
    with lab.capture(["client"], tmp_path / "out.pcapng", expression="tcp") as capture:
        get(lab)
    seen = packets(capture.path)
    assert seen
    for _, packet in seen:
        claimed = (packet.chksum, packet[TCP].chksum)
        del packet.chksum, packet[TCP].chksum
        recomputed = IP(bytes(packet))
        assert claimed == (recomputed.chksum, recomputed[TCP].chksum)


def test_nothing_but_lo_and_the_links_is_in_a_node_and_nothing_of_the_lab_is_on_the_host(
    lab: NamespaceLab,
) -> None:
    def names(output: str) -> set[str]:
        return {entry["ifname"] for entry in json.loads(output)}

    assert names(lab.run("client", ["ip", "-json", "link"]).stdout) == {"lo", "eth0"}
    assert names(lab.run("router", ["ip", "-json", "link"]).stdout) == {
        "lo",
        "client",
        "box",
        "rs1",
        "rs2",
        "rs3",
    }
    addresses = subprocess.run(["ip", "-json", "addr"], capture_output=True, text=True, check=True).stdout
    assert "10.80." not in addresses
    assert VIP not in addresses


def test_kernel_settings_are_those_of_the_plan(lab: NamespaceLab) -> None:
    for node in lab.plan.nodes:
        paths = [path for path, _ in node.sysctls]
        read = lab.run(node.name, ["sysctl", "-n", *paths]).stdout.split()
        assert list(zip(paths, read, strict=True)) == list(node.sysctls)


# What is done to servers


def test_renamed_health_file_gives_404_and_put_back_200(lab: NamespaceLab) -> None:
    def health() -> str:
        url = f"http://{lab.node('rs2').address}/health_check.html"
        return lab.run("client", [*CURL, "-o", "/dev/null", "-w", "%{http_code}", url]).stdout

    assert health() == "200"
    assert lab.health_off("rs2")
    assert not lab.health_off("rs2")
    assert health() == "404"
    assert lab.health_on("rs2")
    assert health() == "200"


def test_vip_down_makes_the_server_deaf_to_the_vip_and_vip_up_brings_it_back() -> None:
    lab = labs.up(parse(LabConfig, {"name": NAME, "server": [{"name": "rs1"}]}, "test"))

    def labels() -> str:
        return lab.run("rs1", ["ip", "addr", "show", "dev", "lo"]).stdout

    assert "lo:0" in labels()
    lab.vip_down("rs1")
    lab.vip_down("rs1")
    assert VIP not in labels()
    silent = lab.run("client", ["curl", "-s", "--connect-timeout", "0.3", "--retry", "0", f"http://{VIP}/"])
    assert silent.returncode != 0
    lab.vip_up("rs1")
    assert f"inet {VIP}/32 scope global lo:0" in labels()
    assert [str(vip) for vip in lab.held_vips("rs1")] == [VIP]


@pytest.mark.parametrize("web", ["nginx", "builtin"])
def test_graceful_stop_finishes_the_download_in_flight_and_refuses_new_connections(
    web: str, tmp_path: Path
) -> None:
    config = parse(LabConfig, {"name": NAME, "server": [{"name": "rs1", "web": web}]}, "test")
    lab = labs.up(config)
    (lab.web("rs1").root / "large").write_bytes(bytes(8_000_000))
    target = tmp_path / "large"
    url = f"http://{lab.node('rs1').address}/large"
    with lab.popen("client", ["curl", "-s", "--limit-rate", "4M", "-o", str(target), url]) as download:
        eventually(lambda: target.exists() and target.stat().st_size > 0, "the download began")
        assert lab.stop("rs1", StopSignal.GRACEFUL)
        assert download.wait(20) == 0
    assert target.stat().st_size == 8_000_000
    assert "refused" in get(lab).stderr.lower() or "connect" in get(lab).stderr.lower()
    assert not lab.stop("rs1")
    assert lab.start("rs1")
    assert get(lab).stdout == "rs1\n"


@pytest.mark.parametrize("web", ["nginx", "builtin"])
def test_killed_server_leaves_no_process(web: str) -> None:
    lab = labs.up(parse(LabConfig, {"name": NAME, "server": [{"name": "rs1", "web": web}]}, "test"))
    home = {os.stat(f"/run/netns/{NAME}-rs1").st_ino}
    assert alive_in(home)
    lab.stop("rs1", StopSignal.KILL)
    assert alive_in(home) == []
    assert lab.start("rs1")
    assert not lab.start("rs1")


def test_processes_lead_their_own_session_in_the_root_directory_and_are_nobodys_children(
    lab: NamespaceLab,
) -> None:
    for role in ("box", "web rs1"):
        leader = lab.running(role)[0]
        assert os.getsid(leader) == leader
        assert os.readlink(f"/proc/{leader}/cwd") == "/"
        status = Path(f"/proc/{leader}/status").read_text()
        assert f"PPid:\t{os.getpid()}\n" not in status


# Up and down


def test_down_leaves_no_namespace_no_process_and_no_file(lab: NamespaceLab) -> None:
    namespaces = inodes(NAME)
    assert len(namespaces) == 6
    assert alive_in(namespaces)
    assert labs.down(NAME)
    assert leftovers(NAME) == []
    assert alive_in(namespaces) == []


def test_up_of_a_running_lab_says_so_and_changes_nothing(lab: NamespaceLab) -> None:
    before = state.read(NAME)
    code, _, said = l4lab("up", "--name", NAME)
    assert code == 0
    assert "is up already" in said
    assert state.read(NAME) == before


def test_up_of_a_running_lab_with_another_configuration_is_refused_and_says_what_differs(
    lab: NamespaceLab,
) -> None:
    code, _, said = l4lab("up", "--name", NAME, "--speed", "7")
    assert code == 1
    assert "other settings (speed is 1.0, not 7.0)" in said


def test_name_that_would_leave_the_labs_directory_is_refused() -> None:
    code, _, said = l4lab("down", "--name", "../l4box/l4box")
    assert code == 1
    assert "is no lab's name" in said


def test_down_of_no_lab_is_fine() -> None:
    code, _, said = l4lab("down", "--name", NAME)
    assert code == 0
    assert "nothing to do" in said


def test_up_killed_at_any_step_is_cleared_by_down(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    write = state.write

    def counted(made: state.State) -> None:
        writes.append(made)
        write(made)

    monkeypatch.setattr(state, "write", counted)
    labs.up(load(None, name=NAME), wait=False)
    steps = len(writes)
    labs.down(NAME)
    assert steps > 10
    for step in range(1, steps + 1):
        for moment in ("before", "after"):
            arguments = [NAME, str(step), moment]
            killed = subprocess.run([sys.executable, "-c", KILLED_UP, *arguments], check=False)
            assert killed.returncode == -signal.SIGKILL
            namespaces = inodes(NAME)
            labs.down(NAME)
            assert leftovers(NAME) == [], f"killed {moment} step {step}"
            eventually(partial(none_alive_in, namespaces), f"no process; killed {moment} step {step}")


def test_up_interrupted_at_any_step_removes_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    write = state.write
    steps = 1
    while True:
        done = 0

        def interrupted(made: state.State, at: int = steps) -> None:
            nonlocal done
            done += 1
            write(made)
            if done == at and not made.ready:
                raise KeyboardInterrupt

        monkeypatch.setattr(state, "write", interrupted)
        namespaces: set[int] = set()
        try:
            labs.up(load(None, name=NAME), wait=False)
        except KeyboardInterrupt:
            namespaces = inodes(NAME)
        else:
            break
        finally:
            monkeypatch.setattr(state, "write", write)
        assert leftovers(NAME) == [], f"interrupted at step {steps}"
        assert alive_in(namespaces) == []
        labs.down(NAME)
        steps += 1
    assert steps > 10


def test_half_made_lab_is_named_as_such_and_not_repaired_in_silence() -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_UP, NAME, "5", "after"], check=False)
    assert killed.returncode == -signal.SIGKILL
    code, _, said = l4lab("up", "--name", NAME)
    assert code == 1
    assert "half made" in said
    assert "l4lab down" in said


def test_two_ups_at_once_make_one_lab() -> None:
    script = KILLED_UP.replace("state.write = write_and_die", "")
    arguments = [sys.executable, "-c", script, NAME, "0", ""]
    with subprocess.Popen(arguments) as one, subprocess.Popen(arguments) as other:
        assert (one.wait(30), other.wait(30)) == (0, 0)
    made = state.read(NAME)
    assert made is not None
    assert made.ready
    assert set(made.namespaces.values()) == inodes(NAME)


def test_box_that_ends_at_once_fails_up_with_its_last_words_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(box, "command", lambda _: ["sh", "-c", "echo no queue here >&2; exit 5"])
    code, _, said = l4lab("up", "--name", NAME)
    assert code == 1
    assert "no queue here" in said
    assert leftovers(NAME) == []


def test_configuration_mistake_exits_3_before_anything_is_made(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(f'name = "{NAME}"\nclients = 0\n')
    code, _, said = l4lab("up", "-f", str(file))
    assert code == 3
    assert f"{file}: clients = 0" in said
    assert leftovers(NAME) == []


# What is not the lab's


def test_two_labs_on_the_same_subnets_do_not_meet(lab: NamespaceLab, tmp_path: Path) -> None:
    other = parse(LabConfig, {"name": f"{NAME}2", "server": [{"name": "other"}]}, "test")
    second = labs.up(other)
    assert second.node("other").address == lab.node("rs1").address
    assert second.node("client").address != lab.node("client").address
    with second.capture(
        ["client", "router", "box", "other"], tmp_path / "out.pcapng", expression="ip"
    ) as capture:
        assert {get(lab).stdout.strip() for _ in range(5)} <= {"rs1", "rs2", "rs3"}
    assert sum(seen.packets for seen in capture.counted) == 0
    assert get(second).stdout == "other\n"
    labs.down(second.name)
    assert get(lab).returncode == 0


def test_namespaces_with_similar_names_survive_up_and_down() -> None:
    foreign = [f"{NAME}-rs9", f"{NAME}-", f"{NAME}x-rs1"]
    try:
        for name in foreign:
            subprocess.run(["ip", "netns", "add", name], check=True)
        before = {name: namespace.identity(name) for name in foreign}
        labs.up(load(None, name=NAME))
        labs.down(NAME)
        assert {name: namespace.identity(name) for name in foreign} == before
    finally:
        for name in foreign:
            subprocess.run(["ip", "netns", "del", name], check=False)


def test_up_refuses_a_namespace_name_that_is_taken_and_leaves_it() -> None:
    subprocess.run(["ip", "netns", "add", f"{NAME}-rs2"], check=True)
    try:
        before = namespace.identity(f"{NAME}-rs2")
        with pytest.raises(LabError, match="this lab did not make it"):
            labs.up(load(None, name=NAME))
        assert namespace.identity(f"{NAME}-rs2") == before
        assert leftovers(NAME) == [f"namespace {NAME}-rs2"]
    finally:
        subprocess.run(["ip", "netns", "del", f"{NAME}-rs2"], check=True)


def test_down_leaves_alone_a_namespace_that_took_the_name_of_one_of_the_labs(lab: NamespaceLab) -> None:
    said: list[str] = []
    subprocess.run(["ip", "netns", "del", f"{NAME}-client"], check=True)
    subprocess.run(["ip", "netns", "add", f"{NAME}-client"], check=True)
    try:
        labs.down(NAME, say=said.append)
        assert leftovers(NAME) == [f"namespace {NAME}-client"]
        assert any("is not the one this lab made" in line for line in said)
    finally:
        subprocess.run(["ip", "netns", "del", f"{NAME}-client"], check=True)


def test_down_leaves_alone_and_names_a_program_that_somebody_else_runs_on_a_node(lab: NamespaceLab) -> None:
    said: list[str] = []
    with lab.popen("client", ["cat"], stdin=subprocess.PIPE) as mine:
        labs.down(NAME, say=said.append)
        assert mine.poll() is None
        mine.kill()
    assert f"left alone: cat (pid {mine.pid}) runs on in what was {NAME}-client" in said


# Status


def test_status_shows_the_whole_lab_as_one_json_document(lab: NamespaceLab) -> None:
    code, out, said = l4lab("status", "--name", NAME, "--json")
    assert (code, said) == (0, "")
    shown = json.loads(out)
    assert shown["up"]
    assert shown["ready"]
    assert [node["name"] for node in shown["nodes"]] == ["client", "router", "box", "rs1", "rs2", "rs3"]
    (server, *_) = shown["servers"]
    assert (server["name"], server["web"], server["vips"]) == ("rs1", "nginx", [VIP])
    assert (server["running"], server["health_file"]) == (True, True)
    assert [row["state"] for row in server["box"]] == ["ACTIVE"]


def test_status_of_a_lab_whose_box_was_killed_says_what_is_dead(lab: NamespaceLab) -> None:
    (pid,) = lab.running("box")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not lab.running("box"), "the box is dead")
    code, _, said = l4lab("status", "--name", NAME)
    assert code == 1
    assert f"problem: box is dead (it was pid {pid}" in said
    labs.down(NAME)
    assert leftovers(NAME) == []


def test_up_of_a_lab_whose_box_was_killed_repairs_nothing_and_says_what_is_dead(lab: NamespaceLab) -> None:
    lab.stop_box()
    assert l4lab("box", "--name", NAME, "start")[0] == 0
    os.kill(lab.running("box")[0], signal.SIGKILL)
    eventually(lambda: not lab.running("box"), "the box is dead")
    code, _, said = l4lab("up", "--name", NAME)
    assert code == 1
    assert "not whole: box is dead" in said
    assert not lab.running("box")


def test_status_names_a_missing_namespace_and_a_dead_master_whose_workers_live_on(lab: NamespaceLab) -> None:
    subprocess.run(["ip", "netns", "del", f"{NAME}-client"], check=True)
    master, *workers = lab.running("web rs1")
    os.kill(master, signal.SIGKILL)
    eventually(lambda: master not in lab.running("web rs1"), "the master is dead")
    code, _, said = l4lab("status", "--name", NAME)
    assert code == 1
    assert "client: its namespace is gone" in said
    assert "web rs1 is dead" in said
    assert f"processes it left run on: {', '.join(map(str, workers))}" in said
    labs.down(NAME)
    assert leftovers(NAME) == []


def test_down_after_the_box_was_killed_leaves_neither_its_socket_nor_its_lock(lab: NamespaceLab) -> None:
    lab.close()
    assert l4lab("box", "--name", NAME, "kill")[0] == 0
    assert not list(Path("/run/l4box").glob(f"{NAME}.*"))
    labs.down(NAME)
    assert leftovers(NAME) == []


def test_down_after_a_killed_box_was_forgotten_removes_its_socket_and_lock(lab: NamespaceLab) -> None:
    lab.close()
    (pid,) = lab.running("box")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not lab.running("box"), "the box is dead")
    lab.drop("box")
    assert list(Path("/run/l4box").glob(f"{NAME}.*"))
    labs.down(NAME)
    assert leftovers(NAME) == []


def test_commands_say_what_they_did_and_what_was_done_already(lab: NamespaceLab) -> None:
    def said(*words: str) -> str:
        return l4lab(words[0], "--name", NAME, *words[1:])[2].strip()

    assert said("server", "rs1", "stop") == "rs1: stopped"
    assert said("server", "rs1", "stop") == "rs1: already stopped"
    assert said("server", "rs1", "start") == "rs1: started"
    assert said("server", "rs1", "start") == "rs1: already running"
    assert said("server", "rs1", "health-off") == "rs1: health file renamed"
    assert said("server", "rs1", "health-off") == "rs1: health file already renamed"
    assert said("server", "rs1", "vip-down") == "rs1: VIP off lo"
    assert said("box", "kill") == "box: killed"
    assert said("box", "stop") == "box: already stopped"
    assert said("box", "start") == "box: started"


def test_server_stopped_on_purpose_is_no_problem(lab: NamespaceLab) -> None:
    assert l4lab("server", "--name", NAME, "rs1", "stop")[0] == 0
    code, out, _ = l4lab("status", "--name", NAME, "--json")
    assert code == 0
    assert [server["running"] for server in json.loads(out)["servers"]] == [False, True, True]


def test_status_of_no_lab_fails_and_says_how_to_make_it() -> None:
    code, out, said = l4lab("status", "--name", NAME, "--json")
    assert code == 1
    assert json.loads(out)["up"] is False
    assert "is not up" in said


# The command line


def test_exec_runs_on_the_node_and_gives_its_exit_code(lab: NamespaceLab) -> None:
    def execute(*command: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "netns.cli", "exec", "--name", NAME, "rs1", *command]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert str(lab.node("rs1").address) in execute("--", "ip", "addr", "show", "eth0").stdout
    assert execute("sh", "-c", "exit 42").returncode == 42


def test_capture_command_writes_one_file_and_counts_by_node(lab: NamespaceLab, tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    argv = [sys.executable, "-m", "netns.cli", "capture", "--name", NAME, "--json", "-o", str(path)]
    argv += ["client", "router:client", "--filter", "tcp"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as capture:
        assert capture.stderr is not None
        assert "capturing" in capture.stderr.readline()
        assert get(lab).returncode == 0
        capture.send_signal(signal.SIGTERM)  # SIGINT is ignored where tests run in the background
        out, _ = capture.communicate(timeout=20)
    assert capture.returncode == 0
    counted = {entry["name"]: entry["packets"] for entry in json.loads(out)["interfaces"]}
    assert counted.keys() == {"client", "router:client"}
    assert counted["client"] == counted["router:client"] > 5
    assert len(packets(path)) == sum(counted.values())


def test_down_ends_a_capture_whose_command_was_killed(lab: NamespaceLab, tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "netns.cli",
        "capture",
        "--name",
        NAME,
        "-o",
        str(tmp_path / "o"),
        "client",
    ]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as capture:
        assert capture.stderr is not None
        assert "capturing" in capture.stderr.readline()
        capture.kill()
    namespaces = inodes(NAME)
    assert any("tcpdump" in line for line in alive_in(namespaces))
    labs.down(NAME)
    assert alive_in(namespaces) == []


def test_doctor_tries_every_kernel_feature_and_finds_this_machine_fit() -> None:
    code, out, _ = l4lab("doctor", "--json")
    found = {entry["what"]: entry["ok"] for entry in json.loads(out)["findings"]}
    assert {"root", "network namespaces", "veth links", "NFQUEUE", "nft payload writes"} <= found.keys()
    assert (code == 0) == json.loads(out)["ok"]
    assert all(found[what] for what in ("root", "network namespaces", "veth links", "nft payload writes"))


def test_doctor_names_the_package_of_a_missing_program_and_exits_5(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "netns.namespaces.doctor.installed", lambda program: None if program == "nft" else "/bin/true"
    )
    code, out, _ = l4lab("doctor")
    assert code == 5
    assert "apt-get install nftables" in out


def test_without_root_every_command_says_so_and_exits_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, said = l4lab("up", "--name", NAME)
    assert code == 5
    assert "root" in said
