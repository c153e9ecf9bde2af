"""The page of a sweep: what each repetition lost, how long servers were bound, how long the deploy waited.

x is per cent of the drawing's width, y is pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netns.analysis.sweep import Combination, Repetition, sentence
from netns.analysis.wording import plural, seconds, unit

HEIGHT_PX: Final = 190
BARS_PX: Final = 46


@dataclass(frozen=True, slots=True)
class Dot:
    """A server's way out in one repetition."""

    x: float
    needed_y: float
    waited_y: float | None
    server: int
    safe: bool
    """The deploy waited long enough."""
    tip: str


@dataclass(frozen=True, slots=True)
class Column:
    """A repetition."""

    x: float
    label: str
    """When it began, after a health check, without the unit."""
    lost: int
    height: float
    report: str
    tip: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    sentence: str
    failed: str
    columns: tuple[Column, ...]
    dots: tuple[Dot, ...]
    ticks: tuple[tuple[float, str], ...]
    smallest_y: float | None
    worst_y: float
    causes: tuple[tuple[str, int], ...]
    servers: tuple[str, ...]


def chart(one: Combination, speed: float) -> Chart:
    windows = one.windows
    servers = tuple(dict.fromkeys(window.server for window in windows))
    times = [*(w.needed_s for w in windows), *(w.waited_s or 0.0 for w in windows), one.worst_s]
    top = max(times) * 1.08
    most = max((run.lost for run in one.repetitions), default=0)

    def y(time_s: float) -> float:
        return round(HEIGHT_PX * (1 - time_s / top), 1)

    width = 100 / len(one.repetitions)
    columns, dots = [], []
    for number, run in enumerate(one.repetitions):
        middle = width * (number + 0.5)
        columns.append(_column(run, round(middle, 2), most, speed))
        for window in run.windows:
            index = servers.index(window.server)
            x = middle + width * 0.5 * ((index + 0.5) / len(servers) - 0.5)
            waited = window.waited_s
            how = "was still bound" if window.measured else "would still have been bound"
            needed = seconds(window.needed_s, speed)
            tip = f"{window.server} {how} for {needed} after it began to fail its check"
            if waited is not None:
                tip += f"; the deploy stopped it after {seconds(waited, speed)}"
            dots.append(
                Dot(
                    round(x, 2),
                    y(window.needed_s),
                    None if waited is None else y(waited),
                    index,
                    waited is None or waited >= window.needed_s,
                    tip,
                )
            )
    low, high = one.failure_interval
    count = len(one.repetitions)
    doubtful = f"; {one.inconclusive} inconclusive" if one.inconclusive else ""
    step = 5 if top <= 45 else 20 if top <= 200 else 100
    return Chart(
        title=", ".join(f"{key} = {value}" for key, value in one.varied.items()) or "as given",
        sentence=sentence(one, speed),
        failed=f"{one.failures} of {count} failed: a probability of {one.failures / count:.0%}, "
        f"between {low:.0%} and {high:.0%} with 95 % confidence{doubtful}",
        columns=tuple(columns),
        dots=tuple(dots),
        ticks=tuple((y(value), f"{value} {unit(speed)}") for value in range(0, int(top) + 1, step)),
        smallest_y=None if one.smallest_wait_s is None else y(one.smallest_wait_s),
        worst_y=y(one.worst_s),
        causes=tuple(one.causes.items()),
        servers=servers,
    )


def _column(run: Repetition, x: float, most: int, speed: float) -> Column:
    causes = ", ".join(f"{count} {cause}" for cause, count in run.causes.items())
    return Column(
        x=x,
        label=f"{run.phase_s:g}",
        lost=run.lost,
        height=round(BARS_PX * run.lost / most, 1) if most else 0.0,
        report=f"{run.directory}/report.html" if run.directory else "",
        tip=f"begun {run.phase_s:g} {unit(speed)} after a check: {run.verdict.value}, "
        f"{plural(run.requests, 'request')}, {run.lost} lost" + (f" ({causes})" if causes else ""),
    )
