"""Apache httpd, Debian's, with the event MPM: a parent and a child with threads.

WINCH is graceful-stop, TERM stops now (httpd.apache.org/docs/2.4/stopping.html).
"""

from __future__ import annotations

from pathlib import Path
from signal import SIGTERM, SIGWINCH
from typing import Final

from netns.linux.programs import needed, program_version
from netns.web.kind import BACKLOG, KEEP_ALIVE_S, ServerKind, Web

MODULES: Final = Path("/usr/lib/apache2/modules")
LOADED: Final = ("mpm_event", "authz_core", "dir")
"""Debian has log_config and unixd built in."""

THREADS: Final = 64

PID_FILE: Final = "apache.pid"


def version() -> str | None:
    """None, too, where its modules are not where Debian has them."""
    return program_version("apache2", "-v") if (MODULES / "mod_mpm_event.so").exists() else None


def command(web: Web) -> list[str]:
    return [needed("apache2"), "-D", "FOREGROUND", "-d", str(web.directory), "-f", "apache.conf"]


def configuration(web: Web) -> tuple[str, str]:
    """All of it, relative to its ServerRoot. Nothing of the host's Apache is read or written but modules."""
    modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in LOADED)
    listen = "\n".join(f"Listen 0.0.0.0:{port}" for port in web.ports)
    # %{end:…}t is the time at the request's end. The event MPM holds a connection that is kept alive without
    # a thread, and closes some early when they are more than AsyncRequestWorkerFactor for each idle thread.
    text = f"""\
{modules}
ServerName {web.server}
{listen}
ListenBacklog {BACKLOG}
DefaultRuntimeDir .
PidFile {PID_FILE}
User #65534
Group #65534
ErrorLog error.log
LogFormat "%{{end:sec}}t.%{{end:usec_frac}}t %a:%{{remote}}p %A \\"%r\\" %>s %B \\"%{{User-Agent}}i\\"" lab
CustomLog access.log lab
ServerLimit 1
StartServers 1
ThreadsPerChild {THREADS}
MaxRequestWorkers {THREADS}
MinSpareThreads 1
MaxSpareThreads {THREADS}
AsyncRequestWorkerFactor 250
KeepAlive On
KeepAliveTimeout {KEEP_ALIVE_S}
MaxKeepAliveRequests 0
DocumentRoot www
DirectoryIndex index.html
<Directory "{web.root}">
  Require all granted
  ForceType text/plain
</Directory>
"""
    return "apache.conf", text


KIND = ServerKind(
    name="apache",
    graceful=SIGWINCH,
    abrupt=SIGTERM,
    version=version,
    fix="apt-get install apache2-bin (Debian's: there is no service in that package)",
    command=command,
    configuration=configuration,
    pid_file=PID_FILE,
)
