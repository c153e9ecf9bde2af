"""The clients' lanes: their connections as bars, their requests as ticks, what they lost as marks. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from netns.analysis.findings import (
    LOSSES,
    Band,
    Connection,
    absences,
    by_client,
    connections,
    failed,
    natural,
)
from netns.analysis.wording import plural, real_seconds
from netns.record.recording import Outcome, Recording, Request
from netns.report.axis import Axis, fit
from netns.report.lanes import COLUMNS, Shape

NOTHING: Final[Mapping[Request, str]] = MappingProxyType({})
LANES: Final = 60
"""More clients than these share the last lane; those that lost requests are the last to."""
LANE_PX: Final = 14
BAR: Final = (3, 8)
"""y and height of a connection's bar."""
OVER: Final = {
    True: "on a connection that it had",
    False: "on a new connection",
    None: "on a connection that its library does not show",
}
LEAST_BAR: Final = 0.25
"""Shorter connections, per cent of the width, are their requests' ticks only."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Marks of one server in a lane, as one path."""

    server: int
    answered: str
    opened: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was lost. None is ever left out."""

    x: float
    """Where it ended."""
    hang_x: float
    hang_width: float
    outcome: str
    tip: str


@dataclass(frozen=True, slots=True)
class ClientLane:
    name: str
    bars: tuple[Shape, ...]
    """Connections; `kind` is the server's number."""
    outs: tuple[Shape, ...]
    """The parts of them during which their server was out of the binding list."""
    ticks: tuple[Ticks, ...]
    failures: tuple[Failure, ...]
    summary: str


def client_lanes(
    recording: Recording, axis: Axis, why: Mapping[Request, str] = NOTHING
) -> tuple[ClientLane, ...]:
    """A lane a client, those whose first server is the same together; those beyond LANES share one more.

    `why` says of requests why they were lost, where that is known.
    """
    requests = by_client(recording)
    opened = connections(recording)
    numbers = {server: number for number, server in enumerate(recording.servers)}
    out = {server: absences(recording, server) for server in recording.servers}
    lost = {client: len(failed(sent)) for client, sent in requests.items()}
    kept = sorted(requests, key=lambda client: (-lost[client], natural(client)))[:LANES]

    def first_server(client: str) -> int:
        return next((numbers[one.server] for one in opened[client] if one.server in numbers), len(numbers))

    lanes = [
        _lane(axis, client, requests[client], opened[client], numbers, out, why)
        for client in sorted(kept, key=lambda client: (first_server(client), natural(client)))
    ]
    if others := [client for client in requests if client not in set(kept)]:
        crowd = [request for client in others for request in requests[client]]
        lanes.append(_lane(axis, f"{len(others):,} more", crowd, (), numbers, out, why))
    return tuple(lanes)


def _lane(
    axis: Axis,
    name: str,
    requests: Sequence[Request],
    opened: Sequence[Connection],
    numbers: Mapping[str, int],
    out: Mapping[str, Sequence[Band]],
    why: Mapping[Request, str],
) -> ClientLane:
    served = [one for one in opened if axis.width(one.started, one.ended) >= LEAST_BAR]
    return ClientLane(
        name,
        tuple(_bar(axis, one, numbers, out) for one in served),
        tuple(_outs(axis, served, out)),
        _ticks(axis, requests, numbers),
        tuple(failure(axis, request, why.get(request, "")) for request in failed(requests)),
        _summary(name, requests),
    )


def failure(axis: Axis, request: Request, why: str = "") -> Failure:
    """With a bar for as long as its client waited."""
    wait = request.ended - request.started
    over = OVER[request.reused]
    by = f" by {request.server}" if request.server else ""
    status = f" {request.status}" if request.status else ""
    text = f"{request.client}, {axis.seconds(request.ended)}: {LOSSES[request.outcome]}{status}{by}, {over}"
    port = f", port {request.local_port}" if request.local_port else ""
    waited = f"{axis.seconds(wait)} after it was sent"
    if axis.speed != 1:
        waited += f" ({real_seconds(wait / axis.speed, axis.speed)})"
    error = f". {request.error}" if request.error else ""
    return Failure(
        axis.x(request.ended),
        axis.x(request.started),
        axis.width(request.started, request.ended),
        request.outcome.value,
        f"{text}{port}, {waited}{error}{f' — {why}' if why else ''}",
    )


def _bar(axis: Axis, one: Connection, numbers: Mapping[str, int], out: Mapping[str, Sequence[Band]]) -> Shape:
    width = axis.width(one.started, one.ended)
    late = sum(band.holds(request.ended) for band in out.get(one.server, ()) for request in one.requests)
    lost = len(failed(one.requests))
    tip = (
        f"{one.client}, port {one.local_port}, {f'to {one.server}' if one.server else 'never answered'}, "
        f"{axis.span(one.started, one.ended)}: {plural(len(one.requests), 'request')}"
    )
    if late:
        tip += f", {late:,} while {one.server} was out of the binding list"
    if lost:
        tip += f", {lost:,} lost"
    number = numbers.get(one.server)
    kind = "unknown" if number is None else str(number)
    return Shape(axis.x(one.started), width, kind, fit([one.server], width) if one.server else (), tip)


def _outs(axis: Axis, served: Iterable[Connection], out: Mapping[str, Sequence[Band]]) -> Iterable[Shape]:
    for one in served:
        for band in out.get(one.server, ()):
            start, end = max(one.started, band.started), min(one.ended, band.ended)
            if end > start:
                yield Shape(axis.x(start), axis.width(start, end), "out", (), "")


def _ticks(axis: Axis, requests: Iterable[Request], numbers: Mapping[str, int]) -> tuple[Ticks, ...]:
    answered: dict[int, set[int]] = defaultdict(set)
    opened: dict[int, set[int]] = defaultdict(set)
    for request in requests:
        if request.outcome is Outcome.OK:
            number = numbers.get(request.server, len(numbers))
            answered[number].add(_column(axis, request.ended))
            if request.reused is False:
                opened[number].add(_column(axis, request.started))
    return tuple(
        Ticks(number, _strokes(answered[number], *BAR), _strokes(opened[number], 0, LANE_PX))
        for number in sorted(answered)
    )


def _column(axis: Axis, time: float) -> int:
    return round(axis.x(time) * COLUMNS / 100)


def _strokes(columns: Iterable[int], y: int, height: int) -> str:
    return "".join(f"M{column} {y}v{height}" for column in sorted(columns))


def _summary(name: str, requests: Sequence[Request]) -> str:
    """The lane in words, for those who do not see it."""
    answered = Counter(request.server for request in requests if request.outcome is Outcome.OK)
    by = ", ".join(f"{count:,} answered by {server}" for server, count in answered.items())
    lost = len(failed(requests))
    return f"{name}: {plural(len(requests), 'request')}; {by or 'none answered'}; {lost:,} lost."
