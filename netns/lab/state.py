"""The state file: what `up` has made, written before each step, so that `down` removes that and nothing else.

/run/l4lab/NAME.json   the state      /run/l4lab/NAME/   configuration, web roots, logs
/run/l4lab/NAME.lock   held while a command changes the lab
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from netns.errors import LabError
from netns.linux.process import Process

RUN = Path("/run/l4lab")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
"""As lb.config.Name: a lab's name is part of a path that gets removed."""

NAMESPACES, CONTAINERS, PROJECT = "namespaces", "containers", "project"


@dataclass(frozen=True, slots=True)
class State:
    """One lab as it was made, or as far as it was made."""

    name: str
    config: dict[str, Any]
    """The LabConfig as JSON, with each server's `web` decided."""
    asked: dict[str, Any]
    """The LabConfig as it was asked for."""
    ready: bool = False
    """`up` made all of it."""
    on: str = NAMESPACES
    """What its nodes are: NAMESPACES, CONTAINERS, or a user's PROJECT, of which none is to be removed."""
    namespaces: dict[str, int] = field(default_factory=dict)
    """Inode number of each namespace, by name."""
    processes: dict[str, Process] = field(default_factory=dict)
    """By what they are: "box", "web rs1", "capture …"."""

    @property
    def directory(self) -> Path:
        return RUN / self.name


def names() -> list[str]:
    """The labs that have a state file."""
    return sorted(path.stem for path in RUN.glob("*.json")) if RUN.is_dir() else []


def read(name: str) -> State | None:
    """The lab's state, None when there is no such lab."""
    _check(name)
    try:
        document = json.loads((RUN / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    try:
        document["processes"] = {role: Process(**fields) for role, fields in document["processes"].items()}
        return State(**document)
    except (KeyError, TypeError) as error:
        raise LabError(f"{RUN / name}.json was not written by this version of l4lab: {error}") from error


def write(state: State) -> None:
    """Put the state on disk, whole or not at all."""
    fresh = RUN / f"{state.name}.json.new"
    fresh.write_text(json.dumps(asdict(state), indent=1))
    fresh.replace(RUN / f"{state.name}.json")


def forget(name: str) -> None:
    """Remove the state file; the lab's lock must be held."""
    for path in (RUN / f"{name}.json", RUN / f"{name}.json.new"):
        path.unlink(missing_ok=True)


def forget_all(made: State) -> None:
    """Remove the lab's directory and its state file; the lab's lock must be held."""
    if made.directory.exists():
        shutil.rmtree(made.directory)
    forget(made.name)


class Ledger:
    """The state of a lab that is being changed; every note is on disk before the call returns."""

    def __init__(self, state: State) -> None:
        self.state = state

    def namespace(self, name: str, inode: int) -> None:
        self._note(namespaces={**self.state.namespaces, name: inode})

    def namespace_gone(self, name: str) -> None:
        self._note(namespaces={k: v for k, v in self.state.namespaces.items() if k != name})

    def process(self, role: str, process: Process) -> None:
        self._note(processes={**self.state.processes, role: process})

    def process_gone(self, role: str) -> None:
        self._note(processes={k: v for k, v in self.state.processes.items() if k != role})

    def ready(self, ready: bool) -> None:
        self._note(ready=ready)

    def _note(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        write(self.state)


@contextmanager
def lock(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lab's lock; `waiting` is called when another command holds it. The file goes with the lock."""
    _check(name)
    path = RUN / f"{name}.lock"
    handle = _locked(path, waiting)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        with suppress(OSError):
            RUN.rmdir()


def _check(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise LabError(f"{name!r} is no lab's name: lower-case letters, digits and dashes are allowed")


def _locked(path: Path, waiting: Callable[[], None]) -> int:
    while True:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # another lab's command has just removed the empty directory
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever held it before has removed the file: the lock on what has no name is worth nothing.
            if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
