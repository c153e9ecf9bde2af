"""The user's own server: `command = "…"` of a [[server]] in lab.toml.

Its words are run as they are, by no shell, in the server's `directory`; words like NAME=VALUE before the
program are its environment, as in env(1). The program has to stay in the foreground. These are filled in, and
are in its environment too:

| in the command | in its environment | |
| --- | --- | --- |
| `{server}` | `L4LAB_SERVER` | the node's name, to answer `/` with: clients know by it who answered |
| `{port}` | `L4LAB_PORT` | the port to listen on, at every address; several have commas between them |
| `{root}` | `L4LAB_ROOT` | the directory that the health file is in |
| `{access_log}` | `L4LAB_ACCESS_LOG` | where to log requests, as `parse_served` (netns/observe) reads them |
"""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Final

from netns.linux.programs import installed
from netns.plan.config import Server
from netns.web.kind import ServerKind, Web

SETTLE_S: Final = 0.2
"""A daemon's first process ends within milliseconds of listening."""


def kind(entry: Server) -> ServerKind:
    """The kind of a server that has a command."""
    words = shlex.split(entry.command or "")
    directory = entry.directory or Path("/")
    return ServerKind(
        name="command",
        graceful=Signals[f"SIG{entry.graceful_signal or 'TERM'}"],
        abrupt=Signals[f"SIG{entry.abrupt_signal or 'KILL'}"],
        version=partial(_program, words, directory),
        fix=f"it begins with the path of a program, from {directory} on, or the name of one in PATH",
        command=partial(_command, words, directory),
        settle_s=SETTLE_S,
    )


def _program(words: list[str], directory: Path) -> str | None:
    """The path of the program that the command runs."""
    name = next((word for word in words if not re.match(r"\w+=", word)), "")
    if "/" not in name:
        return installed(name) if name else None
    path = directory / name
    return str(path) if path.is_file() and os.access(path, os.X_OK) else None


def _command(words: list[str], directory: Path, web: Web) -> list[str]:
    filled = []
    for word in words:
        for name, value in web.environment.items():
            word = word.replace(f"{{{name.removeprefix('L4LAB_').lower()}}}", value)
        filled.append(word)
    return ["env", f"--chdir={directory}", *filled]
