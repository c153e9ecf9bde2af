"""A run as its captures, its box's events and its servers' changes tell it, made up a line at a time.

Time is in box seconds, and each hop takes HOP. A client is 10.80.4.2, the servers rs1 to rs3 behind the VIP,
by its port 80 ("web") and its port 81 ("api").
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from netns.analysis.advice import advise
from netns.analysis.attempts import Actors, Flows
from netns.analysis.causes import Explained
from netns.analysis.explain import explain
from netns.analysis.facts import Facts
from netns.analysis.health_window import windows
from netns.analysis.history import History
from netns.analysis.rehearsal import Rehearsal
from netns.plan.config import LabConfig
from netns.record.recording import (
    TOLD_TO_STOP,
    Change,
    ClientGroup,
    Deploy,
    Expectation,
    Fact,
    Outcome,
    Recording,
    Request,
    Step,
)
from netns.record.segments import ACK, FIN, KEPT, RST, SYN, Segment, Unreachable

HOP = 0.001
BEGAN_S = 1_772_339_467.0
"""Unix seconds of a run's time 0."""
CLIENT = "10.80.4.2"
VIP = "192.0.2.10"
SERVERS = {"10.80.1.2": "rs1", "10.80.2.2": "rs2", "10.80.3.2": "rs3"}
ADDRESS = {name: address for address, name in SERVERS.items()}
DSCP = 10
IN_NAMESPACES = (Fact.HEALTH_FILE, Fact.LISTENING, Fact.VIP, Fact.FILTER, Fact.DSR_RULE, Fact.ROUTE)
PLACES = Actors(
    clients=frozenset({"client"}),
    box="box",
    checker="10.80.0.2",
    servers=SERVERS,
    services={f"{VIP}:80": "web", f"{VIP}:81": "api"},
    vips={(address, DSCP): VIP for address in SERVERS},
)
CONFIG = LabConfig()


def _request(method: str, name: str, path: str = "/") -> bytes:
    return f"{method} {path}?{name} HTTP/1.1\r\nHost: {VIP}\r\n\r\n".encode()


