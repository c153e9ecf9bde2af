"""A container's network namespace, entered from outside by the pid of the container's first process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from netns import namespace, process
from netns.docker.container import Container
from netns.errors import LabError, MissingError

Result = TypeVar("Result")


class Gone(LabError):
    """The container has ended, and its namespace with all that was in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A process that leads a container, told apart from any later owner of its pid."""

    pid: int
    started: int
    """Clock ticks after boot."""
    inode: int
    """Of its network namespace."""

    @property
    def root(self) -> Path:
        """The container's files."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def there(self) -> bool:
        return process.started(self.pid) == self.started

    def inside(self, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in the container's network; raises Gone."""
        try:
            handle = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        except OSError as error:
            raise Gone(f"the container of pid {self.pid} has ended") from error
        try:
            # Asked once the handle holds the namespace: the pid can't have changed hands in between.
            if os.fstat(handle).st_ino != self.inode or not self.there:
                raise Gone(f"the container of pid {self.pid} has ended")
            return namespace.inside(f"/proc/self/fd/{handle}", function)
        finally:
            os.close(handle)


def of(container: Container) -> Place:
    """The place of a container that runs; raises Gone when it has ended meanwhile.

    MissingError when its pid is none of this machine's: the engine may be elsewhere, or in a virtual machine.
    """
    try:
        started = process.started(container.pid)
        inode = os.stat(f"/proc/{container.pid}/ns/net").st_ino
        groups = Path(f"/proc/{container.pid}/cgroup").read_text()
    except OSError as error:
        raise Gone(f"{container.name} has ended") from error
    if container.id not in groups:
        raise MissingError(
            f"{container.name} is no process of this machine: run this where the Docker Engine runs"
        )
    if started is None:
        raise Gone(f"{container.name} has ended")
    return Place(container.pid, started, inode)
