"""The box inside the lab: its configuration file, its start, the wait for its API."""

from __future__ import annotations

import fcntl
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from lb.config import BoxConfig
from netns.errors import LabError, UnreachableError
from netns.linux import process, programs
from netns.linux.process import Process, Record

if TYPE_CHECKING:
    from lb.client import BoxClient

SOCKETS = Path("/run/l4box")
START_S = 20.0
"""A box that has not answered by then will not."""


def socket_path(name: str) -> Path:
    return SOCKETS / f"{name}.sock"


def write_configuration(config: BoxConfig, path: Path) -> None:
    path.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))


def command(configuration: Path) -> list[str]:
    """The command line that runs the box in the foreground."""
    return [sys.executable, "-m", "lb.cli", "run", "-c", str(configuration)]


def client(name: str) -> BoxClient:
    """A client of the box's API."""
    from lb.client import BoxClient

    return BoxClient(socket_path(name))


def listening(name: str) -> bool:
    """Whether something accepts connections on the box's socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(socket_path(name)))
        except OSError:
            return False
    return True


def start(name: str, where: str, directory: Path, record: Record) -> Process:
    """Start the box of `directory`/box.toml in the namespace `where`; return once GET /healthz answers 200.

    LabError, with the end of its log, when it ends before or does not answer.
    """
    started = process.spawn(
        where,
        command(directory / "box.toml"),
        log=log(directory),
        record=record,
        env=programs.environment(),
    )
    deadline = time.monotonic() + START_S
    while not _answers(name):
        if not process.members(started):
            raise LabError(
                f"the box ended before it was ready; its log says:\n{process.last_lines(started.log)}"
            )
        if time.monotonic() > deadline:
            raise LabError(
                f"the box does not answer on {socket_path(name)} after {START_S:g} s; its log says:\n"
                f"{process.last_lines(started.log)}"
            )
        time.sleep(0.02)
    return started


def log(directory: Path) -> Path:
    return directory / "box.log"


def servers(name: str) -> list[dict[str, Any]]:
    """The servers as the box sees them; UnreachableError when its API does not say."""
    from lb.client import BoxError

    try:
        with client(name) as api:
            return api.servers()
    except BoxError as error:
        raise UnreachableError(str(error)) from error


def _answers(name: str) -> bool:
    from lb.client import BoxError

    if not listening(name):
        return False
    try:
        with client(name) as api:
            api.healthz()
    except BoxError:
        return False
    return True


def remove_leftovers(name: str) -> None:
    """Remove the socket and the lock of a box that was killed; those of a living one, somebody's, stay."""
    lock = SOCKETS / f"{name}.lock"
    with suppress(FileNotFoundError), lock.open("rb+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        lock.unlink()
    if not listening(name):
        socket_path(name).unlink(missing_ok=True)
