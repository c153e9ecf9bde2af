"""When each server was out of service, by its own facts, its checks and the box's states. Pure.

Times are the run's, box seconds. A server behind several virtual servers has outages in each: each has checks
and settings of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from netns.analysis.findings import Band, Lack, absences, lacks
from netns.plan.config import LabVirtualServer
from netns.record.recording import Fact, Recording

LATE_S: Final = 0.25
"""Real seconds by which, on a busy machine, a change may be seen too late or a client's word be off."""

STOPS: Final = frozenset({Fact.LISTENING, Fact.VIP, Fact.DSR_RULE, Fact.FILTER, Fact.ROUTE, Fact.CONTAINER})
"""Facts without which a server takes no connections."""


@dataclass(frozen=True, slots=True)
class Check:
    """One health check of a server."""

    began: float
    """When it ended, where the recording does not have its beginning."""
    ended: float
    passed: bool
    wrong_status: bool
    """The server answered, with a status that is not expected."""
    said: str
    """What the check saw: "200", "404", "refused"."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch in which a server lacked something, or the box gave it no new flows."""

    began: float
    ended: float
    """Infinity when it went on to the end of the run."""
    lacks: tuple[Lack, ...]
    """In the order of time."""
    unbound: tuple[Band, ...]
    """In the order of time."""

    @property
    def stops(self) -> tuple[Lack, ...]:
        return tuple(lack for lack in self.lacks if lack.fact in STOPS)


def lost_facts(recording: Recording, server: str) -> tuple[Lack, ...]:
    """What the server lost during the run, in the order of time; what it never had is not among it."""
    held: dict[Fact, float] = {}
    for change in recording.changes:
        if change.server == server and change.holds:
            held.setdefault(change.fact, change.time)
    return tuple(lack for lack in lacks(recording, server) if held.get(lack.fact, inf) <= lack.began)


def checks(recording: Recording, server: str, service: LabVirtualServer) -> tuple[Check, ...]:
    """The server's health checks for one virtual server, in the order of their ends."""
    found = []
    for event in recording.events:
        if event["kind"] != "probe" or _of(event) != (service.name, server):
            continue
        ended = float(event["at"])
        took_s = event["box_time"] - event["began"] if "began" in event else 0.0
        outcome = event["outcome"]
        said = str(event.get("status") or event["detail"])
        found.append(Check(ended - took_s, ended, outcome == "success", outcome == "bad_status", said))
    return tuple(sorted(found, key=lambda check: check.ended))


def unbound(recording: Recording, server: str, service: LabVirtualServer) -> tuple[Band, ...]:
    """When the box gave the server no new flows of one virtual server, after it had once done so."""
    states = [one for one in recording.events if one["kind"] == "server_state"]
    theirs = [one for one in states if _of(one) == (service.name, server)]
    return absences(replace(recording, events=tuple(theirs)), server)


def outages(recording: Recording, server: str, service: LabVirtualServer) -> tuple[Outage, ...]:
    """Each time that the server was out of service for one virtual server, in the order of time.

    A lack of the health file counts where the check asks for a page. The box may take a server out that has
    just come back, by a check that began before: that is the same outage.
    """
    check = service.health_check
    pieces: list[Lack | Band] = [
        lack
        for lack in lost_facts(recording, server)
        if lack.fact in STOPS or (lack.fact is Fact.HEALTH_FILE and check.kind == "l7")
    ]
    pieces += unbound(recording, server, service)
    groups: list[list[Lack | Band]] = []
    ended = -inf
    for piece in sorted(pieces, key=_began):
        patience_s = check.timeout_s if isinstance(piece, Band) else 0.0
        if _began(piece) - patience_s <= ended:
            groups[-1].append(piece)
        else:
            groups.append([piece])
            ended = -inf
        ended = max(ended, _ended(piece, recording))
    return tuple(_outage(group, recording) for group in groups)


def _outage(pieces: Iterable[Lack | Band], recording: Recording) -> Outage:
    pieces = tuple(pieces)
    return Outage(
        began=_began(pieces[0]),
        ended=max(_ended(piece, recording) for piece in pieces),
        lacks=tuple(piece for piece in pieces if isinstance(piece, Lack)),
        unbound=tuple(piece for piece in pieces if isinstance(piece, Band)),
    )


def _began(piece: Lack | Band) -> float:
    return piece.began if isinstance(piece, Lack) else piece.started


def _ended(piece: Lack | Band, recording: Recording) -> float:
    return piece.ended if piece.ended < recording.ended else inf


def _of(event: dict[str, object]) -> tuple[object, object]:
    return event["virtual_server"], event["server"]
