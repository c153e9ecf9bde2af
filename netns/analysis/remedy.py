"""What would have saved some requests: the form that every advice has, and words that several share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netns.analysis.causes import Explained


@dataclass(frozen=True, slots=True)
class Remedy:
    """What happened, and what to do about it."""

    fact: str
    """A sentence or two, without the last full stop."""
    do: str
    """The same for what to do: imperatives."""
    step: str
    """What to do in one short imperative that names no server: at most 120 characters."""
    wait_s: float | None = None
    """Where waiting is the step: from when the server begins to fail its check, box seconds."""


def statuses(lost: Iterable[Explained]) -> str:
    """ "500, 502": those answered."""
    return ", ".join(str(one) for one in sorted({one.request.status for one in lost}))


def methods(lost: Iterable[Explained]) -> str:
    """ "GET, POST"."""
    return ", ".join(sorted({one.request.method for one in lost}))


def longest_s(lost: Sequence[Explained]) -> float:
    """How long the longest had been under way; box seconds."""
    return max(one.request.ended - one.request.started for one in lost)
