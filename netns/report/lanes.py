"""The drawing's geometry, lane by lane: numbers and texts that the template puts into SVG. Pure.

x and widths are per cent of the drawing's width, y and heights are pixels; `path` is in a view box of COLUMNS
by the lane's height.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from netns.analysis.findings import LACKS, Band, Lack, Reset, absences, bands, lacks, resets, session_counts
from netns.analysis.wording import plural
from netns.record.recording import Outcome, Recording, ServerSample
from netns.report.axis import CHARACTER_PX, NARROW_PX, WIDE_PX, Axis, fit, round_step, stack
from netns.report.moments import Actor, Moment

COLUMNS: Final = 1500
"""Marks of one sort that fall into the same of so many columns are drawn once."""
CURVE_PX: Final = 34
HISTOGRAM_PX: Final = 84
MARK_PX: Final = 20
"""A flag's pennant with its number."""


@dataclass(frozen=True, slots=True)
class Flag:
    x: float
    row: int
    mark: str
    text: str
    tip: str
    leftward: bool
    """Its text is left of its pole, for want of room on the right."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A labelled stretch of a lane."""

    x: float
    width: float
    kind: str
    labels: tuple[tuple[str, str], ...]
    """(class of `fit`, text): what is written on it, in a wide and in a narrow drawing."""
    tip: str


@dataclass(frozen=True, slots=True)
class ServerLanes:
    name: str
    number: int
    bands: tuple[Shape, ...]
    """What the box said of it."""
    lacks: tuple[Shape, ...]
    """What it lacked, as it was seen; `kind` is the fact."""
    sessions: str
    """A path."""
    zombies: str
    """A path that encloses an area; "" without zombies."""
    peak: int
    peak_zombies: int
    moments: tuple[Shape, ...]
    """The samples, for the pointer: equal ones in a row are one."""
    summary: str


@dataclass(frozen=True, slots=True)
class Bin:
    x: float
    width: float
    y: float
    height: float
    server: int
    """Its number, -1 for failed requests."""
    out: bool
    """Answered by a server that was out of the binding list."""
    tip: str


@dataclass(frozen=True, slots=True)
class Histogram:
    bins: tuple[Bin, ...]
    width_s: float
    baseline: float
    peak: int
    """Requests answered in the fullest bin."""


def flags(axis: Axis, moments: Sequence[Moment], actor: Actor) -> tuple[Flag, ...]:
    """One actor's flags, in rows so that none covers another. A narrow drawing shows them without texts."""
    chosen = [moment for moment in moments if moment.actor is actor]
    texts = [moment.short if len(moment.short) <= 44 else moment.short[:43] + "…" for moment in chosen]
    widths = [100 * (len(text) * CHARACTER_PX + MARK_PX + 14) / WIDE_PX for text in texts]
    narrow = 100 * MARK_PX / NARROW_PX
    boxes, leftward = [], []
    for moment, width in zip(chosen, widths, strict=True):
        x = axis.x(moment.time)
        left = x + width > 100 and x >= width
        leftward.append(left)
        start = x - width if left else min(x, 100 - narrow)
        boxes.append((start, max(width, narrow) + (narrow if left else 0)))
    rows = stack(boxes)
    return tuple(
        Flag(axis.x(moment.time), row, moment.mark, text, f"{axis.seconds(moment.time)}: {moment.text}", left)
        for moment, text, row, left in zip(chosen, texts, rows, leftward, strict=True)
    )


def server_lanes(recording: Recording, axis: Axis) -> tuple[ServerLanes, ...]:
    """All servers' session curves have one scale."""
    held = {
        server: sorted((one for one in recording.samples if one.server == server), key=lambda one: one.time)
        for server in recording.servers
    }
    counts = {server: session_counts(recording, server) for server in recording.servers}
    zombies = {server: [(one.time, one.zombies) for one in held[server]] for server in recording.servers}
    peak = {server: max((count for _, count in counts[server]), default=0) for server in counts}
    peak_zombies = {server: max((count for _, count in zombies[server]), default=0) for server in zombies}
    top = max([*peak.values(), *peak_zombies.values()], default=0)
    return tuple(
        ServerLanes(
            server,
            number,
            tuple(_band(axis, band) for band in bands(recording, server)),
            tuple(_lack(axis, server, lack) for lack in lacks(recording, server)),
            _line(axis, counts[server], top),
            _area(axis, zombies[server], top),
            peak[server],
            peak_zombies[server],
            tuple(_samples(axis, held[server])),
            _summary(recording, axis, server, counts[server]),
        )
        for number, server in enumerate(recording.servers)
    )


def lack_keys(recording: Recording) -> tuple[tuple[str, str], ...]:
    """(kind, text) of what servers lacked, for the legend."""
    found = {lack.fact for server in recording.servers for lack in lacks(recording, server)}
    return tuple((fact.name.lower(), LACKS[fact]) for fact in LACKS if fact in found)


def reset_shapes(recording: Recording, axis: Axis) -> tuple[Shape, ...]:
    return tuple(_reset(axis, reset) for reset in resets(recording))


