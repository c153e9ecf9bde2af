"""The JSON of the API, typed; docs/json.md says the same for people. Durations are box seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lb.core.events import ResetReason
from lb.core.health import ServerState
from lb.core.session_resets import Outcome
from lb.lag import LoopLag
from lb.metrics import QueueStatistics

Protocol = Literal["tcp", "udp"]
State = Literal["SYN", "ESTABLISHED", "FIN", "UDP"]
ErrorCode = Literal[
    "invalid_request",
    "filter_required",
    "unknown_server",
    "unknown_virtual_server",
    "not_found",
    "method_not_allowed",
    "bad_configuration",
    "restart_needed",
    "rules_refused",
    "internal_error",
]


class Answer(BaseModel):
    """Answers are made once and sent."""

    model_config = ConfigDict(frozen=True)


class Problem(Answer):
    """What was wrong with a request."""

    code: ErrorCode
    message: str


class Failure(Answer):
    """The body of every answer that is not 2xx."""

    error: Problem


class Health(Answer):
    """The daemon's own, not the servers'."""

    status: Literal["ok"]
    name: str
    version: str


class Configuration(Answer):
    """A whole box.toml: its keys are lb.config's."""

    configuration: dict[str, Any]


class Server(Answer):
    """A real server of one virtual server. `last_check` and `state_reason` are for people to read.

    `resetting`: sessions that are still to be reset, while it is being done.
    """

    virtual_server: str
    name: str
    address: str
    state: ServerState
    state_age_s: float | None
    state_reason: str | None
    bound: bool
    weight: int
    sessions: int
    resetting: int
    flows: int
    last_check: str | None
    last_check_age_s: float | None
    next_check_in_s: float | None


class Servers(Answer):
    servers: list[Server]


class Session(Answer):
    """An entry of the table. `seq` and `ack` are the highest seen from the client, `seq` after the data."""

    client: str
    vip: str
    protocol: Protocol
    virtual_server: str
    server: str
    state: State
    age_s: float
    idle_s: float
    expires_in_s: float
    packets: int
    bytes: int
    seq: int
    ack: int


class Sessions(Answer):
    """A page; with a `next` there may be more, even after an empty page."""

    sessions: list[Session]
    next: int | None


class Cleared(Answer):
    cleared: int


class Reset(Answer):
    reset: int


class Tombstone(Answer):
    """Of a session that was reset: `outcome` so far, `idle_s` since it was reset or its client last heard of.

    `server` is null for one that is no longer configured.
    """

    client: str
    vip: str
    virtual_server: str | None
    server: str | None
    reason: ResetReason
    outcome: Outcome
    idle_s: float
    expires_in_s: float


class SessionCount(Answer):
    """Tombstones are kept of sessions that were reset; they are none."""

    now: int
    limit: int
    tombstones: int


class SessionResets(Answer):
    """RSTs sent to each side, and of the sessions whose tombstone has gone, what became of their reset."""

    client: int
    server: int
    accepted: int
    challenged: int
    probed: int
    silent: int


class VirtualServer(Answer):
    name: str
    vip: str
    protocol: Protocol
    dscp: int
    scheduler: str
    aging_s: float
    syn_timeout_s: float
    servers: int
    bound: int
    sessions: int
    resetting: int
    flows: int


class Stats(Answer):
    """Counters run from the daemon's start. `last_event` is the number of the newest event.

    `resets` are answers to packets, by why they were dropped; `session_resets` are of sessions, by why.
    """

    name: str
    version: str
    time: str
    box_time: float
    uptime_s: float
    speed: float
    last_event: int
    sessions: SessionCount
    forwarded: int
    dropped: dict[str, int]
    resets: dict[str, int]
    session_resets: dict[ResetReason, SessionResets]
    syn_probes: int
    virtual_servers: list[VirtualServer]
    queue: QueueStatistics
    loop_lag: LoopLag


class Fate(Answer):
    """What happens to a packet, and the servers among which it goes to one."""

    action: Literal["forward", "reset", "drop"]
    servers: list[str]


class Explanation(Answer):
    """One virtual server's. `other_packets`: of a connection that exists as far as its sender knows."""

    virtual_server: str
    vip: str
    protocol: Protocol
    new_connection: Fate
    other_packets: Fate
    sessions: list[Session]
    tombstones: list[Tombstone]
    servers: list[Server]
    text: list[str]


class Explanations(Answer):
    client: str
    vip: str | None
    virtual_servers: list[Explanation]
    text: list[str]


def timestamp(unix_s: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
