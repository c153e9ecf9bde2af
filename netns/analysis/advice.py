"""What would have saved the requests that a run lost: computed from what was recorded of it. Pure.

Every figure is of this run, or a setting of the health check; nothing is advised that cost no request.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from netns.analysis.causes import Cause, Explained
from netns.analysis.facts import Facts
from netns.analysis.health_remedy import for_health_window
from netns.analysis.loss_remedy import REMEDIES

HEADLINE: Final = 160
"""Characters that a headline has at most."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What would have avoided some losses on one server."""

    server: str
    """"" for what concerns no one server."""
    cause: str
    lost: int
    """The requests that it would have saved."""
    text: str
    """What happened, and what to do; without the last full stop."""
    step: str
    """What to do, in one short imperative that names no server."""
    wait_s: float | None = None
    """Where waiting is the step: from when the server begins to fail its check, box seconds."""


def advise(explained: Sequence[Explained], facts: Facts) -> tuple[Advice, ...]:
    """For each server, cause and occasion on which requests were lost, what to do; the costliest first."""
    grouped: dict[tuple[str, Cause, Hashable], list[Explained]] = defaultdict(list)
    for one in explained:
        if one.lost and (one.cause is Cause.HEALTH_WINDOW or one.cause in REMEDIES):
            grouped[one.server, one.cause, _occasion(one, facts)].append(one)
    found = [_advice(server, cause, lost, facts) for (server, cause, _), lost in grouped.items()]
    return tuple(sorted(found, key=lambda one: (-one.lost, one.server)))


def headline(advice: Sequence[Advice]) -> str:
    """What to do first: the step that would have saved most, with its servers; "" where nothing helps."""
    saved: Counter[str] = Counter()
    for one in advice:
        saved[one.step] += one.lost
    if not saved:
        return ""
    ((step, _),) = saved.most_common(1)
    servers = sorted({one.server for one in advice if one.step == step and one.server})
    named = len(servers)
    while len(text := _with_servers(step, servers, named)) > HEADLINE:
        named -= 1
    return text


def _with_servers(step: str, servers: Sequence[str], named: int) -> str:
    if not servers:
        return f"{step}."
    more = [f"{len(servers) - named} more"] if named < len(servers) else []
    return f"{step} ({', '.join([*servers[:named], *more])})."


def _occasion(one: Explained, facts: Facts) -> Hashable:
    """What must be alike of two losses so that one sentence is true of both."""
    if one.cause is Cause.HEALTH_WINDOW:
        return facts.window(one)
    occasion, _ = REMEDIES[one.cause]
    return occasion(one, facts)


def _advice(server: str, cause: Cause, lost: Sequence[Explained], facts: Facts) -> Advice:
    if cause is Cause.HEALTH_WINDOW:
        remedy = for_health_window(server, lost, facts.window(lost[0]), facts)
    else:
        _, sentence = REMEDIES[cause]
        remedy = sentence(server, lost, facts)
    text = f"{remedy.fact}. {remedy.do}"
    return Advice(server, cause.name.lower(), len(lost), text, remedy.step, remedy.wait_s)
