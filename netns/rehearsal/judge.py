"""A rehearsal judged: from what was recorded, why each request was lost and what would have saved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from netns.place import Place, Recorder
from netns.recording import Deploy, Recording
from netns.rehearsal.advice import advise
from netns.rehearsal.evidence import evidence, places
from netns.rehearsal.explain import explain
from netns.rehearsal.history import History
from netns.rehearsal.result import Rehearsal
from netns.rehearsal.stops import stops
from netns.rehearsal.window import window
from netns.run_clock import RunClock

LATE_S: Final = 0.25
"""Real seconds by which, on a busy machine, a change may be seen too late or a client's word be off."""


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
    servers = recording.servers
    windows = [
        one for server in servers if (one := window(server, recording, history, lab.config)) is not None
    ]
    seen = stops(
        recording,
        {server: lab.kind(server).name for server in servers},
        {name: capture.path for name, capture in captures.items()},
        places(lab),
        clock,
    )
    advice = advise(found, windows, history, lab.config)
    return Rehearsal(recording, tuple(deploys), found, tuple(windows), seen, advice)
