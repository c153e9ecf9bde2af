"""A rehearsal judged: from what was recorded, why each request was lost and what would have saved it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from netns.analysis.advice import advise
from netns.analysis.attempts import Actors
from netns.analysis.causes import Cause, Explained, is_slow
from netns.analysis.evidence import evidence
from netns.analysis.explain import explain
from netns.analysis.facts import Facts
from netns.analysis.findings import LOSSES
from netns.analysis.health_window import windows
from netns.analysis.history import History
from netns.analysis.outage import LATE_S
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.stops import stops
from netns.plan.config import LabConfig
from netns.record.recording import Deploy, Outcome, Recording
from netns.record.segments import Captures


def judge(
    recording: Recording,
    deploys: Sequence[Deploy],
    config: LabConfig,
    where: Actors,
    captures: Captures | None,
    *,
    kinds: Mapping[str, str],
    box_ended: float | None,
) -> Rehearsal:
    """The recording and its captures, judged.

    `captures`: None when they are not whole: what was on the wire is then not told. `kinds`: of the web
    servers, by server; `box_ended`: when the box's daemon ended, if it did.
    """
    seen = windows(recording, config)
    if captures is None:
        untold = tuple(_untold(recording))
        return Rehearsal(recording, tuple(deploys), untold, seen, (), (), where, kinds)
    slack_s = LATE_S * recording.speed
    history = History(recording, late_s=slack_s, box_ended=box_ended)
    flows = evidence(where, recording, captures)
    explained = explain(recording.requests, flows, history, slack_s=slack_s)
    stopped = stops(recording, kinds, captures, where)
    advice = advise(explained, Facts(recording, seen, deploys, config, box_ended))
    return Rehearsal(recording, tuple(deploys), explained, seen, stopped, advice, where, kinds)


def _untold(recording: Recording) -> Iterator[Explained]:
    """Each request that was lost or slow, as it is told without captures."""
    for request in recording.requests:
        if (lost := request.outcome is not Outcome.OK) or is_slow(request, recording.speed):
            text = f"{LOSSES[request.outcome]}: " if lost else "late: "
            text += "without the captures, nothing tells why"
            yield Explained(request, lost, Cause.UNEXPLAINED, "", text, 0, request.started)
