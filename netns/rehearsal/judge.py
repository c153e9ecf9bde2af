"""A rehearsal judged: from what was recorded, why each request was lost and what would have saved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netns.place import Place, Recorder
from netns.recording import Deploy, Recording
from netns.rehearsal.advice import advise
from netns.rehearsal.evidence import evidence, places
from netns.rehearsal.explain import explain
from netns.rehearsal.facts import Facts
from netns.rehearsal.history import History
from netns.rehearsal.outage import LATE_S
from netns.rehearsal.result import Rehearsal
from netns.rehearsal.stops import stops
from netns.rehearsal.window import windows
from netns.run_clock import RunClock


def judge(
    recording: Recording,
    deploys: Sequence[Deploy],
    lab: Place,
    captures: Mapping[str, Recorder],
    clock: RunClock,
    *,
    box_ended: float | None,
) -> Rehearsal:
    """The recording and its captures, judged; `box_ended`: when the box's daemon ended, if it did."""
    slack_s = LATE_S * recording.speed
    history = History(recording, late_s=slack_s, box_ended=box_ended)
    found = explain(recording.requests, evidence(lab, recording, captures, clock), history, slack_s=slack_s)
    seen = windows(recording, lab.config)
    stopped = stops(
        recording,
        {server: lab.kind(server).name for server in recording.servers},
        {name: capture.path for name, capture in captures.items()},
        places(lab),
        clock.unix,
    )
    advice = advise(found, Facts(recording, seen, deploys, lab.config, box_ended))
    return Rehearsal(recording, tuple(deploys), found, seen, stopped, advice)
