"""What a kind of web server is to the lab: how it is found, set up, run, and told to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from signal import Signals
from typing import Final

KEEP_ALIVE_S: Final = 3600
"""How long each kind leaves an idle connection open: longer than any run, so that only a stop ends it."""

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: as many as net.core.somaxconn allows."""

PROGRAMS: Final = Path(__file__).parent / "programs"
"""What the kinds that need an application, or are none, run. By path: a package takes long to import."""


class StopSignal(Enum):
    """How a web server is told to stop."""

    GRACEFUL = "graceful"
    """The kind's own signal for: finish the requests under way, then end."""
    ABRUPT = "abrupt"
    """The kind's own for: end now."""
    KILL = "kill"
    """SIGKILL to all its processes."""
    KILL_MAIN = "kill-main"
    """SIGKILL to its main process only, as the kernel's OOM killer does: its workers are left."""
    QUIT = "quit"
    TERM = "term"


@dataclass(frozen=True, slots=True)
class ServerKind:
    """One kind of web server, told apart from the others by data and functions only."""

    name: str
    graceful: Signals
    abrupt: Signals
    version: Callable[[], str | None]
    """What is installed of it; None: nothing."""
    fix: str
    """How to install it."""
    command: Callable[[Web], list[str]]
    """The command line that runs it in the foreground."""
    configuration: Callable[[Web], tuple[str, str]] | None = None
    """The name and text of the file that it is configured by, under the server's directory."""
    settle_s: float = 0.0
    """How long its first process is watched once it listens: a user's command may go into the background."""
    pid_file: str = ""
    """One under the server's directory by which it takes itself to be running, though it was killed."""

    def signal(self, how: StopSignal) -> Signals:
        """What is sent to stop it that way."""
        match how:
            case StopSignal.GRACEFUL:
                return self.graceful
            case StopSignal.ABRUPT:
                return self.abrupt
            case StopSignal.KILL | StopSignal.KILL_MAIN:
                return Signals.SIGKILL
            case StopSignal.QUIT:
                return Signals.SIGQUIT
            case StopSignal.TERM:
                return Signals.SIGTERM


@dataclass(frozen=True, slots=True)
class Web:
    """One node's web server: its files and its ports."""

    server: str
    kind: ServerKind
    directory: Path
    ports: tuple[int, ...]
    health_files: tuple[Path, ...]

    @property
    def root(self) -> Path:
        return self.directory / "www"

    @property
    def access_log(self) -> Path:
        return self.directory / "access.log"

    @property
    def log(self) -> Path:
        """The server's stdout and stderr."""
        return self.directory / "web.log"

    @property
    def healthy(self) -> bool:
        """Whether every health file has its name."""
        return all(file.exists() for file in self.health_files)

    @property
    def environment(self) -> dict[str, str]:
        """What the server finds in its environment, beside what l4lab was started in."""
        return {
            "L4LAB_SERVER": self.server,
            "L4LAB_PORT": ",".join(map(str, self.ports)),
            "L4LAB_ROOT": str(self.root),
            "L4LAB_ACCESS_LOG": str(self.access_log),
        }
