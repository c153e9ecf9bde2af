"""One daemon per name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lb.linux import lock

HOLDER = """
import sys, time
from pathlib import Path
from lb.linux import lock
with lock.hold("web", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_box_of_the_name_is_refused_and_told_who_owns_it(tmp_path: Path) -> None:
    with lock.hold("web", tmp_path):
        with pytest.raises(
            lock.AlreadyRunning, match=f"'web' is already running \\(pid {os.getpid()}\\)"
        ) as refused:
            lock.hold("web", tmp_path).__enter__()
        assert refused.value.pid == os.getpid()


def test_the_owner_is_unknown_while_it_has_not_said(tmp_path: Path) -> None:
    with lock.hold("web", tmp_path):
        (tmp_path / "web.lock").write_text("")
        with pytest.raises(lock.AlreadyRunning, match="'web' is already running; stop it") as refused:
            lock.hold("web", tmp_path).__enter__()
        assert refused.value.pid is None


def test_boxes_of_other_names_do_not_meet(tmp_path: Path) -> None:
    with lock.hold("web", tmp_path), lock.hold("web-2", tmp_path):
        pass


def test_nothing_is_left_behind_and_the_name_is_free_again(tmp_path: Path) -> None:
    for _ in range(2):
        with lock.hold("web", tmp_path):
            assert (tmp_path / "web.lock").read_text() == f"{os.getpid()}\n"
        assert list(tmp_path.iterdir()) == []


def test_the_directory_is_made(tmp_path: Path) -> None:
    with lock.hold("web", tmp_path / "run" / "l4box"):
        assert (tmp_path / "run" / "l4box" / "web.lock").exists()


def test_a_killed_owner_leaves_the_name_free(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(lock.AlreadyRunning) as refused:
            lock.hold("web", tmp_path).__enter__()
        assert refused.value.pid == owner.pid
        owner.send_signal(signal.SIGKILL)
    with lock.hold("web", tmp_path):
        assert (tmp_path / "web.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_on_a_file_that_its_owner_has_removed_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web.lock"
    path.touch()
    real_flock = lock.fcntl.flock

    def owner_leaves_just_before(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(lock.fcntl, "flock", real_flock)
        path.unlink()
        real_flock(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", owner_leaves_just_before)
    with lock.hold("web", tmp_path), pytest.raises(lock.AlreadyRunning):
        lock.hold("web", tmp_path).__enter__()