def histogram(recording: Recording, axis: Axis) -> Histogram:
    """Requests by when they ended: answered ones above the line, by server; failed ones below it."""
    width_s = round_step(recording.ended / 100) if recording.ended else 1.0
    out = {server: absences(recording, server) for server in recording.servers}
    counts: Counter[tuple[int, int, bool]] = Counter()
    numbers = {server: number for number, server in enumerate(recording.servers)}
    last = max(int(recording.ended / width_s * (1 - 1e-9)), 0)
    for request in recording.requests:
        column = min(max(int(request.ended / width_s), 0), last)
        if request.outcome is Outcome.OK:
            away = any(band.holds(request.ended) for band in out.get(request.server, ()))
            counts[column, numbers.get(request.server, len(numbers)), away] += 1
        else:
            counts[column, -1, False] += 1
    above: Counter[int] = Counter()
    below: Counter[int] = Counter()
    for (column, number, _), count in counts.items():
        (below if number < 0 else above)[column] += count
    peak, depth = max(above.values(), default=0), max(below.values(), default=0)
    scale = HISTOGRAM_PX / max(peak + depth, 1)
    baseline = round(peak * scale, 1)
    level: Counter[int] = Counter()
    bins = []
    for (column, number, away), count in sorted(counts.items()):
        start, end = column * width_s, min((column + 1) * width_s, recording.ended)
        height = max(count * scale, 2.0) if number < 0 else count * scale
        y = baseline if number < 0 else baseline - (level[column] + count) * scale
        if number >= 0:
            level[column] += count
        who = "lost" if number < 0 else f"answered by {_name(recording, number)}"
        where = ", which was out of the binding list" if away else ""
        tip = f"{axis.span(start, end)}: {plural(count, 'request')} {who}{where}"
        bins.append(
            Bin(axis.x(start), axis.width(start, end), round(y, 1), round(height, 1), number, away, tip)
        )
    return Histogram(tuple(bins), width_s, baseline, peak)


def _name(recording: Recording, number: int) -> str:
    return recording.servers[number] if number < len(recording.servers) else "someone else"


def _band(axis: Axis, band: Band) -> Shape:
    width = axis.width(band.started, band.ended)
    texts = [band.state] if band.bound else [f"{band.state} · out of the binding list", band.state]
    binding = "in the binding list" if band.bound else "out of the binding list"
    why = f" ({band.reason})" if band.reason else ""
    tip = f"{band.server} {band.state}{why}, {binding}, {axis.span(band.started, band.ended)}"
    return Shape(
        axis.x(band.started), width, f"{band.state}{'' if band.bound else ' out'}", fit(texts, width), tip
    )


def _lack(axis: Axis, server: str, lack: Lack) -> Shape:
    text = LACKS[lack.fact]
    end = min(lack.ended, axis.ended)
    tip = f"{server}: {text}, {axis.span(lack.began, end)} ({axis.seconds(end - lack.began)})"
    width = axis.width(lack.began, end)
    return Shape(axis.x(lack.began), width, lack.fact.name.lower(), fit([text], width), tip)


def _reset(axis: Axis, reset: Reset) -> Shape:
    text = plural(reset.resets, "RST")
    tip = (
        f"{plural(reset.sessions, 'session')} of {reset.server} reset, {plural(reset.resets, 'RST')}, "
        f"{axis.span(reset.started, reset.ended)}"
    )
    return Shape(
        axis.x(reset.started),
        axis.width(reset.started, reset.ended),
        "reset",
        (("", f"{reset.server}: {text}"),),
        tip,
    )


def _corners(axis: Axis, points: Iterable[tuple[float, int]], top: int) -> list[tuple[int, float]]:
    """The points in the view box, the last of each column, and only where the value changes."""
    columns = {round(axis.x(time) * COLUMNS / 100): value for time, value in points}
    kept: list[tuple[int, int]] = []
    for column, value in columns.items():
        if not kept or kept[-1][1] != value:
            kept.append((column, value))
    return [(column, round((CURVE_PX - 2) * (1 - value / max(top, 1)) + 1, 1)) for column, value in kept]


def _line(axis: Axis, points: Sequence[tuple[float, int]], top: int) -> str:
    corners = _corners(axis, points, top)
    if not corners:
        return ""
    (x, y), rest = corners[0], corners[1:]
    return (
        f"M{x} {y}"
        + "".join(f"H{x}V{y}" for x, y in rest)
        + f"H{round(axis.x(points[-1][0]) * COLUMNS / 100)}"
    )


def _area(axis: Axis, points: Sequence[tuple[float, int]], top: int) -> str:
    if not any(value for _, value in points):
        return ""
    x = _corners(axis, points, top)[0][0]
    return f"{_line(axis, points, top)}V{CURVE_PX - 1}H{x}Z"


def _samples(axis: Axis, samples: Sequence[ServerSample]) -> Iterable[Shape]:
    runs = [
        list(run)
        for _, run in groupby(
            samples, key=lambda one: (one.sessions, tuple(one.sockets.items()), one.zombies)
        )
    ]
    ends = [run[0].time for run in runs[1:]] + [run[-1].time for run in runs[-1:]]
    for run, end in zip(runs, ends, strict=True):
        one = run[0]
        sockets = ", ".join(f"{count} {state}" for state, count in one.sockets.items()) or "none"
        tip = (
            f"{one.server}, {axis.span(one.time, end)}: {plural(one.sessions, 'session')} in the "
            f"box's table; TCP connections in its kernel: {sockets}; zombies: {one.zombies}"
        )
        yield Shape(axis.x(one.time), axis.width(one.time, end), "", (), tip)


def _summary(recording: Recording, axis: Axis, server: str, counts: Sequence[tuple[float, int]]) -> str:
    """The lanes in words, for those who do not see them."""
    states = ", ".join(f"{band.state} from {axis.seconds(band.started)}" for band in bands(recording, server))
    sessions = f"{counts[0][1]} sessions at first, {counts[-1][1]} at last" if counts else "not sampled"
    return f"{server}: {states or 'never reported on'}; {sessions}."
