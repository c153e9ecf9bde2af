"""Node.js with its http module, one process.

By itself Node ends at once on TERM: what is graceful is the application's (programs/demo.js). INT, which that
leaves alone, ends it at once.
"""

from __future__ import annotations

from functools import partial
from signal import SIGINT, SIGTERM

from netns.linux.programs import needed, program_version
from netns.web.kind import PROGRAMS, ServerKind, Web


def command(_: Web) -> list[str]:
    return [needed("node"), str(PROGRAMS / "demo.js")]


KIND = ServerKind(
    name="node",
    graceful=SIGTERM,
    abrupt=SIGINT,
    version=partial(program_version, "node", "--version"),
    fix="apt-get install nodejs",
    command=command,
)
