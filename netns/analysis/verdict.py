"""What a rehearsal proves: ok, lost, inconclusive, failed or ill, and in a sentence why. Pure.

| verdict | it means | exit code |
| --- | --- | --- |
| ok | clients felt the deploy, and no request was lost beyond what is allowed | 0 |
| lost | requests were lost | 1 |
| failed | the command failed, or left a server out of service | 6 |
| ill | requests were lost before the deploy began: nothing was deployed | 7 |
| inconclusive | this run can't tell, and says why and what to do | 8 |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from netns.analysis.causes import Cause
from netns.analysis.terms import Terms
from netns.analysis.wording import plural, seconds
from netns.record.recording import Deploy

OUTSIDE_S: Final = 1.0
"""Box seconds by which a command's own time may be too long before a run at another speed proves nothing."""


class Verdict(Enum):
    OK = "ok"
    LOST = "lost"
    FAILED = "failed"
    ILL = "ill"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        return {"ok": 0, "lost": 1, "failed": 6, "ill": 7, "inconclusive": 8}[self.value]


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    text: str
    """What a reader acts on, in one line."""
    reasons: tuple[str, ...] = ()
    """Everything that speaks against a verdict of ok, the gravest first."""

    @property
    def more(self) -> tuple[str, ...]:
        """The reasons that `text` does not give."""
        return tuple(reason for reason in self.reasons if reason not in self.text)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else a verdict depends on, beside losses. The defaults are those of a run that went well."""

    ill: str = ""
    """What was wrong before the deploy began."""
    not_deployed: tuple[str, ...] = ()
    """Servers that the command was not run for."""
    box_ended: float | None = None
    """When the box's daemon ended, if it did, box seconds."""
    not_back: str = ""
    """What did not come back after the deploy: servers, or clients."""
    left_running: tuple[str, ...] = ()
    """Programs that the command left running outside of the lab."""
    unfelt: tuple[str, ...] = ()
    """Deployed servers that no request reached."""
    unchanged: tuple[str, ...] = ()
    """Deployed servers of which no change was seen."""
    unfinished: int = 0
    """Requests that were under way when the run ended, over connections that were still open."""
    broken: str = ""
    """What of the lab failed during the run, other than the box."""
    busy: str = ""
    """What this machine did to the run, with figures."""
    box_said: str = ""
    """The end of the box's log, where its daemon ended."""
    lacking: str = ""
    """Which captures are not there, or not whole, when the run is judged again."""


def conclude(
    requests: int,
    causes: Mapping[Cause, int],
    deploys: Sequence[Deploy],
    terms: Terms,
    circumstances: Circumstances,
    *,
    speed: float,
    step: str,
) -> Judgement:
    """`causes`: how many requests were lost, by cause; `step`: what to do about them first."""
    lost = sum(causes.values())
    of = f"{lost:,} of {plural(requests, 'request')} lost"
    if circumstances.unfinished:
        of += f", {circumstances.unfinished:,} more under way when the run ended"
    if circumstances.ill:
        return Judgement(Verdict.ILL, f"Nothing was deployed. {circumstances.ill}.", (circumstances.ill,))
    failures = tuple(_failures(deploys, circumstances))
    beyond = terms.beyond(causes)
    doubts = tuple(_doubts(deploys, circumstances, speed, lost))
    losses = (of,) if beyond else ()
    reasons = (*failures, *losses, *_box(circumstances, speed), *doubts)
    if failures and (not beyond or failures[0] != circumstances.not_back):
        return Judgement(Verdict.FAILED, f"{failures[0]}. {of}.", reasons)
    certain = not circumstances.lacking or terms.beyond_at_least(lost)
    if beyond and certain and not circumstances.busy and not circumstances.broken:
        return Judgement(Verdict.LOST, f"{of}. {step}".rstrip(), reasons)
    if remaining := [reason for reason in reasons if reason not in losses]:
        return Judgement(Verdict.INCONCLUSIVE, f"{of}. {remaining[0]}.", reasons)
    allowed = f", all of them allowed: {_words(causes)}" if lost else ""
    return Judgement(Verdict.OK, f"{of}{allowed}.")


def _failures(deploys: Sequence[Deploy], circumstances: Circumstances) -> Iterator[str]:
    for deploy in deploys:
        stopped_by_us = deploy.exit_code is None and circumstances.box_ended is not None
        if not deploy.succeeded and not stopped_by_us:
            yield f"{deploy.who}: {deploy.verdict}"
    if circumstances.not_deployed and circumstances.box_ended is None:
        yield f"Not deployed: {', '.join(circumstances.not_deployed)}"
    if circumstances.not_back:
        yield circumstances.not_back


def _box(circumstances: Circumstances, speed: float) -> Iterator[str]:
    if circumstances.box_ended is not None:
        at = seconds(circumstances.box_ended, speed)
        yield f"The box's daemon ended at {at}, and the rehearsal with it: rehearse without stopping the box"


def _doubts(
    deploys: Sequence[Deploy], circumstances: Circumstances, speed: float, lost: int
) -> Iterator[str]:
    """Why a run without losses, or a busy one, proves nothing."""
    if circumstances.broken:
        yield f"{circumstances.broken}. Rehearse again in a new lab"
    if circumstances.lacking and lost:
        yield (
            f"{circumstances.lacking}: why requests were lost can't be told. "
            "Copy the captures to where result.json is"
        )
    if circumstances.busy:
        clock = "" if speed == 1 else ", in real time"
        yield f"This machine was too busy{clock}: {circumstances.busy}. Rehearse again when it is idle"
    slowest = max(deploys, key=lambda one: one.outside_s, default=None)
    if speed != 1 and slowest is not None and slowest.outside_s * speed > OUTSIDE_S:
        yield (
            f"{slowest.who} spent {seconds(slowest.outside_s)} of real time outside L4LAB_SLEEP and "
            f"L4LAB_WAIT, which is {seconds(slowest.outside_s * speed, speed)} for a box at speed {speed:g}: "
            "for the box it took longer than in production. Rehearse at --speed 1; "
            "--interval and --retries shorten the box's waits"
        )
    if circumstances.left_running:
        names = ", ".join(circumstances.left_running)
        yield (
            f"The command left {names} running: what is done later is not in this run. "
            "Have it stay in the foreground until it is done"
        )
    if circumstances.unchanged:
        names = ", ".join(circumstances.unchanged)
        yield f"No change of {names} was seen: the command did not deploy anything that this lab can see"
    if circumstances.unfelt:
        names = ", ".join(circumstances.unfelt)
        yield f"No request reached {names}: no client could have felt the deploy. Start more --clients"


def _words(causes: Mapping[Cause, int]) -> str:
    return ", ".join(f"{count:,} × {cause.value}" for cause, count in causes.items())
