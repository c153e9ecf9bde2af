"""A server's way out of service and back, as it was seen, and the wait that would have kept it harmless.

Between the moment a server begins to fail its check and the moment the box takes it out of the binding list,
new flows go to it: the health window (SPEC §4). A deploy that stops the server within it loses them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from math import inf
from typing import Final

from netns.analysis.outage import LATE_S, Check, Outage, checks, lost_facts, outages
from netns.plan.config import LabConfig, LabVirtualServer
from netns.record.recording import TOLD_TO_STOP, Fact, Recording

SAME_S: Final = 0.001
"""Box seconds within which a check and the change of state that it causes are one moment."""


class Sign(StrEnum):
    """How it is known when a server began to fail its check."""

    HEALTH_FILE = "health file"
    """Its health file went."""
    TOLD = "told to stop"
    """It was told to stop, and answered its next check with a wrong status."""
    STOP = "stop"
    """It took no connections any more."""
    CHECK = "check"
    """By its last good check: nothing else was seen before the first that failed."""
    BOX = "box"
    """No check failed: an administrator took it out, or it was removed."""


@dataclass(frozen=True, slots=True)
class Window:
    """One outage of one server in one virtual server; times are the run's, None for what did not happen."""

    server: str
    virtual_server: str
    failing: float
    """When it began to fail its check. Where none failed, when it took no connections any more, or the box
    took it out."""
    sign: Sign
    health_off: float | None
    stopped: float | None
    """When it stopped taking connections: nothing listened, its VIP was down, or its container was gone."""
    unbound: float | None
    """When the box took it out of the binding list."""
    restarted: float | None
    """When it took connections again."""
    bound: float | None
    """When the box bound it again."""
    needed_s: float
    """From `failing` until the box had, or would have, taken it out: a wait that long loses nothing here."""
    measured: bool
    """The box did take it out; else `needed_s` is from its next check and the health check's settings."""
    failed_check: str = ""
    """What the first check that failed saw: "404", "refused"; "" when none failed."""
    failed_check_at: float | None = None
    passed: int = 0
    """Checks that began after its health file went, and before it stopped, and passed all the same."""
    together: tuple[str, ...] = ()
    """Other servers of the virtual server that took no connections, or no new flows, at the same time."""

    @property
    def waited_s(self) -> float | None:
        """How long the deploy left it serving after it began to fail its check; None if it never stopped."""
        return None if self.stopped is None else max(0.0, self.stopped - self.failing)

    @property
    def out_from(self) -> float | None:
        """When it first took no connections, or no new flows; None when neither happened."""
        return min((one for one in (self.stopped, self.unbound) if one is not None), default=None)


def worst_s(service: LabVirtualServer) -> float:
    """The longest that `needed_s` can be for a server that answers its check wrongly (SPEC §4)."""
    return misses(service) * service.health_check.interval_s


def misses(service: LabVirtualServer) -> int:
    """How many checks in a row a server that answers them wrongly has to miss to be FAILED."""
    check = service.health_check
    immediate = check.kind == "l7" and check.on_bad_status == "immediate"
    return 1 if immediate else check.retries + 1


def windows(recording: Recording, config: LabConfig) -> tuple[Window, ...]:
    """Each time that each server went out of service, for each virtual server it is behind, oldest first."""
    found = [
        (one, outage.ended)
        for server in recording.servers
        for service in config.services_of(server)
        for outage in outages(recording, server, service)
        if (one := _window(server, service, outage, recording)) is not None
    ]
    return tuple(
        replace(one, together=tuple(_together(one, ended, found, recording.servers)))
        for one, ended in sorted(found, key=lambda pair: pair[0].failing)
    )


def _together(
    one: Window, ended: float, found: Sequence[tuple[Window, float]], servers: Sequence[str]
) -> Iterator[str]:
    began = one.out_from
    theirs = {
        other.server
        for other, until in found
        if other.virtual_server == one.virtual_server
        and began is not None
        and other.out_from is not None
        and other.out_from < ended
        and began < until
    }
    return (server for server in servers if server in theirs and server != one.server)


@dataclass(frozen=True, slots=True)
class _Failing:
    at: float
    sign: Sign
    first: Check | None
    """The first check that failed."""


