"""uvicorn, one process.

It handles TERM and INT, and both are graceful (uvicorn.server.HANDLED_SIGNALS); only a second INT hurries it.
So its abrupt stop is by a signal that it does not handle: the kernel ends it.
"""

from __future__ import annotations

import sys
from functools import partial
from signal import SIGQUIT, SIGTERM

from netns.web.kind import PROGRAMS, ServerKind, Web
from netns.web.python import python_fix, python_version


def command(_: Web) -> list[str]:
    return [sys.executable, str(PROGRAMS / "demo.py")]


KIND = ServerKind(
    name="uvicorn",
    graceful=SIGTERM,
    abrupt=SIGQUIT,
    version=partial(python_version, "uvicorn"),
    fix=python_fix("uvicorn"),
    command=command,
)
