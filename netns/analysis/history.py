"""What was true of servers and box at each moment of a run: asked by those who explain its losses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Final

from netns.analysis import wording
from netns.analysis.findings import Band, Lack, bands, lacks
from netns.record.recording import Fact, Recording

_IN_SERVICE: Final = [fact for fact in Fact if fact is not Fact.FILTER]


class History:
    """Of one run."""

    def __init__(self, recording: Recording, *, late_s: float, box_ended: float | None = None) -> None:
        """`late_s`: by how much the servers' changes may have been seen too late, in box seconds.
        `box_ended`: when the box's daemon ended, if it did."""
        self.speed = recording.speed
        self.box_ended = box_ended
        self._late_s = late_s
        self._lacks = {server: lacks(recording, server) for server in recording.servers}
        self._watched = {(change.server, change.fact) for change in recording.changes}
        self._bands: Mapping[str, tuple[Band, ...]] = {
            server: bands(recording, server) for server in recording.servers
        }
        self._services = {name: _bands_behind(recording, name) for name in _virtual_servers(recording)}

    def seconds(self, time: float) -> str:
        """A duration in words, which say that it is the box's where that is not a real one."""
        return wording.seconds(time, self.speed)

    def watched(self, server: str, fact: Fact) -> bool:
        """Whether anything is known of it: where nothing is, that nothing was lacking is no finding."""
        return (server, fact) in self._watched

    def lack(self, server: str, fact: Fact, time: float) -> Lack | None:
        """The stretch around that time in which the fact did not hold, give or take what was seen late."""
        return self.lack_during(server, fact, time, time)

    def lack_during(self, server: str, fact: Fact, since: float, until: float) -> Lack | None:
        """The first stretch without the fact that has a part in that time."""
        return next(
            (
                lack
                for lack in self._lacks.get(server, ())
                if lack.fact is fact and lack.began - self._late_s <= until and since <= lack.ended
            ),
            None,
        )

    def lacks(self, server: str, fact: Fact) -> list[Lack]:
        return [lack for lack in self._lacks.get(server, ()) if lack.fact is fact]

    def out_of_service(self, server: str, time: float, since: float = inf) -> Lack | None:
        """The first thing that the server lacked at that time, or from `since` on, if any.

        A rule of its packet filter may be about anything: it takes no server out by itself.
        """
        began = min(since, time)
        found = [lack for fact in _IN_SERVICE if (lack := self.lack_during(server, fact, began, time))]
        return min(found, key=lambda lack: lack.began, default=None)

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(self._bands)

    def bands(self, server: str, virtual_server: str = "") -> tuple[Band, ...]:
        """What the box said of the server; behind that virtual server, if one is named."""
        return self._of(virtual_server).get(server, ())

    def bound(self, server: str, time: float, virtual_server: str = "") -> bool:
        """Whether the box gave the server new flows then."""
        return any(band.bound and band.holds(time) for band in self.bands(server, virtual_server))

    def any_bound(self, time: float, virtual_server: str = "") -> bool:
        """Whether any server was."""
        return any(self.bound(server, time, virtual_server) for server in self._of(virtual_server))

    def none_bound(self, time: float, virtual_server: str = "") -> bool:
        """Whether no server was, give or take what the box's clock and the captures' are apart."""
        about = (time, time - self._late_s, time + self._late_s)
        return not all(self.any_bound(one, virtual_server) for one in about if one > 0)

    def unbound_after(self, server: str, time: float, virtual_server: str = "") -> float | None:
        """When the box took the server out of the binding list, at that time or later; None for never."""
        return next(
            (
                band.started
                for band in self.bands(server, virtual_server)
                if not band.bound and band.started >= time
            ),
            None,
        )

    def box_is_down(self, time: float) -> bool:
        return self.box_ended is not None and time >= self.box_ended - self._late_s

    def _of(self, virtual_server: str) -> Mapping[str, tuple[Band, ...]]:
        return self._services.get(virtual_server, self._bands)


def _virtual_servers(recording: Recording) -> list[str]:
    return [service["name"] for service in recording.settings.get("virtual_server", ())]


def _bands_behind(recording: Recording, virtual_server: str) -> Mapping[str, tuple[Band, ...]]:
    """What the box said of each server that is behind a virtual server: it may say otherwise of another's."""
    (service,) = (one for one in recording.settings["virtual_server"] if one["name"] == virtual_server)
    theirs = [one for one in recording.events if one.get("virtual_server", virtual_server) == virtual_server]
    part = replace(recording, events=tuple(theirs))
    return {server: bands(part, server) for server in service.get("servers") or recording.servers}
