"""What happened, for readers: the last events as JSON-ready dicts, numbered, and a way to wait for more.

Writing never waits. A reader that falls behind by more than the event_log keeps is told how many it missed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

JsonEvent = Mapping[str, Any]

MISSED: Final = "missed"
"""Kind of the entry that stands for events a reader came too late for."""

_BATCH: Final = 256


class EventLog:
    """The newest `keep` events. They are numbered from 1 on, in their key `id`."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.last = 0
        """The number of the newest event; 0 before the first."""
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        """Events ever, by kind, virtual server, server and outcome; "" for what an event has not."""
        self._latest: dict[tuple[str, str, str], JsonEvent] = {}
        self._ring: list[JsonEvent] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = False

    def append(self, event: JsonEvent) -> None:
        """Number an event and keep it."""
        self.last += 1
        numbered = {"id": self.last, **event}
        if len(self._ring) < self.keep:
            self._ring.append(numbered)
        else:
            self._ring[(self.last - 1) % self.keep] = numbered
        subject = (event["kind"], event.get("virtual_server", ""), event.get("server", ""))
        self._latest[subject] = numbered
        self.counts[(*subject, event.get("outcome", ""))] += 1
        self._wake()

    def latest(self, kind: str, virtual_server: str, server: str) -> JsonEvent | None:
        """The newest event of this kind about this server, however long ago; None if there never was one."""
        return self._latest.get((kind, virtual_server, server))

    def since(self, serial: int, limit: int) -> list[JsonEvent]:
        """At most `limit` events that are kept and come after number `serial`, oldest first.

        When others came before them that are not kept any more, an entry of the kind `missed` comes first.
        A negative `serial` counts from the end: -10 is the last ten.
        """
        after = self._resolve(serial)
        first = max(after + 1, self.last - self.keep + 1)
        stop = min(first + limit, self.last + 1)
        found = [self._ring[(number - 1) % self.keep] for number in range(first, stop)]
        if found and first > after + 1:
            found.insert(0, _missed(first - after - 1, found[0]))
        return found

    async def follow(self, serial: int) -> AsyncIterator[list[JsonEvent]]:
        """The events after number `serial` in batches as `since` gives them, until the log is closed."""
        serial = self._resolve(serial)
        while True:
            batch = self.since(serial, _BATCH)
            if batch:
                serial = batch[-1]["id"]
                yield batch
            elif self._closed:
                return
            else:
                arrival = asyncio.get_running_loop().create_future()
                self._waiting.append(arrival)
                await arrival

    def close(self) -> None:
        """No more events will come: readers get what is left and end."""
        self._closed = True
        self._wake()

    def _resolve(self, serial: int) -> int:
        return max(0, self.last + serial) if serial < 0 else serial

    def _wake(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for arrival in waiting:
                if not arrival.done():
                    arrival.set_result(None)


def _missed(number: int, following: JsonEvent) -> JsonEvent:
    """Stands for `number` events before `following`, at its time."""
    return {
        "id": following["id"] - 1,
        "time": following["time"],
        "box_time": following["box_time"],
        "kind": MISSED,
        "missed": number,
    }
