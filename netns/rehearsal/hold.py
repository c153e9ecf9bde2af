"""What a rehearsal holds while it lasts: the lab for itself, and what its command leaves on the nodes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from netns.errors import LabError
from netns.lab.interface import Lab

PR_SET_CHILD_SUBREAPER: Final = 36
"""prctl(2): what descendants leave behind becomes a child of this process, and not of init."""


@contextmanager
def alone(lab: Lab) -> Iterator[None]:
    """Nobody else rehearses in the lab meanwhile: LabError when somebody does."""
    with (lab.directory / "rehearsal.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                f"the lab {lab.name!r} is being rehearsed by another command: wait until it ends, or choose "
                "another lab (--name)"
            ) from None
        yield


@contextmanager
def adopting(lab: Lab) -> Iterator[None]:
    """Whatever the command's descendants leave running on the lab's nodes is ours, and ended at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for pid in lab.left_behind():
            os.kill(pid, signal.SIGKILL)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
