"""A client of a running box's API, over its Unix socket.

    with BoxClient("/run/l4box/l4box.sock") as box:
        box.disable("rs1")
        for event in box.events(follow=True): ...

Answers are plain dicts and lists, their fields as in docs/json.md.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import httpx

PAGE: Final = 1000
_CONNECT_S: Final = 2.0

Json = dict[str, Any]
Parameter = str | int | bool | None
Action = Literal["enable", "disable", "shutdown"]


class BoxError(Exception):
    """The box did not do what was asked."""


class Unreachable(BoxError):
    """Nothing answers on the socket, or it stopped answering."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"no box answers on {path}: {reason}")


class Denied(BoxError):
    """The socket is not for this user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"no permission to use {path}: run as root or as a member of its group")


class ApiError(BoxError):
    """The box refused; `code` is one of the closed list in docs/json.md."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class BoxClient:
    """The box behind a socket. Every method raises Unreachable, Denied or ApiError."""

    def __init__(self, path: Path | str, timeout_s: float = 30.0) -> None:
        self.path = Path(path)
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)),
            base_url="http://l4box",
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def healthz(self) -> Json:
        return self._call("GET", "/healthz")

    def stats(self) -> Json:
        return self._call("GET", "/v1/stats")

    def servers(self) -> list[Json]:
        return self._servers("GET", "/v1/servers")

    def enable(self, name: str, virtual_server: str | None = None) -> list[Json]:
        """Check the server again. Like the next two: the servers concerned, as they are afterwards."""
        return self._change(name, "enable", virtual_server)

    def disable(self, name: str, virtual_server: str | None = None) -> list[Json]:
        return self._change(name, "disable", virtual_server)

    def shutdown(self, name: str, virtual_server: str | None = None) -> list[Json]:
        return self._change(name, "shutdown", virtual_server)

    def sessions(
        self,
        *,
        server: str | None = None,
        virtual_server: str | None = None,
        client: str | None = None,
        vip: str | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Json]:
        """The sessions that match, at most `limit`, fetched page by page as they are asked for."""
        asked = min(limit or PAGE, PAGE)
        filters = _filters(server, virtual_server, client, vip, state) | {"limit": asked}
        return islice(self._sessions(filters), limit)

    def clear_sessions(
        self,
        *,
        server: str | None = None,
        virtual_server: str | None = None,
        client: str | None = None,
        vip: str | None = None,
        state: str | None = None,
        everything: bool = False,
    ) -> int:
        """Remove the sessions that match and say how many; with no filter, `everything` must be set."""
        filters = _filters(server, virtual_server, client, vip, state) | {"all": everything}
        cleared: int = self._call("DELETE", "/v1/sessions", filters)["cleared"]
        return cleared

    def explain(self, client: str, vip: str | None = None) -> Json:
        """What the box would do with a packet from an address, or address:port, and why."""
        return self._call("GET", "/v1/explain", {"client": client, "vip": vip})

    def events(self, *, since: int | None = None, follow: bool = False) -> Iterator[Json]:
        """Events after number `since` (-10: the last ten), or all; with `follow` also those to come."""
        parameters = _given({"since": since, "follow": follow})
        timeout: Any = httpx.Timeout(None, connect=_CONNECT_S) if follow else httpx.USE_CLIENT_DEFAULT
        with (
            self._reaching(),
            self._http.stream("GET", "/v1/events", params=parameters, timeout=timeout) as response,
        ):
            if response.is_error:
                response.read()
                raise _refusal(response)
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)

    def _sessions(self, parameters: dict[str, Parameter]) -> Iterator[Json]:
        cursor = None
        while True:
            page = self._call("GET", "/v1/sessions", parameters | {"cursor": cursor})
            yield from page["sessions"]
            cursor = page["next"]
            if cursor is None:
                return

    def _change(self, name: str, action: Action, virtual_server: str | None) -> list[Json]:
        path = f"/v1/servers/{quote(name, safe='')}/{action}"
        return self._servers("POST", path, {"virtual_server": virtual_server})

    def _servers(self, method: str, path: str, parameters: dict[str, Parameter] | None = None) -> list[Json]:
        found: list[Json] = self._call(method, path, parameters)["servers"]
        return found

    def _call(self, method: str, path: str, parameters: dict[str, Parameter] | None = None) -> Json:
        with self._reaching():
            response = self._http.request(method, path, params=_given(parameters or {}))
        if response.is_error:
            raise _refusal(response)
        answer: Json = response.json()
        return answer

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        self._knock()
        try:
            yield
        except httpx.TransportError as error:
            raise Unreachable(self.path, str(error) or type(error).__name__) from error

    def _knock(self) -> None:
        """Connect and hang up: where that fails, httpx would leave a socket open and hide the reason."""
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(_CONNECT_S)
            try:
                knocking.connect(str(self.path))
            except PermissionError:
                raise Denied(self.path) from None
            except OSError as error:
                raise Unreachable(self.path, error.strerror or str(error)) from None


def _filters(
    server: str | None, virtual_server: str | None, client: str | None, vip: str | None, state: str | None
) -> dict[str, Parameter]:
    return {
        "server": server,
        "virtual_server": virtual_server,
        "client": client,
        "vip": vip,
        "state": state,
    }


def _given(parameters: dict[str, Parameter]) -> dict[str, str | int | bool]:
    return {name: value for name, value in parameters.items() if value is not None}


def _refusal(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        return ApiError(response.status_code, error["code"], error["message"])
    except (ValueError, KeyError, TypeError):  # somebody else's socket
        return ApiError(response.status_code, "unexpected_answer", f"HTTP {response.status_code}")
