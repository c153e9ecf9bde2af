"""nginx: a main process and workers. QUIT is graceful, TERM fast (nginx.org, "Controlling nginx")."""

from __future__ import annotations

from functools import partial
from signal import SIGQUIT, SIGTERM

from netns.linux.programs import needed, program_version
from netns.web.kind import BACKLOG, KEEP_ALIVE_S, ServerKind, Web


def command(web: Web) -> list[str]:
    return [needed("nginx"), "-p", str(web.directory), "-c", "nginx.conf", "-e", "error.log"]


def configuration(web: Web) -> tuple[str, str]:
    """All of it, relative to the prefix it is run with. Nothing of the host's nginx is read or written."""
    listen = "\n".join(f"    listen {port} backlog={BACKLOG};" for port in web.ports)
    temporary = "\n".join(f"  {kind}_temp_path tmp_{kind};" for kind in ("client_body", "proxy", "fastcgi"))
    text = f"""\
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
  keepalive_timeout {KEEP_ALIVE_S}s;
  keepalive_requests 1000000000;
  server {{
{listen}
    root www;
    location = / {{
      default_type text/plain;
      try_files /index.html =404;
      error_page 405 =200 /index.html;  # a POST: a file takes none
    }}
  }}
}}
"""
    return "nginx.conf", text


KIND = ServerKind(
    name="nginx",
    graceful=SIGQUIT,
    abrupt=SIGTERM,
    version=partial(program_version, "nginx", "-v"),
    fix="apt-get install nginx",
    command=command,
    configuration=configuration,
)
