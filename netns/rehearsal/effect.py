"""What a deploy was seen to do: whether its servers changed, and whether any client could feel it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from netns.recording import Outcome, Recording
from netns.rehearsal.result import Rehearsal


def changed(recording: Recording, server: str) -> bool:
    """Whether anything of the server was seen to change after the run's first look at it."""
    facts: dict[object, bool] = {}
    for change in recording.changes:
        if change.server == server:
            if facts.get(change.fact, change.holds) is not change.holds:
                return True
            facts[change.fact] = change.holds
    return (
        any(touch.server == server for touch in recording.touches)
        or any(
            event["kind"] in ("probe", "server_state")
            and event["server"] == server
            and event.get("outcome", "") != "success"
            for event in recording.events
        )
        or len({sample.state for sample in recording.samples if sample.server == server}) > 1
    )


def unchanged(recording: Recording, servers: Sequence[str], *, whole: bool) -> tuple[str, ...]:
    """Which of the deployed servers did not change. `whole`: one command had all of them to choose from, so
    that some may stay as they are."""
    found = tuple(server for server in servers if not changed(recording, server))
    return () if whole and len(found) < len(servers) else found


def unfelt(found: Rehearsal, servers: Sequence[str]) -> tuple[str, ...]:
    """Which of the servers that changed no request reached."""
    reached = {one.server for one in found.recording.requests if one.outcome is Outcome.OK}
    reached |= {one.server for one in found.explained}
    return tuple(server for server in servers if server not in reached and changed(found.recording, server))
