"""What each server did to its clients each time that it stopped, whoever stopped it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from netns.analysis.attempts import Actors
from netns.analysis.findings import Lack
from netns.analysis.outage import lost_facts
from netns.analysis.stop_pattern import StopPattern, first_sign, stop_pattern
from netns.record.recording import HAS_ENDED, TOLD_TO_STOP, Fact, Recording
from netns.record.segments import Captures, Segment

SEEN_S: Final = 0.1
"""Real seconds by which it may be seen late that nothing listens: connections have been ended by then."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of a server: from its first sign until its web server listened again, or the run was over."""

    server: str
    kind: str
    """Of its web server."""
    told: float
    """When it was told to, or where nobody said, the first sign of it."""
    how: str
    """In what words it was told; "" where nobody said."""
    pattern: StopPattern


def stops(
    recording: Recording,
    kinds: Mapping[str, str],
    captures: Captures,
    where: Actors,
) -> tuple[Stop, ...]:
    """Each stop of each server, in the order of time. `kinds`: of the servers' web servers, by their names.

    A server without a capture has stops all the same: nothing was seen of its clients then.
    """
    found = []
    for server, kind in kinds.items():
        lost = lost_facts(recording, server)
        gone = [lack for lack in lost if lack.fact is Fact.LISTENING]
        seen = _clients(captures, server, where) if gone else ()
        over = 0.0
        for lack in gone:
            found.append(_stop(server, kind, recording, seen, lack, lost, over))
            over = lack.ended
    return tuple(sorted(found, key=lambda stop: stop.told))


def _stop(
    server: str,
    kind: str,
    recording: Recording,
    seen: Sequence[Segment],
    gone: Lack,
    lost: Sequence[Lack],
    over: float,
) -> Stop:
    """`gone`: when nothing listened; `over`: when the stop before this one was over."""
    until = min(gone.ended, recording.ended)
    said = [step for step in recording.steps if step.node == server and over <= step.time <= until]
    told = next((step for step in said if step.text.startswith(TOLD_TO_STOP)), None)
    ended = next((step.time for step in said if step.text.startswith(HAS_ENDED)), None)
    if told is not None:
        began = told.time
    else:
        beside = [lack.began for lack in lost if lack.began <= gone.began <= lack.ended]
        since = max(over, min(*beside, gone.began - SEEN_S * recording.speed))
        began = first_sign(seen, gone.began, since=since, speed=recording.speed)
    pattern = stop_pattern(
        server,
        recording.requests,
        seen,
        told=began,
        until=until,
        speed=recording.speed,
        listener_gone=gone.began,
        ended=ended,
    )
    return Stop(server, kind, began, told.text if told else "", pattern)


def _clients(captures: Captures, server: str, where: Actors) -> Sequence[Segment]:
    """The segments of clients' connections, as the server's interface saw them."""
    return [one for one in captures.segments(server) if where.ends(one) is not None]
