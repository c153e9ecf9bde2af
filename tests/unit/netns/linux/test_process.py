"""Processes told apart from later owners of their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netns.linux import process
from netns.linux.process import Process


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A real process that leads a session."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as child:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        netns = os.stat(f"/proc/{child.pid}/ns/net").st_ino
        yield Process(child.pid, started=int(fields[19]), netns=netns, log="")
        child.kill()


def test_process_is_found_by_pid_start_time_and_namespace(sleeper: Process) -> None:
    assert process.members(sleeper) == [sleeper.pid]


def test_pid_with_another_start_time_is_nobody_of_ours_and_is_not_signalled(sleeper: Process) -> None:
    recycled = replace(sleeper, started=sleeper.started - 1)
    assert process.members(recycled) == []
    process.send(recycled, signal.SIGKILL, to_all=True)
    assert process.members(sleeper) == [sleeper.pid]


def test_pid_in_another_namespace_is_nobody_of_ours_and_is_not_signalled(sleeper: Process) -> None:
    elsewhere = replace(sleeper, netns=sleeper.netns + 1)
    assert process.members(elsewhere) == []
    process.send(elsewhere, signal.SIGKILL)
    assert process.members(sleeper) == [sleeper.pid]


def test_wait_returns_false_while_it_runs_and_true_once_it_has_ended(sleeper: Process) -> None:
    assert not process.wait(sleeper, 0)
    process.send(sleeper, signal.SIGTERM)
    assert process.wait(sleeper, 10)  # it is a zombie here: nobody has waited for it yet


def test_last_lines_of_a_log_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert process.last_lines(tmp_path / "none") == ""


def test_last_lines_are_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\nthree\n")
    assert process.last_lines(tmp_path / "log", count=2) == "two\nthree"


def test_child_that_one_look_has_missed_is_among_the_remains(
    sleeper: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([[], [7]])
    monkeypatch.setattr(process, "_remains", lambda _: next(looks))
    assert process.remains(sleeper) == [7]


@pytest.mark.parametrize("call", ["open", "read"])
def test_process_that_goes_while_it_is_looked_at_is_gone(
    sleeper: Process, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def goes(*_: object) -> int:
        raise ProcessLookupError(3, "No such process")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, goes)
        assert process.members(sleeper) == []
