"""Every scenario in a lab of its own; and what is left of one that is interrupted or killed.

Five times in a row: `for n in 1 2 3 4 5; do l4lab scenario run all --speed 10 || break; done`
"""

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
from click.testing import CliRunner

from netns import labs
from netns.cli.main import main
from netns.lab import state
from netns.play.scenario import discover
from netns.record.pcapng import INTERFACE_DESCRIPTION
from netns.record.segments import read
from tests.integration.conftest import alive_in, eventually

pytestmark = [pytest.mark.integration, pytest.mark.alone]  # they judge when things happen, at speed 20

NAME = "scentest"
SMALLER = {"mass-failure": ["--set", "sessions=400", "--set", "quiet_s=20"]}

QUICK = '''"""Three requests, no more.

A scenario of somebody's own.
"""
CLIENTS = "curl:3"

def play(run):
    run.start_clients()
    run.wait_until_all_answered()
    run.health_off("rs1")
    run.finish()
    run.expect("every client is answered", len(run.requests) >= 3, f"{len(run.requests)} requests")
    run.expect_none("no request is lost", run.lost("curl"))
'''


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """The lab is taken down whatever happens."""
    yield
    labs.down(NAME)


def scenario(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `l4lab scenario`."""
    result = CliRunner().invoke(main, ["scenario", *arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    code, out, said = scenario("run", *arguments, "--name", NAME, "--json")
    return code, json.loads(out), said


def start(*arguments: str) -> subprocess.Popen[str]:
    """`l4lab scenario run` in a process that heeds SIGINT even where the tests, in the background, do not."""
    program = ["env", "--default-signal=INT", sys.executable, "-m", "netns.cli"]
    command = [*program, "scenario", "run", *arguments, "--name", NAME]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    """Return when the process has said so; pytest's timeout is the deadline."""
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            return
    raise AssertionError(f"it ended and has not said {line!r}")


def inodes() -> set[int]:
    return {path.stat().st_ino for path in Path("/run/netns").glob(f"{NAME}-*")}


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "three_requests.py"
    path.write_text(QUICK)
    return path


@pytest.mark.parametrize("name", sorted(discover()))
def test_scenario_passes_and_leaves_nothing(name: str) -> None:
    code, result, said = run(name, *SMALLER.get(name, []))
    failed = [one for one in result["expectations"] if not one["passed"]]
    assert failed == [], said
    assert code == 0
    assert len(result["expectations"]) >= 5
    assert state.read(NAME) is None
    assert inodes() == set()


@pytest.mark.parametrize("arguments", [["--set", "sides=both"], ["--set", "mode=naive"]])
def test_resets_on_both_sides_and_naive_ones_do_as_they_should(arguments: list[str]) -> None:
    code, result, said = run("reset-on-port-fail", *arguments)
    assert [one for one in result["expectations"] if not one["passed"]] == [], said
    assert code == 0


def test_killing_the_web_server_loses_no_request_either_when_it_is_drained_first() -> None:
    code, result, said = run("recommended-l7", "--set", "stop=kill")
    assert (code, result["lost"]) == (0, 0), said


def test_file_of_somebodys_own_is_a_scenario(quick: Path) -> None:
    code, result, _ = run(str(quick))
    assert code == 0
    assert (result["name"], result["title"]) == ("three-requests", "Three requests, no more")
    assert result["requests"] == len(result["request_log"]) >= 3
    assert {request["server"] for request in result["request_log"]} <= {"rs1", "rs2", "rs3"}
    assert [step["text"] for step in result["steps"]] == ["3 curl clients start", "health file renamed"]


def test_expectation_that_fails_makes_the_command_exit_1(quick: Path) -> None:
    quick.write_text(QUICK.replace("CLIENTS", "SETTINGS = {}\nCLIENTS").replace(">= 3", "< 0"))
    code, result, said = run(str(quick))
    assert code == 1
    assert not result["passed"]
    assert "FAILED every client is answered" in said


def test_report_has_the_result_the_page_and_a_capture_of_every_node(quick: Path, tmp_path: Path) -> None:
    directory = tmp_path / "report"
    code, out, _ = scenario("run", str(quick), "--name", NAME, "--report", str(directory))
    assert code == 0
    assert "passed" in out
    nodes = ["box", "client", "router", "rs1", "rs2", "rs3"]
    captures = [f"{node}.pcapng" for node in nodes]
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [*captures, "report.html", "result.json"]
    )
    result = json.loads((directory / "result.json").read_text())
    assert sorted(result["captures"]) == captures
    for node in nodes:
        seen = read(directory / f"{node}.pcapng", lambda unix_s: unix_s)
        assert {segment.point.partition(":")[0] for segment in seen} == {node}
    ports = {f":{request['local_port']}" for request in result["request_log"]}
    sources = {segment.source for segment in read(directory / "client.pcapng", float) if segment.opens}
    assert ports <= {source[source.rindex(":") :] for source in sources}
    assert INTERFACE_DESCRIPTION.to_bytes(4, sys.byteorder) in (directory / "router.pcapng").read_bytes()


def test_interrupted_scenario_takes_its_lab_down() -> None:
    with start("health-file-only") as process:
        wait_for("health file renamed", process)
        namespaces = inodes()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert state.read(NAME) is None
    assert inodes() == set()
    assert alive_in(namespaces) == []


def test_killed_scenario_leaves_a_lab_that_down_clears() -> None:
    with start("reset-on-port-fail") as process:
        wait_for("health file renamed", process)
        namespaces = inodes()
        process.kill()
        process.communicate()
    running = alive_in(namespaces)
    assert any("curl" in line for line in running)
    assert any("drivers.idle" in line for line in running)
    assert any("tcpdump" in line for line in running)
    code, _, said = scenario("run", "reset-on-port-fail", "--name", NAME)
    assert code == 1
    assert f"l4lab down --name {NAME}" in said
    assert labs.down(NAME)
    assert inodes() == set()
    eventually(lambda: alive_in(namespaces) == [], "nothing runs where the lab was")
    assert not os.path.exists(f"/run/l4lab/{NAME}")
