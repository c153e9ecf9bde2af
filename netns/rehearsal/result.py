"""What a rehearsal gives: its run's recording, the deploys, and why each request that suffered did."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from netns.recording import Recording
from netns.rehearsal.advice import Advice
from netns.rehearsal.causes import Cause, Explained
from netns.rehearsal.deploy import Deploy
from netns.rehearsal.window import Window


def kind_of(client: str) -> str:
    """The kind of client that bears a name: "curl-post" of "curl-post-3"."""
    return client.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A whole rehearsal."""

    recording: Recording
    deploys: tuple[Deploy, ...]
    explained: tuple[Explained, ...]
    """Every request that was lost or slow."""
    windows: tuple[Window, ...]
    """Of each server that went out of service."""
    advice: tuple[Advice, ...]

    @property
    def passed(self) -> bool:
        return self.recording.passed

    @property
    def lost(self) -> int:
        return self.recording.lost

    @property
    def unexplained(self) -> int:
        return sum(one.cause is Cause.UNEXPLAINED for one in self.explained)

    def losses(self) -> dict[Cause, Counter[tuple[str, str]]]:
        """Per cause, in the order of causes, how many requests were lost, by kind of client and method."""
        found: dict[Cause, Counter[tuple[str, str]]] = {}
        for cause in Cause:
            counted = Counter(
                (kind_of(one.request.client), one.request.method)
                for one in self.explained
                if one.lost and one.cause is cause
            )
            if counted:
                found[cause] = counted
        return found

    def as_json(self) -> dict[str, Any]:
        """The document other programs read: docs/json.md."""
        return {
            **self.recording.as_json(),
            "deploys": [{**asdict(deploy), "verdict": deploy.verdict} for deploy in self.deploys],
            "causes": {cause.name.lower(): counted.total() for cause, counted in self.losses().items()},
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
            "advice": [asdict(one) for one in self.advice],
        }
