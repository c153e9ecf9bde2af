"""The report's tables: rows of texts and counts that the template sets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from netns.analysis.findings import (
    LOSSES,
    Phase,
    absences,
    by_client,
    failed,
    losses,
    ordered,
    phases,
    reached_while_out,
)
from netns.analysis.wording import plural, seconds
from netns.record.recording import Outcome, Recording, Request
from netns.report.axis import Axis

LOSS_ROWS: Final = 100
FAILED_ROWS: Final = 500
EVENT_ROWS: Final = 2000
_TIMES: Final = frozenset({"at", "time", "box_time", "kind", "id", "virtual_server", "server"})


@dataclass(frozen=True, slots=True)
class Answered:
    """What a server answered in a phase, and what it held when it was last looked at in it."""

    requests: int
    reused: int
    """Over a connection that its client already had."""
    out: int
    """While it was out of the binding list."""
    held: str


@dataclass(frozen=True, slots=True)
class PhaseRow:
    number: int
    """The step's; 0 for what was before the first."""
    time: float
    wall_clock: str
    text: str
    answered: tuple[Answered, ...]
    """For each server, in the recording's order."""
    lost: int
    ways: str


@dataclass(frozen=True, slots=True)
class LossRow:
    client: str
    requests: int
    lost: tuple[int, ...]
    """In the order of the table's columns."""


@dataclass(frozen=True, slots=True)
class Card:
    """A figure to see first."""

    figure: str
    text: str
    grave: bool = False


def cards(recording: Recording) -> Iterator[Card]:
    total = len(recording.requests)
    yield Card(f"{total:,}", f"requests, {plural(len(by_client(recording)), 'client')}")
    share = f" ({100 * recording.lost / total:.2g} %)" if recording.lost else ""
    yield Card(f"{recording.lost:,}", f"lost{share}", recording.lost > 0)
    for server, requests in reached_while_out(recording).items():
        yield Card(f"{len(requests):,}", f"reached {server} while it was out", bool(requests))
    waits = [one.ended - one.started for one in recording.requests if one.outcome is Outcome.TIMEOUT]
    if waits:
        yield Card(seconds(max(waits), recording.speed), "the longest hang", True)
    if reset := sum(event["sessions"] for event in recording.events if event["kind"] == "reset_started"):
        yield Card(f"{reset:,}", "sessions reset by the box")
    if zombies := max((sample.zombies for sample in recording.samples), default=0):
        yield Card(f"{zombies:,}", "zombie connections at the worst", True)


def phase_rows(recording: Recording, axis: Axis) -> list[PhaseRow]:
    found = phases(recording)
    if found[0].started == found[0].ended and not found[0].requests:
        found = found[1:]
    first = 1 - sum(phase.step is None for phase in found)
    return [
        PhaseRow(
            number,
            phase.started,
            axis.wall_clock(phase.started),
            phase.step.text if phase.step else "the run begins",
            tuple(_answered(recording, phase, server) for server in recording.servers),
            len(failed(phase.requests)),
            ", ".join(f"{count:,} {LOSSES[way]}" for way, count in losses(phase.requests).items()),
        )
        for number, phase in enumerate(found, first)
    ]


def _answered(recording: Recording, phase: Phase, server: str) -> Answered:
    served = [one for one in phase.requests if one.server == server and one.outcome is Outcome.OK]
    out = absences(recording, server)
    held = [
        one for one in recording.samples if one.server == server and phase.started <= one.time <= phase.ended
    ]
    last = max(held, key=lambda one: one.time, default=None)
    text = ""
    if last:
        sockets = ", ".join(f"{count} {state}" for state, count in last.sockets.items())
        kernel = f", {sockets} in its kernel" if sockets else ""
        zombies = f", {last.zombies} zombies" if last.zombies else ""
        at = seconds(last.time, recording.speed)
        text = f"{at}: {last.state}, {last.sessions} in the table{kernel}{zombies}"
    return Answered(
        len(served),
        sum(one.reused is True for one in served),
        sum(band.holds(one.ended) for band in out for one in served),
        text,
    )


def loss_columns(recording: Recording) -> list[Outcome]:
    return list(losses(recording.requests))


def loss_rows(recording: Recording) -> list[LossRow]:
    """Of the LOSS_ROWS clients that lost most."""
    columns = loss_columns(recording)
    rows = []
    for client, requests in by_client(recording).items():
        counts = Counter(request.outcome for request in requests)
        if any(counts[column] for column in columns):
            rows.append(LossRow(client, len(requests), tuple(counts[column] for column in columns)))
    most = set(sorted(rows, key=lambda row: -sum(row.lost))[:LOSS_ROWS])
    return [row for row in rows if row in most]


def failed_rows(recording: Recording) -> list[Request]:
    """The first FAILED_ROWS of them."""
    return failed(ordered(recording.requests))[:FAILED_ROWS]


def event_rows(recording: Recording, axis: Axis) -> Iterator[tuple[float, str, str, str, str]]:
    """(time, wall clock, kind, server, the rest) of EVENT_ROWS at most: where there are more, first those of
    single sessions are left out, then the last."""
    events = recording.events
    if len(events) > EVENT_ROWS:
        events = tuple(event for event in events if not event["kind"].startswith("session_"))
    for event in events[:EVENT_ROWS]:
        rest = ", ".join(f"{key} {_plain(value)}" for key, value in event.items() if key not in _TIMES)
        yield event["at"], axis.wall_clock(event["at"]), event["kind"], event.get("server", ""), rest


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested figures as (dotted name, text)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(_plain(one) for one in value)
    return str(value)
