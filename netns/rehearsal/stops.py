"""What each server did to its clients when the deploy stopped it, whoever told it to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns.findings import lacks
from netns.recording import Fact, Recording
from netns.rehearsal.flows import Places
from netns.run_clock import RunClock
from netns.stop_pattern import StopPattern, first_sign, stop_pattern
from netns.wire import Segment, segments

SEEN_S: Final = 0.1
"""Real seconds by which it may be seen late that nothing listens: connections have been ended by then."""

TOLD = "web server told to stop"
ENDED = "web server has ended"


@dataclass(frozen=True, slots=True)
class Stop:
    """The first stop of a server in a run."""

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
    captures: Mapping[str, Path],
    places: Places,
    clock: RunClock,
) -> tuple[Stop, ...]:
    """Of each server that was stopped; `captures` are the servers'."""
    found = []
    for server, kind in kinds.items():
        gone = next((one for one in lacks(recording, server) if one.fact is Fact.LISTENING), None)
        if gone is None:
            continue
        until = min(gone.ended, recording.ended)
        said = [step for step in recording.steps if step.node == server and step.time <= until]
        told = next((step for step in said if step.text.startswith(TOLD)), None)
        ended = next((step.time for step in said if step.text.startswith(ENDED)), None)
        seen = _clients(captures[server], places, clock)
        since = next((one.began for one in lacks(recording, server)), gone.began)
        since = min(since, gone.began - SEEN_S * recording.speed)
        began = (
            told.time
            if told is not None
            else first_sign(seen, gone.began, since=since, speed=recording.speed)
        )
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
        found.append(Stop(server, kind, began, told.text if told else "", pattern))
    return tuple(found)


def _clients(path: Path, places: Places, clock: RunClock) -> Sequence[Segment]:
    """The segments of clients' connections, as the server's interface saw them."""
    return [one for one in segments(path, clock.unix) if places.ends(one) is not None]
