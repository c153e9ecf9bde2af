"""What a deploy was seen to do: whether its servers changed, and whether any client could feel it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netns.analysis.rehearsal import Rehearsal
from netns.record.recording import Fact, Outcome

OUT: Final = frozenset({"FAILED", "DISABLED", "SHUTDOWN"})
"""States of a server that something was done to. SUSPECT may be one check that a busy machine made late."""


def changed(found: Rehearsal, server: str) -> bool:
    """Whether anything of the server was seen to change from the first deploy on."""
    since = min((deploy.began for deploy in found.deploys), default=0.0)
    recording = found.recording
    facts: dict[Fact, bool] = {}
    for change in recording.changes:
        if change.server == server:
            if change.time >= since and facts.get(change.fact, change.holds) is not change.holds:
                return True
            facts[change.fact] = change.holds
    events = [one for one in recording.events if one.get("server") == server and one["at"] >= since]
    return any(touch.server == server and touch.time >= since for touch in recording.touches) or any(
        one.get("outcome") == "bad_status" or (one["kind"] == "server_state" and one["new"] in OUT)
        for one in events
    )


def unchanged(found: Rehearsal, servers: Sequence[str], *, whole: bool) -> tuple[str, ...]:
    """Which of the deployed servers did not change. `whole`: one command had all of them to choose from, so
    that some may stay as they are."""
    still = tuple(server for server in servers if not changed(found, server))
    return () if whole and len(still) < len(servers) else still


def unfelt(found: Rehearsal, servers: Sequence[str]) -> tuple[str, ...]:
    """Which of the servers that changed no request reached."""
    reached = {one.server for one in found.recording.requests if one.outcome is Outcome.OK}
    reached |= {one.server for one in found.explained}
    return tuple(server for server in servers if server not in reached and changed(found, server))
