"""Which losses a rehearsal may have and pass all the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netns.analysis.causes import Cause


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be lost."""

    lost: int = 0
    """Requests, of whatever cause."""
    causes: Mapping[Cause, int | None] = field(default_factory=dict)
    """Requests by cause, beside those; None for any number."""

    def beyond(self, causes: Mapping[Cause, int]) -> int:
        """How many of the requests lost, given by cause, are more than is allowed."""
        left = 0
        for cause, count in causes.items():
            allowed = self.causes.get(cause, 0)
            left += 0 if allowed is None else max(0, count - allowed)
        return max(0, left - self.lost)

    def beyond_at_least(self, lost: int) -> int:
        """The same of requests whose causes are not known."""
        counts = list(self.causes.values())
        return 0 if None in counts else max(0, lost - self.lost - sum(count or 0 for count in counts))


def allowed_causes(texts: Iterable[str]) -> dict[Cause, int | None]:
    """Of "closed_under_way" or "closed_under_way:3"; ValueError with what is allowed."""
    names = {cause.name.lower(): cause for cause in Cause if cause is not Cause.UNEXPLAINED}
    found: dict[Cause, int | None] = {}
    for text in texts:
        name, colon, number = text.partition(":")
        if name not in names:
            raise ValueError(f"--allow {text}: {name!r} is no cause: {', '.join(names)} are allowed")
        if colon and not (number.isdecimal() and len(number) < 10):
            raise ValueError(f"--allow {text}: {number!r} is no number of requests, as in {name}:3")
        found[names[name]] = int(number) if colon else None
    return found
