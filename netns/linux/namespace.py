"""Network namespaces: made under a name, entered, removed again only if they are the ones that were made.

A namespace belongs to a thread, so entering one takes a thread of its own that ends with the work: no fork,
and the caller stays where it is.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from pyroute2 import netns as named

from netns.errors import LabError, MissingError

RUN = Path("/run/netns")
CLONE_NEWNET = 0x40000000
"""From linux/sched.h; os.unshare() is there only from Python 3.12."""

Result = TypeVar("Result")


def create(name: str, record: Callable[[int], None]) -> None:
    """Make the namespace `name`; LabError when the name is taken.

    `record` is given the new namespace's inode number before the name exists, so that whoever finds the
    record knows what is theirs to remove, wherever the caller was killed.
    """
    if os.path.lexists(RUN / name):
        raise LabError(f"a network namespace {name!r} is there already, and this lab did not make it")

    def make() -> None:
        _unshare()
        record(os.stat("/proc/thread-self/ns/net").st_ino)
        named.attach(name, threading.get_native_id())

    _in_thread(make)


def remove(name: str, inode: int) -> bool:
    """Remove the namespace `name` if it is still the one with that inode number; whether it was ours or gone.

    The kernel frees it once the last process in it ends.
    """
    path = RUN / name
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    never_mounted = found.st_dev != os.stat("/proc/self/ns/net").st_dev and found.st_size == 0
    if found.st_ino != inode and not never_mounted:
        return False
    named.remove(name)
    return True


def identity(name: str) -> int | None:
    """The inode number of the namespace of that name, None when there is none."""
    try:
        return (RUN / name).stat().st_ino
    except FileNotFoundError:
        return None


def inside(name: str, function: Callable[[], Result]) -> Result:
    """What `function` returns, or raises, when called in the namespace `name`."""

    def enter() -> Result:
        named.setns(name, flags=0)
        return function()

    return _in_thread(enter)


def inside_a_new_one(function: Callable[[], Result]) -> Result:
    """What `function` returns, or raises, in a nameless namespace that ends with the call."""

    def enter() -> Result:
        _unshare()
        return function()

    return _in_thread(enter)


def command(name: str, argv: list[str]) -> list[str]:
    """The command line that runs `argv` in the namespace `name`, in the same process (nsenter(1))."""
    return ["nsenter", f"--net={RUN / name}", "--", *argv]


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise MissingError(
            f"can't make a network namespace: {os.strerror(number)}; `l4lab doctor` says what is missing"
        )


def _in_thread(function: Callable[[], Result]) -> Result:
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            outcome.set_exception(error)

    thread = threading.Thread(target=work, name="in-namespace")
    thread.start()
    thread.join()
    return outcome.result()
