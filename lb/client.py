"""A client of a running box's API, over its Unix socket.

    with BoxClient("/run/l4box/l4box.sock") as box:
        box.disable("rs1")
        for event in box.events(follow=True): ...

Answers are plain dicts and lists, their fields as in docs/json.md.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Self, TypedDict, Unpack
from urllib.parse import quote

import httpx

PAGE: Final = 1000
_CONNECT_S: Final = 2.0
_IDLE_S: Final = 1.0
"""After so long a connection is not used again. The box (uvicorn) closes it after 5 s, and a request that is
sent at that moment fails."""
_ALL_SESSIONS_S: Final = 300.0
"""How long the box may take to act on a full table."""

Json = dict[str, Any]
Parameters = Mapping[str, object]
"""Of a request; None is left out."""

Action = Literal["enable", "disable", "shutdown"]


class Filters(TypedDict, total=False):
    """Which sessions are meant: all that are given have to match; addresses as in docs/json.md."""

    server: str | None
    virtual_server: str | None
    client: str | None
    vip: str | None
    state: str | None


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
            transport=httpx.HTTPTransport(uds=str(path), limits=httpx.Limits(keepalive_expiry=_IDLE_S)),
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
        return self._change(name, "enable", {"virtual_server": virtual_server})

    def disable(self, name: str, virtual_server: str | None = None, reset: bool = False) -> list[Json]:
        """No new flows; with `reset`, its sessions are reset from then on (the event reset_ended tells)."""
        return self._change(name, "disable", {"virtual_server": virtual_server, "reset": reset})

    def shutdown(
        self, name: str, virtual_server: str | None = None, drain_timeout_s: float | None = None
    ) -> list[Json]:
        """No new flows; what is left after the timeout, or the virtual server's own, is reset."""
        return self._change(
            name, "shutdown", {"virtual_server": virtual_server, "drain_timeout_s": drain_timeout_s}
        )

    def configuration(self) -> Json:
        """The configuration that the box goes by now."""
        found: Json = self._call("GET", "/v1/configuration")["configuration"]
        return found

    def configure(self, configuration: Json) -> Json:
        """Have the box go by another one, until it reads its file again; the one it goes by then."""
        taken: Json = self._call("PUT", "/v1/configuration", body=configuration)["configuration"]
        return taken

    def sessions(self, *, limit: int | None = None, **filters: Unpack[Filters]) -> Iterator[Json]:
        """The sessions that match, at most `limit`, fetched page by page as they are asked for."""
        return islice(self._sessions({**filters, "limit": min(limit or PAGE, PAGE)}), limit)

    def clear_sessions(self, *, everything: bool = False, **filters: Unpack[Filters]) -> int:
        """Remove the sessions that match and say how many; with no filter, `everything` must be set."""
        cleared: int = self._act("DELETE", "/v1/sessions", {**filters, "all": everything})["cleared"]
        return cleared

    def reset_sessions(self, *, everything: bool = False, **filters: Unpack[Filters]) -> int:
        """Reset the sessions that match and say how many; with no filter, `everything` must be set."""
        reset: int = self._act("POST", "/v1/sessions/reset", {**filters, "all": everything})["reset"]
        return reset

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

    def _sessions(self, parameters: Parameters) -> Iterator[Json]:
        cursor = None
        while True:
            page = self._call("GET", "/v1/sessions", {**parameters, "cursor": cursor})
            yield from page["sessions"]
            cursor = page["next"]
            if cursor is None:
                return

    def _change(self, name: str, action: Action, parameters: Parameters) -> list[Json]:
        return self._servers("POST", f"/v1/servers/{quote(name, safe='')}/{action}", parameters)

    def _act(self, method: str, path: str, parameters: Parameters) -> Json:
        return self._call(method, path, parameters, timeout_s=_ALL_SESSIONS_S)

    def _servers(self, method: str, path: str, parameters: Parameters | None = None) -> list[Json]:
        found: list[Json] = self._call(method, path, parameters)["servers"]
        return found

    def _call(
        self,
        method: str,
        path: str,
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
        body: Json | None = None,
    ) -> Json:
        timeout: Any = httpx.Timeout(timeout_s, connect=_CONNECT_S) if timeout_s else httpx.USE_CLIENT_DEFAULT
        given = _given(parameters or {})
        with self._reaching():
            response = self._http.request(method, path, params=given, json=body, timeout=timeout)
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


def _given(parameters: Parameters) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _refusal(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        return ApiError(response.status_code, error["code"], error["message"])
    except (ValueError, KeyError, TypeError):  # somebody else's socket
        return ApiError(response.status_code, "unexpected_answer", f"HTTP {response.status_code}")
