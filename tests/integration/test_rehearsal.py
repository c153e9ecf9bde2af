"""A user's own deploy, rehearsed on real kernels: what it loses, why, and that nothing of it remains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netns import labs
from netns.lab import state
from netns.linux import namespace
from netns.plan.config import load
from tests.integration.conftest import alive_in, eventually

pytestmark = [pytest.mark.integration, pytest.mark.alone]
"""At speed 20 a health check has 50 ms: beside other tests a healthy server may miss two of them."""

NAME = "rehearsed"
EXAMPLES = Path(__file__).parents[2] / "examples"
OK, LOST, FAILED, ILL, INCONCLUSIVE, NO_VERDICT = 0, 1, 6, 7, 8, 9
NODES = ("client", "router", "box", "rs1", "rs2", "rs3")
RETRY = ("curl", "curl-new", "urllib3")
"""Kinds whose GET is repeated, or can't meet a connection that is being closed. node's can, though seldom."""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    labs.down(NAME)


def command(*words: str, speed: int = 20) -> list[str]:
    """`l4lab rehearse`, which heeds SIGINT even where the tests, run in the background, do not."""
    program = ["env", "--default-signal=INT", sys.executable, "-m", "netns.cli"]
    return [*program, "rehearse", "--name", NAME, "--speed", str(speed), *words]


def rehearse(*words: str, speed: int = 20) -> tuple[int, dict[str, Any], str]:
    """Exit code, the result, and what was said meanwhile."""
    done = subprocess.run(
        command("--json", *words, speed=speed), capture_output=True, text=True, timeout=280, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def script(path: Path, text: str) -> str:
    file = path / "deploy.sh"
    file.write_text(f"#!/bin/sh\nset -eu\n{text}\n")
    file.chmod(0o755)
    return str(file)


def named(mark: str) -> list[int]:
    """The processes that have this word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if mark.encode() in words:
            found.append(int(entry.name))
    return found


def leftovers() -> list[str]:
    found = [node for node in NODES if namespace.identity(f"{NAME}-{node}") is not None]
    return found + [str(path) for path in Path("/run/l4lab").glob(f"{NAME}*")]


def expectation(result: dict[str, Any], text: str) -> dict[str, Any]:
    (found,) = [one for one in result["expectations"] if text in one["text"]]
    return dict(found)


# What the examples are for


def test_the_trap_loses_requests_and_says_of_each_why(tmp_path: Path) -> None:
    code, result, said = rehearse(
        "--clients", "curl:6,curl-new:6,urllib3:4,node:4", "--", str(EXAMPLES / "trap.sh"), "{server}"
    )
    assert code == 1, said
    assert result["lost"] > 0
    assert result["unexplained"] == 0
    assert result["causes"]["health_window"] > result["lost"] / 2
    lost = [one for one in result["explained"] if one["lost"]]
    assert len(lost) == result["lost"]
    assert all(one["server"] in one["text"] for one in lost)
    advice = next(one for one in result["advice"] if one["cause"] == "health_window")
    assert advice["wait_s"] == 20
    assert "after its health file went" in advice["text"]
    assert {one["server"]: one["exit_code"] for one in result["deploys"]} == {"rs1": 0, "rs2": 0, "rs3": 0}
    assert leftovers() == []


@pytest.mark.parametrize(("example", "kind"), [("careful.sh", "l7"), ("l4-checked.sh", "l4")])
def test_the_careful_ways_lose_nothing_of_clients_that_retry(tmp_path: Path, example: str, kind: str) -> None:
    lab = tmp_path / "lab.toml"
    check = f'health_check = {{ kind = "{kind}" }}'
    lab.write_text(
        f'[[virtual_server]]\nname = "web"\naddress = "192.0.2.10"\nport = 80\ndscp = 10\n{check}\n'
    )
    clients = "curl:6,curl-new:4,urllib3:4,requests:4,node:4"
    code, result, said = rehearse(
        "-f", str(lab), "--clients", clients, "--", str(EXAMPLES / example), "{server}", speed=10
    )
    assert code in (1, 8), "at speed 10 its own time makes it inconclusive, unless it lost something"
    assert expectation(result, "the command succeeds")["passed"], said
    lost = [one for one in result["explained"] if one["lost"]]
    assert {one["cause"] for one in lost} <= {"closed_under_way"}
    assert [one for one in lost if one["method"] == "GET" and one["client"].rpartition("-")[0] in RETRY] == []
    assert result["unexplained"] == 0
    for window in result["windows"]:
        assert window["waited_s"] > window["needed_s"]


