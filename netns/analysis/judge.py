"""A rehearsal judged: from what was recorded, why each request was lost and what would have saved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netns.analysis.advice import advise
from netns.analysis.attempts import Actors
from netns.analysis.evidence import evidence
from netns.analysis.explain import explain
from netns.analysis.facts import Facts
from netns.analysis.health_window import windows
from netns.analysis.history import History
from netns.analysis.outage import LATE_S
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.stops import stops
from netns.plan.config import LabConfig
from netns.record.recording import Deploy, Recording
from netns.record.segments import Captures


def judge(
    recording: Recording,
    deploys: Sequence[Deploy],
    config: LabConfig,
    where: Actors,
    captures: Captures,
    *,
    kinds: Mapping[str, str],
    box_ended: float | None,
) -> Rehearsal:
    """The recording and its captures, judged.

    `kinds`: of the web servers, by server; `box_ended`: when the box's daemon ended, if it did.
    """
    slack_s = LATE_S * recording.speed
    history = History(recording, late_s=slack_s, box_ended=box_ended)
    flows = evidence(where, recording, captures)
    explained = explain(recording.requests, flows, history, slack_s=slack_s)
    seen = windows(recording, config)
    stopped = stops(recording, kinds, captures, where)
    advice = advise(explained, Facts(recording, seen, deploys, config, box_ended))
    return Rehearsal(recording, tuple(deploys), explained, seen, stopped, advice)
