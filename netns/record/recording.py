"""What a run recorded: the values that its verdicts, its timeline and its report page are made of.

Times are box seconds since the run began, unless a name says otherwise. `Recording.as_json` is `result.json`,
and netns/record/document.py reads it.
"""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Final

RESULT: Final = "result.json"
"""The file of a report that programs read."""
VERSION: Final = 1
"""Of `result.json`: it grows when a reader of the former version would misread the document."""


class Outcome(Enum):
    """How a request ended, as its client saw it."""

    OK = "ok"
    HTTP_ERROR = "http_error"
    """A whole response came, with a status of 400 or more."""
    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    """The server closed the connection before a whole response had come."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Request:
    """One request of one client, as the client saw it."""

    client: str
    """The client's name within the run: "curl-3"."""
    started: float
    ended: float
    outcome: Outcome
    status: int
    """HTTP status, 0 when none came."""
    server: str
    """The server that answered, by its own word; "" when none did."""
    reused: bool | None
    """Whether it went over a connection that had carried a request before; None where the client's library
    does not show it."""
    local_port: int
    """The client's TCP port; 0 when there was no connection, or where its library does not show it."""
    error: str = ""
    """The client's own words."""
    method: str = "GET"
    id: str = ""
    """Names the request on the wire, as the query of its URL ("/?urllib3-3.17"): its attempts are found in
    the captures by it, whatever the client says of ports and retries. "" for clients that send none."""


TOLD_TO_STOP: Final = "web server told to stop"
HAS_ENDED: Final = "web server has ended"
"""How the text of a Step begins in which a run stopped a web server, and saw its end."""


def group_of(client: str) -> str:
    """The name of the group that a client is of: "curl-post" of "curl-post-3"."""
    return client.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class ClientGroup:
    """Clients that were started together, and what they were told. Times are real."""

    name: str
    """Its clients are NAME-1, NAME-2, …"""
    kind: str
    service: str
    """The virtual server that they ask."""
    count: int
    rate: float
    """Requests a second of each."""
    max_time_s: float
    """For a request."""
    paced: bool = True
    """They make requests at their rate without being told, and log each within seconds."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A server's processes or files were other ones than at the look before."""

    time: float
    server: str
    what: str
    """ "processes" or "files"."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the run did."""

    time: float
    text: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class ServerSample:
    """A server at one moment: what the box says of it, and what its own kernel holds."""

    time: float
    server: str
    state: str
    bound: bool
    sessions: int
    """In the box's table."""
    sockets: dict[str, int] = field(default_factory=dict)
    """TCP connections on the VIP in its kernel, by state as ss(8) names them: ESTAB, CLOSE-WAIT, …"""
    zombies: int = 0
    """Established in the server's kernel, and neither in the box's table nor in a client's kernel."""


class Fact(Enum):
    """What is true of a server that is in service, and may stop being so."""

    HEALTH_FILE = "health file"
    LISTENING = "listening"
    """A socket takes connections to each of its virtual servers' addresses and ports."""
    VIP = "VIP"
    """All of its VIPs are addresses of its own."""
    CONTAINER = "container"
    """Where nodes are containers: it has one that runs. Without, it has neither network nor VIP."""
    FILTER = "packet filter"
    """No rule of its packet filter drops or refuses packets that did not at first. Rules about the box's own
    address, which its health checks come from, or about one port of no virtual server do not count."""
    DSR_RULE = "DSCP rule"
    """The rules that put a VIP back by the DSCP are there (`dsr_ruleset`). Only of servers
    that had them at first: another way of doing so can't be watched."""
    ROUTE = "route"
    """Its kernel has a route to each client."""


@dataclass(frozen=True, slots=True)
class Change:
    """A fact about a server that began or ceased to hold."""

    time: float
    """When it was seen: at most a look too late (netns/observe/servers.py)."""
    server: str
    fact: Fact
    holds: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """A stretch in which a deploy's command had the rehearsal wait for it: L4LAB_SLEEP or L4LAB_WAIT."""

    what: str
    """ "sleep 21", "wait FAILED"."""
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Deploy:
    """One run of the user's command."""

    server: str
    """"" when it was for the whole fleet."""
    command: tuple[str, ...]
    began: float
    ended: float
    exit_code: int | None
    """None when it did not end by itself; negative for a signal's number."""
    output: str
    """The end of what it wrote."""
    real_s: float = 0.0
    """Real seconds that it took."""
    outside_s: float = 0.0
    """Real seconds of these that it did not spend in L4LAB_SLEEP and L4LAB_WAIT: no speed shortens them."""
    waits: tuple[Wait, ...] = ()

    @property
    def who(self) -> str:
        return f"{self.server}'s command" if self.server else "The command"

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0

    @property
    def verdict(self) -> str:
        if self.exit_code is None:
            return "did not end and was stopped"
        if self.exit_code < 0:
            return f"was killed by {signal.Signals(-self.exit_code).name}"
        return f"exit {self.exit_code}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a run must show, and what it showed."""

    text: str
    passed: bool
    measured: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run."""

    name: str
    title: str
    intent: str
    started_at: str
    """ISO 8601, UTC."""
    unix_s: float
    """Unix seconds of the run's time 0: what turns the captures' clock into the run's."""
    speed: float
    ended: float
    servers: tuple[str, ...]
    settings: dict[str, Any]
    """The lab's configuration."""
    steps: tuple[Step, ...]
    events: tuple[dict[str, Any], ...]
    """The box's, as its API gives them, each with `at`, its time in this run."""
    requests: tuple[Request, ...]
    samples: tuple[ServerSample, ...]
    expectations: tuple[Expectation, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    """Whatever else was measured, by name: resets per second, percentiles, …"""
    changes: tuple[Change, ...] = ()
    """What servers began and ceased to be, where they were watched."""
    groups: tuple[ClientGroup, ...] = ()
    touches: tuple[Touch, ...] = ()
    """What servers were seen to be changed by, beside `changes`, where that was watched."""
    captures: tuple[str, ...] = ()
    """File names, beside result.json: NODE.pcapng."""
    capture_bytes: dict[str, int] = field(default_factory=dict)
    """The size of each of them, by its file name."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of what took part, by name: l4lab, Linux, nginx, curl, …"""

    def at(self, unix_s: float) -> float:
        """The time in the run of a moment in Unix seconds."""
        return (unix_s - self.unix_s) * self.speed

    def service_of(self, client: str) -> str:
        """The virtual server that a client asks; "" where that was not recorded."""
        name = group_of(client)
        return next((group.service for group in self.groups if group.name == name), "")

    @property
    def passed(self) -> bool:
        return all(expectation.passed for expectation in self.expectations)

    @property
    def lost(self) -> int:
        """Requests that did not end well."""
        return sum(request.outcome is not Outcome.OK for request in self.requests)

    def as_json(self) -> dict[str, Any]:
        """The document other programs read: docs/json.md."""
        document = asdict(self)
        for request in document["requests"]:
            request["outcome"] = request["outcome"].value
        for change in document["changes"]:
            change["fact"] = change["fact"].value
        return {
            "version": VERSION,
            **document,
            "passed": self.passed,
            "request_log": document["requests"],
            "requests": len(self.requests),
            "lost": self.lost,
        }
