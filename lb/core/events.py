"""What the box reports: values that say what happened, when (box seconds) and to what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lb.core.health import Outcome, ServerState


class Removal(Enum):
    """Why a session left the table."""

    AGED = "aged_out"
    SYN_TIMEOUT = "syn_timeout"
    CLIENT_FIN = "client_closed"
    CLIENT_RST = "client_reset"
    PORT_REUSE = "port_reused"
    ADMINISTRATOR = "cleared"
    SERVER_GONE = "server_removed"
    RESET = "reset"


class ResetReason(Enum):
    """Why sessions are reset."""

    PORT_FAIL = "port_fail"
    ADMINISTRATOR = "administrator"
    DRAIN = "drain_timeout"
    AGED = "aged_out"


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """A real server's state changed."""

    kind: ClassVar[str] = "server_state"
    box_time: float
    virtual_server: str
    server: str
    old: ServerState
    new: ServerState
    bound: bool
    reason: str
    sessions: int


@dataclass(frozen=True, slots=True)
class Probed:
    """A health check ended; `began` is the box time at which it started."""

    kind: ClassVar[str] = "probe"
    box_time: float
    virtual_server: str
    server: str
    outcome: Outcome
    detail: str
    status: int | None
    began: float


@dataclass(frozen=True, slots=True)
class Drained:
    """The last session of a server that gets no new flows has gone."""

    kind: ClassVar[str] = "server_drained"
    box_time: float
    virtual_server: str
    server: str


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A new flow was given to a server."""

    kind: ClassVar[str] = "session_opened"
    box_time: float
    virtual_server: str
    server: str
    protocol: int
    key: bytes


@dataclass(frozen=True, slots=True)
class SessionRemoved:
    """A session left the table."""

    kind: ClassVar[str] = "session_removed"
    box_time: float
    virtual_server: str
    server: str
    protocol: int
    key: bytes
    reason: Removal
    age_s: float
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ResetStarted:
    """All sessions of a server are being reset."""

    kind: ClassVar[str] = "reset_started"
    box_time: float
    virtual_server: str
    server: str
    reason: ResetReason
    sessions: int


@dataclass(frozen=True, slots=True)
class ResetEnded:
    """The last of them has been."""

    kind: ClassVar[str] = "reset_ended"
    box_time: float
    virtual_server: str
    server: str
    reason: ResetReason
    sessions: int
    resets: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The box took a configuration."""

    kind: ClassVar[str] = "reconfigured"
    box_time: float
    virtual_servers: tuple[str, ...]


Event = (
    ServerChanged
    | Probed
    | Drained
    | SessionOpened
    | SessionRemoved
    | ResetStarted
    | ResetEnded
    | Reconfigured
)
