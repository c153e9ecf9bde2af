"""What a rehearsal gives: its run's recording, the deploys, and why each request that suffered did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from netns.analysis.advice import Advice, headline
from netns.analysis.attempts import Actors
from netns.analysis.causes import Cause, Explained
from netns.analysis.health_window import Window
from netns.analysis.stops import Stop
from netns.analysis.terms import Terms
from netns.analysis.verdict import Circumstances, Judgement, Verdict, conclude
from netns.record.recording import Deploy, Recording, Request, group_of

NAME: Final = "rehearsal"
"""By which a rehearsal's document is told from others."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the requests of one kind of client and one method."""

    kind: str
    method: str
    requests: int
    causes: dict[Cause, int]
    """Of those lost."""

    @property
    def lost(self) -> int:
        return sum(self.causes.values())

    @property
    def why(self) -> str:
        """ "15 × sent to a stopped server before the box noticed, 1 × VIP down"."""
        return ", ".join(f"{count:,} × {cause.value}" for cause, count in self.causes.items())


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A whole rehearsal."""

    recording: Recording
    deploys: tuple[Deploy, ...]
    explained: tuple[Explained, ...]
    """Every request that was lost or slow."""
    windows: tuple[Window, ...]
    """Of each server that went out of service."""
    stops: tuple[Stop, ...]
    """What each server did to its clients when it was stopped."""
    advice: tuple[Advice, ...]
    actors: Actors
    """Who is who in the captures."""
    kinds: Mapping[str, str]
    """Of the web servers, by server."""
    terms: Terms = field(default_factory=Terms)
    circumstances: Circumstances = field(default_factory=Circumstances)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Those that the deploy could have cost: not those that ended before it began."""
        began = min((deploy.began for deploy in self.deploys), default=0.0)
        return tuple(one for one in self.recording.requests if one.ended >= began)

    @property
    def judgement(self) -> Judgement:
        return conclude(
            len(self.requests),
            self.causes(),
            self.deploys,
            self.terms,
            self.circumstances,
            speed=self.recording.speed,
            step=headline(self.advice),
        )

    @property
    def passed(self) -> bool:
        return self.judgement.verdict is Verdict.OK

    @property
    def lost(self) -> int:
        return self.recording.lost

    @property
    def unexplained(self) -> int:
        return sum(one.cause is Cause.UNEXPLAINED for one in self.explained)

    def causes(self) -> dict[Cause, int]:
        """How many requests were lost for each cause, in the order of causes."""
        counted = Counter(one.cause for one in self.explained if one.lost)
        return {cause: counted[cause] for cause in Cause if counted[cause]}

    def tally(self) -> list[Tally]:
        """Requests and losses of each kind of client and method, by name."""
        sent = Counter((group_of(one.client), one.method) for one in self.requests)
        lost = Counter(
            (group_of(one.request.client), one.request.method, one.cause)
            for one in self.explained
            if one.lost
        )
        return [
            Tally(kind, method, count, {c: lost[kind, method, c] for c in Cause if lost[kind, method, c]})
            for (kind, method), count in sorted(sent.items())
        ]

    def as_json(self) -> dict[str, Any]:
        """The document other programs read: docs/json.md."""
        judgement = self.judgement
        return {
            "verdict": judgement.verdict.value,
            "text": judgement.text,
            "reasons": list(judgement.reasons),
            **self.recording.as_json(),
            "passed": self.passed,
            "deploys": [{**asdict(deploy), "verdict": deploy.verdict} for deploy in self.deploys],
            "causes": {cause.name.lower(): count for cause, count in self.causes().items()},
            "tally": [
                {
                    "kind": one.kind,
                    "method": one.method,
                    "requests": one.requests,
                    "lost": one.lost,
                    "causes": {cause.name.lower(): count for cause, count in one.causes.items()},
                }
                for one in self.tally()
            ],
            "explained": [
                {
                    "client": one.request.client,
                    "id": one.request.id,
                    "method": one.request.method,
                    "started": one.request.started,
                    "ended": one.request.ended,
                    "outcome": one.request.outcome.value,
                    "lost": one.lost,
                    "cause": one.cause.name.lower(),
                    "server": one.server,
                    "text": one.text,
                    "attempts": one.attempts,
                }
                for one in self.explained
            ],
            "unexplained": self.unexplained,
            "windows": [{**asdict(one), "waited_s": one.waited_s} for one in self.windows],
            "stops": [asdict(one) for one in self.stops],
            "advice": [asdict(one) for one in self.advice],
            "actors": _actors(self.actors),
            "kinds": dict(self.kinds),
            "terms": {
                "lost": self.terms.lost,
                "causes": {cause.name.lower(): count for cause, count in self.terms.causes.items()},
            },
            "circumstances": asdict(self.circumstances),
        }


def _actors(actors: Actors) -> dict[str, Any]:
    return {
        "clients": sorted(actors.clients),
        "box": actors.box,
        "checker": actors.checker,
        "servers": dict(actors.servers),
        "services": dict(actors.services),
        "vips": [
            {"address": address, "dscp": dscp, "vip": vip} for (address, dscp), vip in actors.vips.items()
        ],
    }