@dataclass
class Connection:
    """One connection; each method is a segment sent at a time, seen along its way as far as `to`."""

    story: Story
    port: int
    server: str
    service_port: int = 80
    seq: int = 1000
    asked: str = ""
    arrived: list[tuple[float, int]] = field(default_factory=list)
    """When the server got a segment, and the sequence number after it."""

    def syn(self, at: float, *, to: str = "server") -> Connection:
        self._to_server(at, SYN, 1000, b"", to)
        self.seq = 1001
        return self

    def syn_ack(self, at: float) -> Connection:
        return self._to_client(at, SYN | ACK, 5000)

    def ask(
        self, at: float, name: str, *, method: str = "GET", path: str = "/", to: str = "server"
    ) -> Connection:
        payload = _request(method, name, path)
        if self.asked not in ("", name):  # the same name once more is a retransmission
            self.seq += len(_request(method, self.asked))
        self.asked = name
        self._to_server(at, ACK, self.seq, payload, to)
        return self

    def took(self, at: float, name: str, *, method: str = "GET") -> Connection:
        """The server's kernel acknowledges the request."""
        return self._to_client(at, ACK, 5001, ack=self.seq + len(_request(method, name)))

    def answer(self, at: float, text: bytes = b"HTTP/1.1 200 OK\r\n\r\nrs1\n") -> Connection:
        return self._to_client(at, ACK, 5001, text)

    def fin(self, at: float) -> Connection:
        """A process closes its socket; its kernel acknowledges what it has got."""
        got = [end for time, end in self.arrived if time <= at]
        return self._to_client(at, FIN | ACK, 5001, ack=max(got, default=1001))

    def rst(self, at: float) -> Connection:
        """A process closes its socket with data in it that it has not read."""
        return self._to_client(at, RST | ACK, 5001)

    def bare_rst(self, at: float) -> Connection:
        """The kernel has no socket for a segment, or a rule is to `reject with tcp reset`."""
        return self._to_client(at, RST, 5001)

    def icmp(self, at: float, code: int = 3) -> Connection:
        """A rule refuses the client's segment by an ICMP destination unreachable."""
        self.story.unreachable.append(
            Unreachable(at, self.server, self._end, f"{VIP}:{self.service_port}", 0, code)
        )
        return self

    def answers_from_own_address(self, at: float) -> Connection:
        own = f"{ADDRESS[self.server]}:{self.service_port}"
        for point, when in ((self.server, at), ("client", at + HOP)):
            self._seen(point, when, own, self._end, 0, RST, 0, 0, b"")
        return self

    def leaves(self, at: float, flags: int = FIN | ACK) -> Connection:
        """The client closes its end."""
        self._to_server(at, flags, self.seq, b"", "server")
        return self

    def acks(self, at: float) -> Connection:
        """The client's kernel does, so the connection is open to it."""
        self._to_server(at, ACK, self.seq, b"", "server")
        return self

    def old_ack(self, at: float) -> Connection:
        """The server's kernel still has an older connection from that port."""
        return self._to_client(at, ACK, 7001, ack=99)

    def refuse(self, at: float) -> Connection:
        return self._to_client(at, RST | ACK, 0)

    def box_rst(self, at: float) -> Connection:
        """The box's: seen as it leaves the box, and at the client."""
        for point, when in (("box", at), ("client", at + HOP)):
            self._seen(point, when, self._service, self._end, 0, RST, 7777, 0, b"")
        return self

    def open(self, at: float) -> Connection:
        return self.syn(at).syn_ack(at + 3 * HOP)

    def used(self, at: float) -> Connection:
        """Opened, and a first request answered over it."""
        return self.open(at).ask(at + 0.1, "first").answer(at + 0.2)

    @property
    def _end(self) -> str:
        return f"{CLIENT}:{self.port}"

    @property
    def _service(self) -> str:
        return f"{VIP}:{self.service_port}"

    def _to_server(self, at: float, flags: int, seq: int, payload: bytes, to: str) -> None:
        own = f"{ADDRESS[self.server]}:{self.service_port}"
        hops = [("client", self._service, 0), ("box", self._service, 0)]
        hops += [("box", own, DSCP), (self.server, own, DSCP)]
        count = {"nowhere": 1, "box": 2, "lost": 3, "server": 4}[to]
        if to == "server":
            self.arrived.append((at + 3 * HOP, seq + len(payload) + bool(flags & (SYN | FIN))))
        for number, (point, destination, dscp) in enumerate(hops[:count]):
            self._seen(point, at + number * HOP, self._end, destination, dscp, flags, seq, 5001, payload)

    def _to_client(
        self, at: float, flags: int, seq: int, payload: bytes = b"", *, ack: int = 1001
    ) -> Connection:
        for point, when in ((self.server, at), ("client", at + HOP)):
            self._seen(point, when, self._service, self._end, 0, flags, seq, ack, payload)
        return self

    def _seen(
        self,
        point: str,
        at: float,
        source: str,
        destination: str,
        dscp: int,
        flags: int,
        seq: int,
        ack: int,
        payload: bytes,
    ) -> None:
        self.story.segments.append(
            Segment(at, point, source, destination, dscp, flags, seq, ack, len(payload), payload[:KEPT])
        )


