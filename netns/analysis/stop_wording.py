"""The pattern of a stop in words: for a report, a table, a terminal. Pure."""

from __future__ import annotations

from typing import Final

from netns.analysis.stop_pattern import Fates, StopPattern
from netns.analysis.wording import plural, seconds

AT_ONCE_S: Final = 0.05
"""Real seconds below which a duration is not worth a figure."""


def in_words(pattern: StopPattern) -> str:
    """The pattern in a sentence."""
    return "; ".join(
        (
            clients_in_words(pattern),
            f"listener gone: {gone_in_words(pattern.listener_gone_s)}",
            f"processes gone: {gone_in_words(pattern.ended_s)}",
        )
    )


def clients_in_words(pattern: StopPattern) -> str:
    """What became of its clients' connections and requests."""
    idle = pattern.idle
    parts = [f"{plural(idle.total, 'idle connection')}: {idle_in_words(pattern)}"]
    if pattern.in_hand.total:
        under_way = fates_in_words(pattern.in_hand, "finished")
        parts.append(f"{plural(pattern.in_hand.total, 'request')} under way: {under_way}")
    if pattern.later.total:
        parts.append(f"{plural(pattern.later.total, 'later request')}: {fates_in_words(pattern.later)}")
    if pattern.new.total:
        parts.append(f"{plural(pattern.new.total, 'new connection')}: {fates_in_words(pattern.new)}")
    return "; ".join(parts)


def gone_in_words(after_s: float | None) -> str:
    """ "at once", "after 2.2 s", "no"."""
    if after_s is None:
        return "no"
    return "at once" if after_s < AT_ONCE_S else f"after {seconds(after_s)}"


def idle_in_words(pattern: StopPattern) -> str:
    """ "closed by FIN, the last after 2.0 s"."""
    idle = pattern.idle
    ways = {
        "closed by FIN": idle.fin,
        "reset": idle.rst,
        "closed by the client": idle.client,
        "kept": idle.kept,
    }
    last_s = pattern.idle_ended_s
    when = (
        "" if last_s is None else " at once" if last_s < AT_ONCE_S else f", the last after {seconds(last_s)}"
    )
    return _shares(ways) + when


def fates_in_words(fates: Fates, finished: str = "answered") -> str:
    """ "3 answered, 1 cut by FIN", without the number where it is all of them."""
    ways = {
        finished: fates.finished,
        "cut by FIN": fates.fin,
        "reset": fates.rst,
        "refused": fates.refused,
        "left hanging": fates.hanging,
    }
    return _shares(ways)


def _shares(ways: dict[str, int]) -> str:
    found = {way: count for way, count in ways.items() if count}
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {way}" for way, count in found.items()) or "none"