def _window(server: str, service: LabVirtualServer, outage: Outage, recording: Recording) -> Window | None:
    """None when nothing came of it: a health file that went without the check's noticing."""
    seen = checks(recording, server, service)
    failing = _failing(server, service, outage, seen, recording)
    if failing is None:
        return None
    stops, first = outage.stops, failing.first
    files = [
        lack.began
        for lack in lost_facts(recording, server)
        if lack.fact is Fact.HEALTH_FILE and lack.began <= outage.ended and lack.ended >= outage.began
    ]
    health_off = min(files, default=None)
    stopped = stops[0].began if stops else None
    unbound = outage.unbound[0].started if outage.unbound else None
    until = min(failing.at if stopped is None else stopped, first.began if first else inf)
    return Window(
        server=server,
        virtual_server=service.name,
        failing=failing.at,
        sign=failing.sign,
        health_off=health_off,
        stopped=stopped,
        unbound=unbound,
        restarted=_past(max((stop.ended for stop in stops), default=inf), recording),
        bound=_past(outage.unbound[-1].ended if outage.unbound else inf, recording),
        needed_s=_computed(failing, seen, service) if unbound is None else max(0.0, unbound - failing.at),
        measured=unbound is not None,
        failed_check=first.said if first else "",
        failed_check_at=first.ended if first else None,
        passed=0
        if health_off is None
        else sum(check.passed and check.began > health_off and check.ended <= until for check in seen),
    )


def _past(time: float, recording: Recording) -> float | None:
    return time if time < recording.ended else None


def _failing(
    server: str, service: LabVirtualServer, outage: Outage, seen: Sequence[Check], recording: Recording
) -> _Failing | None:
    """When the server began to fail its check, and how that is known.

    The first event that may be the reason, of those after which no check passed. A check may fail by a change
    a moment before that is seen.
    """
    until = outage.unbound[0].started if outage.unbound else outage.ended + service.health_check.timeout_s
    known = [check for check in seen if check.ended <= until + SAME_S]
    run = _failed_run(known, outage)
    first = run[0] if run else None
    before = [check for check in known if check.passed and (first is None or check.ended < first.ended)]
    reasons = [
        (lack.began, Sign.HEALTH_FILE if lack.fact is Fact.HEALTH_FILE else Sign.STOP)
        for lack in outage.lacks
        if lack.fact is Fact.HEALTH_FILE or first is None or not first.wrong_status
    ]
    if first is not None and first.wrong_status:
        reasons += [(time, Sign.TOLD) for time in _told(recording, server)]
    latest = until if first is None else first.ended
    late_s = 0.0 if first is None else LATE_S * recording.speed
    holding = [
        (min(at, latest), sign)
        for at, sign in reasons
        if at - late_s <= latest and not any(check.began > at for check in before)
    ]
    if holding:
        return _Failing(*min(holding), first)
    if first is not None:
        good = max((check.ended for check in before), default=first.began)
        return _Failing(good, Sign.CHECK, first)
    ways = [(lack.began, Sign.STOP) for lack in outage.stops]
    ways += [(band.started, Sign.BOX) for band in outage.unbound]
    return _Failing(*min(ways), None) if ways else None


def _failed_run(known: Sequence[Check], outage: Outage) -> list[Check]:
    """The checks that failed in a row and belong to the outage, oldest first."""
    if outage.unbound:
        last = len(known) - 1
    else:
        earlier = [number for number, check in enumerate(known) if check.ended <= outage.began]
        later = [
            number for number, check in enumerate(known) if check.ended > outage.began and not check.passed
        ]
        last = earlier[-1] if earlier and not known[earlier[-1]].passed else min(later, default=-1)
    return list(takewhile(lambda check: not check.passed, reversed(known[: last + 1])))[::-1]


def _told(recording: Recording, server: str) -> list[float]:
    theirs = [step for step in recording.steps if step.node == server]
    return [step.time for step in theirs if step.text.startswith(TOLD_TO_STOP)]


def _computed(failing: _Failing, seen: Sequence[Check], service: LabVirtualServer) -> float:
    """From the first miss, seen or expected by the interval; each retry takes an interval more."""
    check = service.health_check
    answers = failing.first.wrong_status if failing.first else failing.sign is Sign.HEALTH_FILE
    count = misses(service) if answers else check.retries + 1
    if failing.first is not None:
        miss = failing.first.ended
    else:
        earlier = max((one.began for one in seen if one.began < failing.at), default=failing.at)
        miss = min((one.ended for one in seen if one.began >= failing.at), default=earlier + check.interval_s)
    return max(0.0, miss - failing.at) + (count - 1) * check.interval_s
