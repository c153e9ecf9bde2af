"""The moments of a run: what was done to it and what the box decided, in one order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from string import ascii_uppercase
from typing import Any, Final

from netns.analysis.findings import BOUND_STATES, LACKS, Reset, lacks, resets
from netns.analysis.wording import plural, seconds, words
from netns.record.recording import Fact, Recording, Step

TOGETHER: Final = 0.005
"""Decisions of one sort within this share of the run are one moment: ten servers that fail together."""


TOLD_S: Final = 0.5
"""Real seconds between a step and the change that it made."""

_TOLD: Final = {
    Fact.HEALTH_FILE: "health file",
    Fact.LISTENING: "web server",
    Fact.VIP: "lo:0",
    Fact.CONTAINER: "web server",
    Fact.FILTER: "packet filter",
    Fact.DSR_RULE: "DSCP rule",
    Fact.ROUTE: "route",
}
_BACK: Final = {
    Fact.HEALTH_FILE: "health file back",
    Fact.LISTENING: "listens again",
    Fact.VIP: "VIP up",
    Fact.CONTAINER: "container runs",
    Fact.FILTER: "packet filter open again",
    Fact.DSR_RULE: "DSCP rule back",
    Fact.ROUTE: "route to the clients back",
}


class Actor(Enum):
    """Who made it happen."""

    PEOPLE = "done"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that the run did, or that the box decided."""

    time: float
    actor: Actor
    mark: str
    """1, 2, … for what was done; A, B, … for what the box decided."""
    subjects: tuple[str, ...]
    """The nodes concerned."""
    short: str
    """For a flag: "rs2 FAILED"."""
    text: str


@dataclass(frozen=True, slots=True)
class _Decision:
    time: float
    servers: tuple[str, ...]
    verb: str
    texts: tuple[str, ...]


def moments(recording: Recording) -> tuple[Moment, ...]:
    """In the order of time; of one time, what was done comes first."""
    steps = sorted([*recording.steps, *_seen(recording)], key=lambda step: step.time)
    done = [
        Moment(
            step.time,
            Actor.PEOPLE,
            str(number),
            (step.node,) if step.node else (),
            _done(step),
            _done(step),
        )
        for number, step in enumerate(steps, 1)
    ]
    decided = [
        Moment(
            decision.time,
            Actor.BOX,
            _letters(index),
            decision.servers,
            _short(decision),
            "; ".join(decision.texts),
        )
        for index, decision in enumerate(_decisions(recording))
    ]
    return tuple(sorted([*done, *decided], key=lambda moment: moment.time))


def _seen(recording: Recording) -> Iterator[Step]:
    """What servers were seen to lose and get back, but for what a step tells of already."""
    for server in recording.servers:
        for lack in lacks(recording, server):
            for time, text in ((lack.began, LACKS[lack.fact]), (lack.ended, _BACK[lack.fact])):
                told = any(
                    step.node == server
                    and _TOLD[lack.fact] in step.text
                    and abs(step.time - time) <= TOLD_S * recording.speed
                    for step in recording.steps
                )
                if not told and time <= recording.ended:
                    yield Step(time, text, server)


def _done(step: Step) -> str:
    return f"{step.node}: {step.text}" if step.node and step.node not in step.text else step.text


def _short(decision: _Decision) -> str:
    names = decision.servers
    return f"{', '.join(names) if len(names) <= 3 else plural(len(names), 'server')} {decision.verb}"


def _decisions(recording: Recording) -> list[_Decision]:
    found: list[_Decision] = []
    for decision in sorted(_singles(recording), key=lambda decision: decision.time):
        near = next(
            (
                index
                for index, other in enumerate(found)
                if other.verb == decision.verb and decision.time - other.time <= TOGETHER * recording.ended
            ),
            None,
        )
        if near is None:
            found.append(decision)
        else:
            other = found[near]
            servers = tuple(dict.fromkeys(other.servers + decision.servers))
            found[near] = _Decision(other.time, servers, other.verb, other.texts + decision.texts)
    return found


def _singles(recording: Recording) -> list[_Decision]:
    found = []
    for event in recording.events:
        if event["at"] <= 0:
            continue
        if event["kind"] == "server_state":
            found.append(_Decision(event["at"], (event["server"],), event["new"], (_change(event),)))
        elif event["kind"] == "server_drained":
            text = f"{event['server']}: the last of its sessions has gone"
            found.append(_Decision(event["at"], (event["server"],), "drained", (text,)))
    found += [
        _Decision(reset.started, (reset.server,), "sessions reset", (_reset(reset, recording.speed),))
        for reset in resets(recording)
    ]
    return found


def _change(event: dict[str, Any]) -> str:
    was, bound = event["old"] in BOUND_STATES, bool(event["bound"])
    fate = (
        "out of the binding list"
        if was and not bound
        else "in the binding list at once"
        if bound and not was
        else "still in the binding list"
        if bound
        else "still out"
    )
    reason = f" ({event['reason']})" if event.get("reason") else ""
    sessions = plural(event.get("sessions", 0), "session")
    return f"{event['server']}: {event['old']} → {event['new']}{reason}, {fate}; {sessions} in the table"


def _reset(reset: Reset, speed: float) -> str:
    took = seconds(reset.ended - reset.started, speed)
    text = f"{reset.server}: {plural(reset.sessions, 'session')} reset ({words(reset.reason)})"
    return f"{text} with {plural(reset.resets, 'RST')} in {took}"


def _letters(index: int) -> str:
    """A … Z, AA, AB, …"""
    letters = ""
    while index >= 0:
        letters = ascii_uppercase[index % 26] + letters
        index = index // 26 - 1
    return letters
