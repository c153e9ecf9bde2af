"""The web servers of the lab: what a server node serves, and how its server is started and told to stop.

Each node has a root of its own: `/` answers the node's name, and the health files of its virtual servers are
there to be renamed, as teams do. Connections are kept alive for as long as a client likes: what ends them is
what the lab is about. Each kind has a file here; how they differ when told to stop is in docs/web-servers.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from netns.errors import LabError, MissingError
from netns.linux import namespace, process
from netns.linux.process import Process, Record
from netns.linux.programs import system_environment
from netns.linux.sock_diag import listening
from netns.plan.config import LabConfig, Server
from netns.web import apache, builtin, gunicorn, nginx, node, own, uvicorn
from netns.web.kind import ServerKind, StopSignal, Web

__all__ = ["KINDS", "ServerKind", "StopSignal", "Web"]

KINDS: Final[Mapping[str, ServerKind]] = {
    module.KIND.name: module.KIND for module in (nginx, apache, gunicorn, uvicorn, node, builtin)
}

OFF = ".off"
"""What a health file's name gets appended to take its server out."""

START_S = 60.0
"""Long for a server that runs and does not listen; one that has ended is not waited for."""

KILL_S = 5.0
"""How long a process may take to end by SIGKILL."""


def decide(config: LabConfig) -> LabConfig:
    """`config` with each server's `web` decided; MissingError when one that is asked for is not installed.

    A server with neither `web` nor `command` is nginx where nginx is installed, else the built-in one.
    """
    servers = tuple(_decided(server) for server in config.server)
    return config.model_copy(update={"server": servers})


def _decided(server: Server) -> Server:
    if server.web is None and server.command is None:
        there = KINDS["nginx"].version() is not None
        return server.model_copy(update={"web": "nginx" if there else "builtin"})
    kind = _kind(server)
    if kind.version() is None:
        asked = f"command = {server.command!r}" if server.command else f'web = "{server.web}"'
        raise MissingError(f"server {server.name!r} has {asked}, which is not installed: {kind.fix}")
    return server


def of(config: LabConfig, server: str, home: Path) -> Web:
    """The web server of the node `server`, with its files in `home`."""
    entry = next(entry for entry in config.server if entry.name == server)
    files = {home / "www" / service.health_file for service in config.services_of(server)}
    return Web(
        server=server,
        kind=_kind(entry),
        directory=home,
        ports=config.ports_of(server) or (80,),
        health_files=tuple(sorted(files)),
    )


def _kind(server: Server) -> ServerKind:
    return KINDS[server.web or "builtin"] if server.command is None else own.kind(server)


def make_files(web: Web) -> None:
    """Write the node's pages and its server's configuration."""
    web.root.mkdir(parents=True)
    (web.root / "index.html").write_text(f"{web.server}\n")
    for file in web.health_files:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():  # the health check may ask for a page that is there anyway
            file.write_text("OK\n")
    if web.kind.configuration is not None:
        name, text = web.kind.configuration(web)
        (web.directory / name).write_text(text)


def start(web: Web, where: str, record: Record) -> Process:
    """Start the web server in the namespace `where` and return once it listens itself.

    LabError when another process has its port, when it ends or does not listen, or leaves the foreground.
    """
    _refuse_taken_ports(web, where)
    if web.kind.pid_file:
        (web.directory / web.kind.pid_file).unlink(missing_ok=True)
    # Whoever started l4lab may ignore SIGINT and SIGQUIT, as a shell does for what it runs in the background,
    # and a server would, too. Nor does one that ends by SIGQUIT leave a core file.
    argv = ["env", "--default-signal", "prlimit", "--core=0", "--", *web.kind.command(web)]
    env = {**system_environment(), **web.environment}
    started = process.spawn(where, argv, log=web.log, record=record, env=env)
    deadline = time.monotonic() + START_S
    while not serves(web, where, started):
        require_foreground(web, started)
        if time.monotonic() > deadline:
            raise LabError(f"{web.server}: {web.kind.name} does not listen after {START_S:g} s; {_said(web)}")
        time.sleep(process.POLL_S)
    process.wait_for_leader(started, web.kind.settle_s)
    require_foreground(web, started)
    return started


def serves(web: Web, where: str, started: Process) -> bool:
    """Whether a process of `started` listens on each of the web server's ports.

    A daemon of its own that a first process in the foreground watches over is one of them.
    """
    taken = namespace.inside(where, listening)
    family = process.remains(started)
    return all(process.holders(taken.get(port, ()), family) for port in web.ports)


def require_foreground(web: Web, started: Process) -> None:
    """LabError when the first process of `started` has ended. What it has put into the background dies."""
    if started.pid in process.members(started):
        return
    left = process.remains(started)
    if not left:
        raise LabError(f"{web.server}: {web.kind.name} ended at once; {_said(web)}")
    names = ", ".join(f"{process.name(pid)} (pid {pid})" for pid in left)
    ended = process.kill_remains(started, KILL_S)
    raise LabError(
        f"{web.server}: {web.kind.name} went into the background: its first process ended and left {names}, "
        f"{'which the lab has killed' if ended else 'which does not end by SIGKILL'}. "
        "Keep it in the foreground: `nginx -g 'daemon off;'`, `apache2 -DFOREGROUND`, no `--daemon`, no `&`"
    )


def _refuse_taken_ports(web: Web, where: str) -> None:
    taken = namespace.inside(where, listening)
    on_node = process.in_namespace(namespace.identity(where) or 0)
    for port in web.ports:
        if port in taken:
            holders = process.holders(taken[port], (pid for pid, _ in on_node))
            by = ", ".join(f"{name} (pid {pid})" for pid, name in on_node if pid in holders)
            raise LabError(
                f"{web.server}: can't start {web.kind.name}: port {port} is taken by "
                f"{by or 'a process of another namespace'}; end it first"
            )


def _said(web: Web) -> str:
    return f"it says:\n{process.last_lines(web.log)}"


def health_off(web: Web) -> bool:
    """Rename the health files away, so that their check gets a 404; whether there was one to rename."""
    found = [file for file in web.health_files if file.exists()]
    for file in found:
        file.rename(file.with_name(file.name + OFF))
    return bool(found)


def health_on(web: Web) -> bool:
    """Give the health files their names back; whether one was renamed."""
    missing = [file for file in web.health_files if not file.exists()]
    for file in missing:
        file.with_name(file.name + OFF).rename(file)
    return bool(missing)
