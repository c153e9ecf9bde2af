"""gunicorn: an arbiter and workers with threads, which is the worker class that keeps connections alive.

TERM is graceful, QUIT quick (docs.gunicorn.org, "Signal Handling").
"""

from __future__ import annotations

import sys
from functools import partial
from signal import SIGQUIT, SIGTERM
from typing import Final

from netns.web.kind import BACKLOG, KEEP_ALIVE_S, PROGRAMS, ServerKind, Web
from netns.web.python import python_fix, python_version

WORKERS: Final = 2
THREADS: Final = 32


def command(web: Web) -> list[str]:
    settings = {
        "chdir": PROGRAMS,
        "worker-class": "gthread",
        "workers": WORKERS,
        "threads": THREADS,
        "worker-connections": 16384,
        "keep-alive": KEEP_ALIVE_S,
        "backlog": BACKLOG,
        "worker-tmp-dir": web.directory,
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    bind = [f"--bind=0.0.0.0:{port}" for port in web.ports]
    return [sys.executable, "-m", "gunicorn", *options, *bind, "--no-control-socket", "demo:wsgi"]


KIND = ServerKind(
    name="gunicorn",
    graceful=SIGTERM,
    abrupt=SIGQUIT,
    version=partial(python_version, "gunicorn"),
    fix=python_fix("gunicorn"),
    command=command,
)
