"""Tests side by side: each worker of `pytest -n` has a /run of its own.

A lab is known to the machine by its name: /run/netns has its namespaces, /run/l4lab its state, /run/l4box the
box's socket. With a /run of its own a worker makes labs of the same names as another, and finds only its own.

Tests marked `alone` measure time or load the machine: they run without -n, with nothing beside them.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

CLONE_NEWNS: Final = 0x00020000
"""From linux/sched.h; os.unshare() is there only from Python 3.12."""

_SHARED: Final = re.compile(r'scope="(module|session)"|^def test_.*\bl4lab\b', re.MULTILINE)
"""In the source of a test file: its tests share a lab. xdist's controller knows names of tests only."""


def pytest_configure(config: pytest.Config) -> None:
    """Move a worker to its own /run, before it collects tests. Without root there are no labs."""
    if not hasattr(config, "workerinput"):
        return
    os.environ.pop("COLUMNS", None)  # xdist sets it for itself; commands under test would fold their output
    if os.geteuid() == 0:
        _own_run()


@pytest.hookimpl(optionalhook=True)  # where xdist is left out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadscope`, deal out tests one by one, and those that share a lab as one."""
    return _OneByOne(config, log) if config.getoption("dist") == "loadscope" else None


class _OneByOne(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of a file that makes one lab for several stay in one worker; others go to whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares_a_lab(self.config.rootpath / file) else nodeid


@cache
def _shares_a_lab(file: Path) -> bool:
    return _SHARED.search(file.read_text()) is not None


def _own_run() -> None:
    """Move this thread, and all that it starts from now on, to a mount namespace with an empty /run."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no mount namespace: {os.strerror(number)}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
