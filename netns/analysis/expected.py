"""What every rehearsal must show, as a scenario's result has it: in the list of its expectations."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from netns.analysis.rehearsal import Rehearsal
from netns.analysis.wording import seconds
from netns.record.recording import Expectation

WELL_BEFORE: Final = "nothing is lost before the deploy"
SUCCEEDS: Final = "the command succeeds"
BOX_RUNS: Final = "the box's daemon runs to the end"
NO_LOSS: Final = "no request is lost beyond what is allowed"


def with_expectations(found: Rehearsal) -> Rehearsal:
    """The rehearsal, with these expectations after those that its run recorded."""
    ours = (WELL_BEFORE, SUCCEEDS, BOX_RUNS, NO_LOSS)
    recorded = [one for one in found.recording.expectations if one.text not in ours]
    expectations = (*recorded, *_expectations(found))
    return replace(found, recording=replace(found.recording, expectations=expectations))


def _expectations(found: Rehearsal) -> list[Expectation]:
    recording, what = found.recording, found.circumstances
    verdicts = [f"{one.server or 'the command'}: {one.verdict}" for one in found.deploys]
    if what.not_deployed:
        verdicts.append(f"not deployed: {', '.join(what.not_deployed)}")
    succeeded = all(one.succeeded for one in found.deploys) and not what.not_deployed
    beyond = found.terms.beyond(found.causes()) or (found.lost if what.ill else 0)
    expectations = [
        Expectation(WELL_BEFORE, not what.ill, what.ill or "every client was answered"),
        Expectation(SUCCEEDS, bool(found.deploys) and succeeded, "; ".join(verdicts) or "it was not run"),
        Expectation(NO_LOSS, not beyond, f"{found.lost:,} of {len(recording.requests):,}"),
    ]
    if what.box_ended is not None:
        measured = f"it ended at {seconds(what.box_ended, recording.speed)}: {what.box_said}"
        expectations.insert(2, Expectation(BOX_RUNS, False, measured))
    return expectations
