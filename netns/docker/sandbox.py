"""A container's sandbox, as Docker calls its network namespace, entered by its first process's pid."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from netns.docker.container import Container
from netns.errors import Gone, MissingError
from netns.linux import namespace, process

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Sandbox:
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
    def path(self) -> str:
        """What setns(2) enters."""
        return f"/proc/{self.pid}/ns/net"

    @property
    def there(self) -> bool:
        return process.started(self.pid) == self.started

    def inside(self, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in the container's network; raises Gone."""
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise Gone(f"the container of pid {self.pid} has ended") from error
        try:
            # Asked once the handle holds the namespace: the pid can't have changed hands in between.
            if os.fstat(handle).st_ino != self.inode or not self.there:
                raise Gone(f"the container of pid {self.pid} has ended")
            return namespace.inside(f"/proc/self/fd/{handle}", function)
        finally:
            os.close(handle)


def of(container: Container) -> Sandbox:
    """The sandbox of a container that runs; raises Gone when it has ended meanwhile.

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
    return Sandbox(container.pid, started, inode)