def test_a_sweep_of_the_trap_finds_the_wait_that_it_needs(tmp_path: Path) -> None:
    """20 s, within the health check's timeout of 1 s and what this machine adds."""
    code, result, said = rehearse(
        *("--sweep", "10", "--servers", "rs2", "--clients", "curl:6,curl-new:6", "--report", str(tmp_path)),
        *("--", str(EXAMPLES / "trap.sh"), "{server}"),
    )
    assert code == 1, said
    (one,) = result["combinations"]
    assert one["smallest_wait_s"] == pytest.approx(20, abs=1 + 0.05 * 20)
    assert one["worst_s"] == 20
    assert one["failure_probability"] > 0.5
    assert [run["phase_s"] for run in one["runs"]] == [0.5 + number for number in range(10)]
    page = (tmp_path / "report.html").read_text()
    assert page.count('/report.html"') == 10
    assert len(list(tmp_path.glob("*/report.html"))) == 10
    assert said.count("making 6 namespaces") == 1 + said.count("a new lab for the next rehearsal")
    before_last = sum(run["lost"] for run in one["runs"][:-1])
    assert f"10 of 10, lost so far {before_last}: begins 9.5 box s after a check of rs2" in said
    assert leftovers() == []


def test_report_is_explained_as_its_run_told_it(tmp_path: Path) -> None:
    report, copied = tmp_path / "report", tmp_path / "copied"
    file = script(tmp_path, '"$L4LAB_WEB" stop\n"$L4LAB_SLEEP" 20\n"$L4LAB_WEB" start')
    clients = ["--servers", "rs2", "--clients", "curl:4,curl-new:6"]
    code, result, said = rehearse(
        *clients, "--allow", "closed_under_way", "--report", str(report), "--", file, "{server}"
    )
    assert (bool(result["lost"]), result["unexplained"]) == (True, 0), said
    report.rename(copied)
    explain = [sys.executable, "-m", "netns.cli", "explain"]
    again = subprocess.run([*explain, "--json", str(copied)], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (code, "")
    assert json.loads(again.stdout) == result == json.loads((copied / "result.json").read_text())
    (copied / "rs2.pcapng").write_bytes((copied / "rs2.pcapng").read_bytes()[:1000])
    torn = subprocess.run([*explain, str(copied)], capture_output=True, text=True, check=False)
    assert (torn.returncode, "rs2.pcapng is cut short (1,000 of" in torn.stderr) == (INCONCLUSIVE, True)


# What a script finds


def test_a_script_reaches_its_server_by_its_environment(tmp_path: Path) -> None:
    text = """
    test "$L4LAB_SERVER" = rs2
    test -f "$L4LAB_HEALTH"
    test "$(cat "$L4LAB_ROOT/index.html")" = rs2
    $L4LAB_EXEC ip -o addr show dev lo | grep -q "$L4LAB_VIP"
    ip netns exec "$L4LAB_NETNS" ip -o addr | grep -q "$L4LAB_ADDRESS"
    "$L4LAB_WAIT" ACTIVE
    if "$L4LAB_WAIT" FAILED 3; then exit 1; fi
    if "$L4LAB_WEB" dance; then exit 1; fi
    l4lab status --json | grep -q '"up": true'
    echo "all found"
    """
    code, result, said = rehearse(
        "--servers", "rs2", "--clients", "curl:3", "--", script(tmp_path, text), "{server}"
    )
    assert code == INCONCLUSIVE, said  # it deploys nothing
    assert "rs2 | all found" in said
    assert "rs2 is ACTIVE, not FAILED" in said
    assert "stop [" in said
    assert result["deploys"][0]["output"].endswith("all found")


def test_a_script_that_tells_nothing_is_watched_all_the_same(tmp_path: Path) -> None:
    """It stops and starts the server by its own means, and takes the VIP down."""
    text = """
    mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.away"
    sleep 0.2
    kill -QUIT "$(cat "$L4LAB_HOME/nginx.pid")"
    while test -e "$L4LAB_HOME/nginx.pid"; do sleep 0.02; done
    $L4LAB_EXEC ip addr del "$L4LAB_VIP/32" dev lo
    sleep 0.2
    $L4LAB_EXEC ip addr add "$L4LAB_VIP/32" dev lo label lo:0
    $L4LAB_EXEC nginx -p "$L4LAB_HOME" -c nginx.conf -e error.log -g 'master_process on;' >/dev/null 2>&1 &
    mv "$L4LAB_HEALTH.away" "$L4LAB_HEALTH"
    """
    _, result, said = rehearse(
        "--servers", "rs1", "--clients", "curl:6,curl-new:6", "--", script(tmp_path, text), "{server}"
    )
    assert expectation(result, "the command succeeds")["passed"], said
    seen = [(one["fact"], one["holds"]) for one in result["changes"] if one["server"] == "rs1"]
    assert {("health file", False), ("listening", False), ("VIP", False), ("VIP", True)} <= set(seen)
    assert next(fact for fact, holds in seen if not holds) == "health file"
    assert result["unexplained"] == 0
    assert leftovers() == []


# When it goes wrong


def test_a_script_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    text = "sleep 98761 & sleep 98761"
    code, result, _ = rehearse(
        "--timeout", "2", "--clients", "curl:3", "--", script(tmp_path, text), "{server}"
    )
    assert code == FAILED
    found = expectation(result, "the command succeeds")
    assert "rs1: did not end and was stopped; not deployed: rs2, rs3" in found["measured"]
    assert named("98761") == []
    assert leftovers() == []


def test_a_script_that_fails_ends_the_rehearsal_with_its_words(tmp_path: Path) -> None:
    text = 'echo "no space left on device"; exit 28'
    code, result, _ = rehearse("--clients", "curl:3", "--", script(tmp_path, text), "{server}")
    assert code == FAILED
    assert "rs1: exit 28" in expectation(result, "the command succeeds")["measured"]
    assert result["deploys"][0]["output"] == "no space left on device"
    assert leftovers() == []


def test_a_script_that_kills_the_box_is_told_so(tmp_path: Path) -> None:
    text = "l4lab box kill; sleep 3"
    code, result, said = rehearse("--clients", "curl:6", "--", script(tmp_path, text), "{server}")
    assert code in (LOST, INCONCLUSIVE), said
    assert not expectation(result, "the box's daemon runs to the end")["passed"]
    assert result["unexplained"] == 0
    assert leftovers() == []


def test_what_a_script_leaves_running_ends_with_the_lab(tmp_path: Path) -> None:
    text = "setsid $L4LAB_EXEC sleep 98762 >/dev/null 2>&1 & setsid sleep 98763 >/dev/null 2>&1 &"
    code, _, said = rehearse(
        "--servers", "rs1", "--clients", "curl:3", "--", script(tmp_path, text), "{server}"
    )
    assert code == INCONCLUSIVE, said
    assert named("98762") == []
    left = named("98763")  # on the host, and none of the lab's business: it is the script's own to end
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert leftovers() == []


def test_an_interrupt_ends_the_script_and_the_lab(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("--clients", "curl:3", "--", script(tmp_path, "echo begun; sleep 98764"), "{server}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "rs1 | begun" in line:
                break
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert named("98764") == []
    assert leftovers() == []


def test_down_clears_a_rehearsal_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("--clients", "curl:3", "--", script(tmp_path, "echo begun; sleep 98765"), "{server}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "rs1 | begun" in line:
                break
        running.kill()
    made = state.read(NAME)
    assert made is not None
    labs.down(NAME)
    eventually(lambda: named("98765") == [], "the script has ended")
    assert alive_in(set(made.namespaces.values())) == []
    assert leftovers() == []


def test_a_lab_that_is_up_is_used_and_stays_up(tmp_path: Path) -> None:
    lab = labs.up(load(None, name=NAME, speed=20))
    code, _, said = rehearse("--servers", "rs1", "--clients", "curl:3", "--", "true", "{server}")
    assert code == INCONCLUSIVE, said
    assert [row["state"] for row in lab.box.servers()] == ["ACTIVE"] * 3
    lab.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--", "./no-such-script"], NO_VERDICT, "./no-such-script: no such program"),
        (["--servers", "rs9", "--", "true"], 2, "no server 'rs9': the lab has rs1, rs2, rs3"),
        (["--clients", "lynx:1", "--", "true"], 2, "'lynx' is no kind of client"),
        (["--vary", "retries=1,2", "--", "true"], 2, "--vary needs --sweep"),
        (["--sweep", "3", "--vary", "address.x=1", "--", "true"], 3, "address has no keys"),
        (["--servers", "", "--", "true"], 2, "no server ''"),
        (["--servers", "rs1,rs1", "--", "true"], 2, "a server is named twice"),
        (["--allow", "closed_under_way:" + "9" * 5000, "--", "true"], 2, "is no number of requests"),
        (["--sweep", "3", "--vary", "retries=99", "--", "true"], 3, "health_check.retries = 99"),
    ],
)
def test_what_cannot_be_rehearsed_is_said_before_anything_is_made(
    words: list[str], code: int, said: str
) -> None:
    found = rehearse(*words)
    assert (found[0], said in found[2]) == (code, True), found[2]
    assert leftovers() == []