@dataclass
class Story:
    """A run of 100 s in which all servers are ACTIVE unless told otherwise."""

    ended: float = 100.0
    speed: float = 1.0
    segments: list[Segment] = field(default_factory=list)
    unreachable: list[Unreachable] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    groups: list[ClientGroup] = field(default_factory=list)
    box_ended: float | None = None

    def __post_init__(self) -> None:
        for server in ADDRESS:
            for name in PLACES.services.values():
                self.state(server, 0.001, "TESTING", "ACTIVE", name)
            self.changes += [Change(0.0, server, fact, holds=True) for fact in IN_NAMESPACES]

    def connection(self, port: int, server: str, service_port: int = 80) -> Connection:
        return Connection(self, port, server, service_port)

    def unwatched(self, fact: Fact) -> None:
        """Nothing is known of it, of any server."""
        self.changes = [change for change in self.changes if change.fact is not fact]

    def request(
        self,
        name: str,
        started: float,
        ended: float,
        outcome: Outcome,
        *,
        status: int = 0,
        port: int = 0,
        method: str = "GET",
        reused: bool = False,
    ) -> Request:
        """`name` is "urllib3-1.7", or "urllib3-1" for a client that does not name its requests."""
        made = Request(
            client=name.partition(".")[0],
            started=started,
            ended=ended,
            outcome=outcome,
            status=status,
            server="",
            reused=reused,
            local_port=port,
            method=method,
            id=name if "." in name else "",
        )
        self.requests.append(made)
        return made

    def state(self, server: str, at: float, old: str, new: str, of: str = "web") -> None:
        bound = new in ("ACTIVE", "SUSPECT")
        event = {"kind": "server_state", "server": server, "virtual_server": of, "old": old, "new": new}
        self.events.append({**event, "bound": bound, "at": at, "reason": "", "sessions": 0})

    def probe(self, server: str, at: float, detail: str) -> None:
        event = {"kind": "probe", "server": server, "virtual_server": "web", "detail": detail, "at": at}
        outcome = {"200": "success", "connected": "success"}.get(detail)
        self.events.append({**event, "outcome": outcome or ("bad_status" if detail.isdigit() else "miss")})

    def told_to_stop(self, server: str, at: float, how: str) -> None:
        """`how` as netns/play/run.py has it: "graceful: QUIT"."""
        self.steps.append(Step(at, f"{TOLD_TO_STOP} ({how})", server))

    def loses(self, server: str, fact: Fact, began: float, ended: float | None = None) -> None:
        self.changes.append(Change(began, server, fact, holds=False))
        if ended is not None:
            self.changes.append(Change(ended, server, fact, holds=True))

    def fails(self, server: str, at: float, until: float | None = None, of: str = "web") -> None:
        self.state(server, at - 10, "ACTIVE", "SUSPECT", of)
        self.state(server, at, "SUSPECT", "FAILED", of)
        if until is not None:
            self.state(server, until, "FAILED", "ACTIVE", of)

    def recording(self) -> Recording:
        return Recording(
            name="rehearsal",
            title="a story",
            intent="",
            started_at="2026-03-01T04:31:07Z",
            unix_s=BEGAN_S,
            speed=self.speed,
            ended=self.ended,
            servers=tuple(ADDRESS),
            settings={"virtual_server": [{"name": name} for name in PLACES.services.values()]},
            groups=tuple(self.groups),
            steps=tuple(self.steps),
            events=tuple(sorted(self.events, key=lambda event: float(event["at"]))),
            requests=tuple(self.requests),
            samples=(),
            expectations=(),
            changes=tuple(self.changes),
        )

    def history(self) -> History:
        return History(self.recording(), late_s=0.05, box_ended=self.box_ended)

    def rehearsal(self, *deploys: Deploy) -> Rehearsal:
        """What a rehearsal of this run would give."""
        recording, explained = self.recording(), self.explained()
        found = windows(recording, CONFIG)
        lost = Expectation(
            "no request is lost", recording.lost == 0, f"{recording.lost} of {len(self.requests)}"
        )
        return Rehearsal(
            replace(recording, expectations=(lost,)),
            deploys,
            explained,
            found,
            (),
            advise(explained, Facts(recording, found, deploys, CONFIG, self.box_ended)),
            PLACES,
            dict.fromkeys(SERVERS.values(), "nginx"),
        )

    def explained(self) -> tuple[Explained, ...]:
        wire = Flows(PLACES, self.segments, self.unreachable)
        return explain(self.requests, wire, self.history(), slack_s=0.05)


def hasty() -> Rehearsal:
    """rs2 is stopped 7.3 s after its health file went, and unbound 6.1 s after that."""
    return hasty_run().rehearsal(HASTY)


HASTY = Deploy("rs2", ("./deploy.sh", "rs2"), 19.9, 45.1, 0, "copying <files>\nreloading")


def hasty_run(speed: float = 1.0) -> Story:
    """The run of the same."""
    story = Story(speed=speed)
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 45.0)
    story.loses("rs2", Fact.LISTENING, 27.3, 40.0)
    story.fails("rs2", 33.4, until=46.0)
    for number in range(40):
        at, port = 2.0 + number * 2, 40000 + number
        if 27.3 < at < 33.4 and number % 2:
            story.connection(port, "rs2").syn(at).refuse(at + 0.004)
            story.request(f"urllib3-1.{number}", at - 0.01, at + 0.01, Outcome.REFUSED)
        else:
            story.request(f"<b>curl</b>-1.{number}", at - 0.01, at + 0.01, Outcome.OK, status=200, port=port)
    return story
