"""The web servers of the lab: what a server node serves, and how its server is started.

Each node has a root of its own: `/` answers the node's name, and the health files of its virtual servers are
there to be renamed, as teams do. Connections are kept alive for as long as a client likes: what ends them is
what the lab is about.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Literal

import lb
from netns import namespace, process
from netns.config import LabConfig
from netns.errors import LabError, MissingError
from netns.process import Process, Record

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where system programs are, whatever PATH root has."""

OFF = ".off"
"""What a health file's name gets appended to take its server out."""


START_S = 10.0
"""A web server that does not listen by then will not."""


class StopSignal(Enum):
    """How a web server is told to stop; by QUIT nginx serves what is in flight, closes what is idle, ends."""

    QUIT = signal.SIGQUIT
    TERM = signal.SIGTERM
    KILL = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Web:
    """One node's web server: its files and its ports."""

    server: str
    kind: Literal["nginx", "builtin"]
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


def installed(program: str) -> str | None:
    """The path of a system program, None when it is not installed."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def decide(config: LabConfig) -> LabConfig:
    """`config` with each server's `web` decided; MissingError when one that is asked for is not installed."""
    nginx = installed("nginx")
    servers = []
    for server in config.server:
        if server.web == "nginx" and nginx is None:
            raise MissingError(
                f'server {server.name!r} has web = "nginx", which is not installed: '
                f'`apt-get install nginx`, or web = "builtin"'
            )
        servers.append(server.model_copy(update={"web": server.web or ("nginx" if nginx else "builtin")}))
    return config.model_copy(update={"server": tuple(servers)})


def of(config: LabConfig, server: str, directory: Path) -> Web:
    """The web server of the node `server`, with its files under `directory`."""
    kind = next(entry.web for entry in config.server if entry.name == server)
    services = config.services_of(server)
    home = directory / server
    return Web(
        server=server,
        kind=kind or "builtin",
        directory=home,
        ports=tuple(sorted({service.port for service in services})) or (80,),
        health_files=tuple(sorted({home / "www" / service.health_file for service in services})),
    )


def make_files(web: Web) -> None:
    """Write the node's pages and, for nginx, its configuration."""
    web.root.mkdir(parents=True)
    (web.root / "index.html").write_text(f"{web.server}\n")
    for file in web.health_files:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():  # the health check may ask for a page that is there anyway
            file.write_text("OK\n")
    if web.kind == "nginx":
        (web.directory / "nginx.conf").write_text(nginx_configuration(web.ports))


def command(web: Web) -> list[str]:
    """The command line that runs the web server in the foreground."""
    if web.kind == "nginx":
        nginx = installed("nginx")
        if nginx is None:
            raise MissingError("nginx is not installed any more: `apt-get install nginx`")
        return [nginx, "-p", str(web.directory), "-c", "nginx.conf", "-e", "error.log"]
    ports = [str(port) for port in web.ports]
    log = ["--access-log", str(web.access_log)]
    return [sys.executable, "-m", "netns.builtin_web", "--root", str(web.root), *log, *ports]


def start(web: Web, where: str, record: Record) -> Process:
    """Start the web server in the namespace `where` and return once it listens; LabError when it does not."""
    started = process.spawn(where, command(web), log=web.log, record=record, env=environment())
    deadline = time.monotonic() + START_S
    while not namespace.inside(where, partial(_listens, web.ports)):
        if not process.members(started):
            raise LabError(f"{web.server}: {web.kind} ended at once; it says:\n{process.last_lines(web.log)}")
        if time.monotonic() > deadline:
            raise LabError(f"{web.server}: {web.kind} does not listen after {START_S:g} s")
        time.sleep(process.POLL_S)
    return started


def _listens(ports: Sequence[int]) -> bool:
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return False
    return True


def environment() -> dict[str, str]:
    """The environment of what the lab runs: this code importable from cwd /, system programs found, and none
    of the host's proxies, which no node can reach."""
    source = str(Path(lb.__file__).parent.parent)
    kept = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}", "PYTHONPATH": source}


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


def nginx_configuration(ports: Sequence[int]) -> str:
    """nginx.conf, relative to the prefix it is run with. Nothing of the host's nginx is read or written."""
    listen = "\n".join(f"    listen {port} backlog=4096;" for port in ports)
    temporary = "\n".join(f"  {kind}_temp_path tmp_{kind};" for kind in ("client_body", "proxy", "fastcgi"))
    return f"""\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
lock_file nginx.lock;
error_log error.log notice;
events {{ worker_connections 16384; }}
http {{
  log_format lab '$msec $remote_addr:$remote_port $server_addr "$request" $status $body_bytes_sent '
                 'connection=$connection request=$connection_requests "$http_user_agent"';
  access_log access.log lab;
{temporary}
  uwsgi_temp_path tmp_uwsgi;
  scgi_temp_path tmp_scgi;
  types {{ text/html html; }}
  default_type application/octet-stream;
  sendfile on;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  server {{
{listen}
    root www;
    location = / {{
      default_type text/plain;
      try_files /index.html =404;
      error_page 405 =200 /index.html;  # a POST of a file
    }}
  }}
}}
"""
