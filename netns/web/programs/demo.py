"""What gunicorn and uvicorn serve in the lab: the files under a root, by GET and by POST.

An application as people write them, as WSGI (PEP 3333) and as ASGI 3. Stopping is left to the server that
runs it. Its access log is its own, because neither server's can tell when a request ended.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from wsgiref.types import StartResponse, WSGIEnvironment

ROOT = Path(os.environ["L4LAB_ROOT"])
CHUNK = 65536
ACCESS = os.open(os.environ["L4LAB_ACCESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

Message = dict[str, Any]


def find(path: str) -> Path | None:
    """The file that a path stands for, None when there is none under the root."""
    file = (ROOT / unquote(path).lstrip("/")).resolve()
    file = file / "index.html" if file.is_dir() else file
    return file if file.is_file() and file.is_relative_to(ROOT.resolve()) else None


def answer(method: str, path: str) -> tuple[int, str, Path | None]:
    """Status, reason and page."""
    if method not in ("GET", "POST"):
        return 405, "Method Not Allowed", None
    page = find(path)
    return (200, "OK", page) if page else (404, "Not Found", None)


def chunks(page: Path | None) -> Iterator[bytes]:
    if page is not None:
        with page.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


def log(client: str, mine: str, request: str, status: int, sent: int) -> None:
    """Note a request at its end; one short write to a file opened for appending is whole."""
    os.write(ACCESS, f'{time.time():.3f} {client} {mine} "{request}" {status} {sent}\n'.encode())


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    environ["wsgi.input"].read()
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    status, reason, page = answer(method, path)
    size = page.stat().st_size if page else 0
    start_response(f"{status} {reason}", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
    sent = 0
    try:
        for chunk in chunks(page):
            yield chunk
            sent += len(chunk)
    finally:
        client = f"{environ['REMOTE_ADDR']}:{environ['REMOTE_PORT']}"
        request = f"{method} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
        log(client, environ["SERVER_NAME"], request, status, sent)


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    while (await receive()).get("more_body"):
        pass
    status, _, page = answer(scope["method"], scope["path"])
    size = page.stat().st_size if page else 0
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(size).encode())]
    sent = 0
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks(page):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent += len(chunk)
        await send({"type": "http.response.body"})
    finally:
        (host, port), (mine, _) = scope["client"], scope["server"]
        target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode()).rstrip("?")
        log(f"{host}:{port}", mine, f"{scope['method']} {target} HTTP/{scope['http_version']}", status, sent)


def main() -> None:
    """Run it by uvicorn, whose command line knows one port only."""
    import uvicorn

    sockets = [
        socket.create_server(("", int(port)), backlog=4096) for port in os.environ["L4LAB_PORT"].split(",")
    ]
    config = uvicorn.Config(asgi, lifespan="off", access_log=False, backlog=4096, timeout_keep_alive=3600)
    uvicorn.Server(config).run(sockets)


if __name__ == "__main__":
    main()
