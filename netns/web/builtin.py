"""A web server of Python's standard library, for machines that have no other; it stops by nginx's signals."""

from __future__ import annotations

import platform
import sys
from signal import SIGQUIT, SIGTERM

from netns.web.kind import PROGRAMS, ServerKind, Web


def command(_: Web) -> list[str]:
    return [sys.executable, str(PROGRAMS / "builtin.py")]


KIND = ServerKind(
    name="builtin",
    graceful=SIGQUIT,
    abrupt=SIGTERM,
    version=platform.python_version,
    fix="it is a part of l4lab",
    command=command,
)
