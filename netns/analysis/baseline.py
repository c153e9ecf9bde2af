"""How a lab was before the deploy: each client is answered, at its rate, and nothing is lost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from netns.analysis.findings import LOSSES
from netns.analysis.wording import plural
from netns.record.recording import ClientGroup, Outcome, Request, group_of

LASTS_S: Final = 2.0
"""Real seconds that clients ask before the deploy, once each has been answered: twenty requests of each."""

WITHIN_S: Final = 60.0
"""Real seconds that each gets to be answered for the first time: a JVM takes some to start."""


def loss(requests: Sequence[Request], groups: Sequence[ClientGroup]) -> str:
    """What was lost, and the client's words for the first of it; "" for nothing."""
    lost = [one for one in requests if one.outcome is not Outcome.OK]
    if not lost:
        return ""
    services = {group.name: group.service for group in groups}
    of = Counter((services.get(group_of(one.client), ""), one.outcome) for one in lost)
    ways = ", ".join(
        f"{count:,} on {name} {LOSSES[outcome]}" if name else f"{count:,} {LOSSES[outcome]}"
        for (name, outcome), count in of.most_common()
    )
    first = lost[0]
    words = f"{first.status} " * bool(first.status) + first.error
    return (
        f"{len(lost):,} of {plural(len(requests), 'request')} were lost before the deploy began: {ways} "
        f"(the first: {first.client}: {words.strip() or 'no error said'})"
    )


def not_bound(rows: Sequence[Mapping[str, Any]], servers: Sequence[str]) -> str:
    """Which of the servers to deploy the box gives no new flows, by its own rows; "" for none."""
    known = {row["name"] for row in rows}
    found = [f"{server} is unknown to the box" for server in servers if server not in known]
    found += [
        f"{row['name']} is {row['state']} on {row['virtual_server']} (last check: {row['last_check']})"
        for row in rows
        if row["name"] in servers and not row["bound"]
    ]
    return f"Before the deploy began, {', '.join(found)}" if found else ""
