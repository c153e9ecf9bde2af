"""What was true of servers and box at each moment of a run: asked by those who explain its losses. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from netns.findings import Band, Lack, bands, lacks
from netns.recording import Fact, Recording


class History:
    """Of one run."""

    def __init__(self, recording: Recording, *, late_s: float, box_ended: float | None = None) -> None:
        """`late_s`: by how much the servers' changes may have been seen too late, in box seconds.
        `box_ended`: when the box's daemon ended, if it did."""
        self.speed = recording.speed
        self.box_ended = box_ended
        self._late_s = late_s
        self._lacks = {server: lacks(recording, server) for server in recording.servers}
        self._bands: Mapping[str, tuple[Band, ...]] = {
            server: bands(recording, server) for server in recording.servers
        }

    def lack(self, server: str, fact: Fact, time: float) -> Lack | None:
        """The stretch around that time in which the fact did not hold, give or take what was seen late."""
        return next(
            (
                lack
                for lack in self._lacks.get(server, ())
                if lack.fact is fact and lack.began - self._late_s <= time <= lack.ended
            ),
            None,
        )

    def lacks(self, server: str, fact: Fact) -> list[Lack]:
        return [lack for lack in self._lacks.get(server, ()) if lack.fact is fact]

    def out_of_service(self, server: str, time: float) -> Lack | None:
        """The first thing that the server lacked at that time, if any."""
        found = [lack for fact in Fact if (lack := self.lack(server, fact, time))]
        return min(found, key=lambda lack: lack.began, default=None)

    def bound(self, server: str, time: float) -> bool:
        """Whether the box gave the server new flows then."""
        return any(band.bound and band.holds(time) for band in self._bands.get(server, ()))

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(self._bands)

    def bands(self, server: str) -> tuple[Band, ...]:
        return self._bands.get(server, ())

    def any_bound(self, time: float) -> bool:
        """Whether any server was; a moment ago counts, as a packet under way does not know."""
        return any(self.bound(server, time) for server in self._bands)

    def unbound_after(self, server: str, time: float) -> float | None:
        """When the box took the server out of the binding list, at that time or later; None for never."""
        return next(
            (band.started for band in self._bands.get(server, ()) if not band.bound and band.started >= time),
            None,
        )

    def box_is_down(self, time: float) -> bool:
        return self.box_ended is not None and time >= self.box_ended - self._late_s
