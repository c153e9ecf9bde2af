"""What a recording says: the facts that the terminal's timeline and the report's page both tell.

A request counts where it ended: that is when its client knew. Times are box seconds since the run began.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf
from typing import Any, Final

from netns.record.recording import Fact, Outcome, Recording, Request, Step

BOUND_STATES: Final = frozenset({"ACTIVE", "SUSPECT"})
"""States in which a server gets new flows."""

LOSSES: Final[dict[Outcome, str]] = {
    Outcome.TIMEOUT: "timed out",
    Outcome.RESET: "reset",
    Outcome.REFUSED: "refused",
    Outcome.CLOSED: "closed by the server before an answer",
    Outcome.HTTP_ERROR: "answered with an HTTP error",
    Outcome.OTHER: "failed otherwise",
}
"""How a request is lost, in words; the gravest first."""


LACKS: Final[dict[Fact, str]] = {
    Fact.HEALTH_FILE: "health file gone",
    Fact.LISTENING: "nothing listens",
    Fact.VIP: "VIP down",
    Fact.CONTAINER: "container gone",
    Fact.FILTER: "packet filter closed",
    Fact.DSR_RULE: "DSCP rule gone",
    Fact.ROUTE: "no route to the clients",
}
"""A fact that does not hold, in words."""


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch in which the box said the same of a server."""

    server: str
    started: float
    ended: float
    state: str
    bound: bool
    """Whether the server got new flows."""
    reason: str = ""

    def holds(self, time: float) -> bool:
        return self.started <= time < self.ended


@dataclass(frozen=True, slots=True)
class Lack:
    """A stretch in which a fact about a server did not hold."""

    fact: Fact
    began: float
    ended: float
    """Infinity when it went on."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's TCP connection, with the requests that went over it."""

    client: str
    local_port: int
    server: str
    """"" where no answer ever came over it."""
    requests: tuple[Request, ...]

    @property
    def started(self) -> float:
        return self.requests[0].started

    @property
    def ended(self) -> float:
        return max(request.ended for request in self.requests)


@dataclass(frozen=True, slots=True)
class Reset:
    """The box resetting a server's sessions."""

    server: str
    started: float
    ended: float
    sessions: int
    resets: int
    reason: str


@dataclass(frozen=True, slots=True)
class Phase:
    """The stretch from one step to the next; the first begins before any step."""

    started: float
    ended: float
    step: Step | None
    requests: tuple[Request, ...]


def ordered(requests: Iterable[Request]) -> list[Request]:
    return sorted(requests, key=lambda request: (request.started, request.ended))


def failed(requests: Iterable[Request]) -> list[Request]:
    return [request for request in requests if request.outcome is not Outcome.OK]


def bands(recording: Recording, server: str) -> tuple[Band, ...]:
    """What the box said of a server, from the run's begin to its end; empty if it said nothing."""
    changes = sorted(
        (
            event
            for event in recording.events
            if event["kind"] == "server_state" and event["server"] == server
        ),
        key=lambda event: float(event["at"]),
    )
    samples = [sample for sample in recording.samples if sample.server == server]
    marks: list[tuple[float, str, bool, str]] = []
    if samples and (not changes or samples[0].time < changes[0]["at"]):
        marks.append((0.0, samples[0].state, samples[0].bound, ""))
    elif changes:
        marks.append((0.0, changes[0]["old"], changes[0]["old"] in BOUND_STATES, ""))
    marks += [
        (max(0.0, change["at"]), change["new"], change["bound"], change.get("reason", ""))
        for change in changes
    ]
    ends = [time for time, *_ in marks[1:]] + [recording.ended] * bool(marks)
    return tuple(
        Band(server, time, end, state, bound, reason)
        for (time, state, bound, reason), end in zip(marks, ends, strict=True)
        if end > time
    )


def lacks(recording: Recording, server: str) -> tuple[Lack, ...]:
    """What the server lacked and when, in the order of time, where it was watched."""
    found = []
    since: dict[Fact, float] = {}
    for change in recording.changes:
        if change.server == server and not change.holds:
            since[change.fact] = change.time
        elif change.server == server and change.fact in since:
            found.append(Lack(change.fact, since.pop(change.fact), change.time))
    found += [Lack(fact, began, inf) for fact, began in since.items()]
    return tuple(sorted(found, key=lambda lack: lack.began))


