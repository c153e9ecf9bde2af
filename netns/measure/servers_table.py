"""Measured stops as a table: on a terminal, and in docs/web-servers.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netns.analysis.stop_wording import AT_ONCE_S, fates_in_words, gone_in_words, idle_in_words
from netns.analysis.wording import seconds
from netns.measure.servers import HealthAfterStop, Measured

COLUMNS: Final = (
    "server",
    "stop",
    "idle connections",
    "requests in hand",
    "later ones, over these connections",
    "new connections",
    "listener gone",
    "processes gone",
    "L4 check",
    "L7 check",
)


def row(measured: Measured) -> list[str]:
    """A cell for each column."""
    pattern = measured.pattern
    left = f"{measured.left} left by the main one: " if measured.left else ""
    return [
        f"{measured.kind} {measured.version}",
        f"{measured.how} ({measured.signal.removeprefix('SIG')})",
        idle_in_words(pattern),
        fates_in_words(pattern.in_hand, "finished"),
        fates_in_words(pattern.later) + _until(measured),
        fates_in_words(pattern.new),
        gone_in_words(pattern.listener_gone_s),
        left + gone_in_words(pattern.ended_s),
        _check(measured.l4),
        _check(measured.l7),
    ]


def markdown(measured: Sequence[Measured]) -> str:
    """The table of docs/web-servers.md."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *map(row, measured)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _until(measured: Measured) -> str:
    """How long requests were answered over the connections that it had, where they were."""
    pattern = measured.pattern
    if not pattern.later.finished or pattern.answered_s is None:
        return ""
    return ", to the end" if pattern.still_answers else f", until {seconds(pattern.answered_s)}"


def _check(check: HealthAfterStop) -> str:
    if check.state != "FAILED":
        return "good to the end"
    if check.good_s is None or check.good_s < AT_ONCE_S:
        return "bad at once"
    return f"good for {seconds(check.good_s)}"
