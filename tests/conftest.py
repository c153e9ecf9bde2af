"""Tests side by side: each worker of `pytest -n` has a /run of its own.

A lab is known to the machine by its name: /run/netns has its namespaces, /run/l4lab its state, /run/l4box the
box's socket. With a /run of its own a worker makes labs of the same names as another, and finds only its own.

Tests marked `alone` measure time or load the machine: they run without -n, with nothing beside them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import Final

import pytest

CLONE_NEWNS: Final = 0x00020000
"""From linux/sched.h; os.unshare() is there only from Python 3.12."""


def pytest_configure(config: pytest.Config) -> None:
    """Move a worker to its own /run, before it collects tests. Without root there are no labs."""
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        _own_run()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their module stay in one worker, which makes that fixture once."""
    for item in items:
        if _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares(item: pytest.Item) -> bool:
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.values() if info is not None else ()
    return any(
        one.scope in ("module", "session") and one.baseid for several in definitions for one in several
    ) or "l4lab" in getattr(item, "fixturenames", ())


def _own_run() -> None:
    """Move this thread, and all that it starts from now on, to a mount namespace with an empty /run."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no mount namespace: {os.strerror(number)}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