def connections(recording: Recording) -> dict[str, tuple[Connection, ...]]:
    """Each client's connections, in the order they were opened.

    A request belongs to the last one from its port; one that never had a connection belongs to none, nor does
    one whose client's library does not show it.
    """
    found: dict[str, tuple[Connection, ...]] = {}
    for client, requests in by_client(recording).items():
        opened: list[list[Request]] = []
        current: dict[int, list[Request]] = {}
        for request in requests:
            if request.reused and (held := current.get(request.local_port)):
                held.append(request)
            elif request.local_port:
                current[request.local_port] = [request]
                opened.append(current[request.local_port])
        found[client] = tuple(
            Connection(
                client,
                requests[0].local_port,
                next((request.server for request in requests if request.server), ""),
                tuple(requests),
            )
            for requests in opened
        )
    return found


def by_client(recording: Recording) -> dict[str, list[Request]]:
    grouped: dict[str, list[Request]] = defaultdict(list)
    for request in ordered(recording.requests):
        grouped[request.client].append(request)
    return {client: grouped[client] for client in sorted(grouped, key=natural)}


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which curl-2 comes before curl-10."""
    parts: list[tuple[int, str]] = []
    digits = ""
    for character in name + "\0":
        if character.isascii() and character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, character))
    return parts


def absences(recording: Recording, server: str) -> tuple[Band, ...]:
    """The stretches in which a server that had been bound was out of the binding list."""
    found = bands(recording, server)
    first = next((index for index, band in enumerate(found) if band.bound), len(found))
    return tuple(band for band in found[first:] if not band.bound)


def reached_while_out(recording: Recording) -> dict[str, list[Request]]:
    """Per server that was taken out, the requests sent to it all the same: those that it answered, and those
    lost on a connection to it, where the client's library shows its connections."""
    opened = [connection for held in connections(recording).values() for connection in held]
    hidden = [request for request in recording.requests if request.reused is None]
    found: dict[str, list[Request]] = {}
    for server in recording.servers:
        if out := absences(recording, server):
            sent = [request for one in opened if one.server == server for request in one.requests]
            sent += [request for request in hidden if request.server == server]
            found[server] = [one for one in sent if any(band.holds(one.started) for band in out)]
    return found


def session_counts(recording: Recording, server: str) -> list[tuple[float, int]]:
    """How many sessions of a server the box held, and since when: exact if the box reported each session
    and no report is missing, else as sampled."""
    kinds = {event["kind"] for event in recording.events}
    if "session_opened" not in kinds or "missed" in kinds:
        samples = [sample for sample in recording.samples if sample.server == server]
        return sorted((sample.time, sample.sessions) for sample in samples)
    steps = {"session_opened": 1, "session_removed": -1}
    changes = sorted(
        (max(event["at"], 0.0), steps[event["kind"]])
        for event in recording.events
        if event["kind"] in steps and event["server"] == server
    )
    counts = list(accumulate(change for _, change in changes))
    held = max(0, -min(counts, default=0))
    counted = [(time, held + count) for (time, _), count in zip(changes, counts, strict=True)]
    return [(0.0, held), *counted, (recording.ended, held + (counts[-1] if counts else 0))]


def resets(recording: Recording) -> tuple[Reset, ...]:
    """Each `reset_started` with its `reset_ended`; one that never ended lasts until the run does."""
    found = []
    endings = [event for event in recording.events if event["kind"] == "reset_ended"]
    for event in recording.events:
        if event["kind"] != "reset_started":
            continue
        ending: dict[str, Any] = next(
            (end for end in endings if _subject(end) == _subject(event) and end["at"] >= event["at"]), {}
        )
        if ending:
            endings.remove(ending)
        found.append(
            Reset(
                event["server"],
                event["at"],
                ending.get("at", recording.ended),
                event["sessions"],
                ending.get("resets", 0),
                event["reason"],
            )
        )
    return tuple(found)


def _subject(event: dict[str, Any]) -> tuple[str, str]:
    return event.get("virtual_server", ""), event["server"]


def phases(recording: Recording) -> tuple[Phase, ...]:
    """The run cut at its steps. Of steps at one moment only the last one's phase has length."""
    steps = sorted(recording.steps, key=lambda step: step.time)
    cuts = [0.0, *(step.time for step in steps), max(recording.ended, *(step.time for step in steps), 0.0)]
    labels: list[Step | None] = [None, *steps]
    return tuple(
        Phase(
            start,
            end,
            label,
            tuple(
                request
                for request in recording.requests
                if start <= request.ended < end or (label is labels[-1] and request.ended >= end)
            ),
        )
        for (start, end), label in zip(pairwise(cuts), labels, strict=True)
    )


def losses(requests: Sequence[Request]) -> dict[Outcome, int]:
    """How many were lost each way, in the order of LOSSES."""
    counted = Counter(request.outcome for request in requests)
    return {outcome: counted[outcome] for outcome in LOSSES if counted[outcome]}
