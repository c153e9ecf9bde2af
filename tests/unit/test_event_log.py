from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lb.event_log import EventLog, JsonEvent


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"time": f"t{number}", "box_time": float(number), "kind": "test", **fields}


def filled(keep: int, number: int) -> EventLog:
    event_log = EventLog(keep)
    for each in range(1, number + 1):
        event_log.append(event(each))
    return event_log


def ids(events: list[JsonEvent]) -> list[int]:
    return [each["id"] for each in events]


def test_events_are_numbered_from_one_and_otherwise_kept_as_they_are() -> None:
    event_log = filled(10, 2)
    assert event_log.since(0, 10) == [{"id": 1, **event(1)}, {"id": 2, **event(2)}]
    assert event_log.last == 2


def test_an_empty_event_log_has_nothing() -> None:
    assert EventLog(1).since(0, 10) == []
    assert EventLog(1).since(-5, 10) == []


def test_since_gives_what_comes_after_a_number_up_to_the_limit() -> None:
    event_log = filled(10, 8)
    assert ids(event_log.since(3, 2)) == [4, 5]
    assert ids(event_log.since(6, 100)) == [7, 8]
    assert event_log.since(8, 100) == []
    assert event_log.since(99, 100) == []


def test_a_negative_number_counts_from_the_end() -> None:
    assert ids(filled(10, 8).since(-3, 100)) == [6, 7, 8]
    assert ids(filled(10, 2).since(-3, 100)) == [1, 2]


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 301])
def test_only_the_newest_are_kept_in_order(number: int) -> None:
    event_log = filled(3, number)
    assert ids(event_log.since(number - 3, 100)) == [number - 2, number - 1, number]


def test_who_asks_for_events_that_are_gone_is_told_how_many_came_before() -> None:
    event_log = filled(3, 10)
    missed, *rest = event_log.since(2, 100)
    assert missed == {"id": 7, "time": "t8", "box_time": 8.0, "kind": "missed", "missed": 5}
    assert ids(rest) == [8, 9, 10]


def test_following_gives_what_is_there_and_then_what_comes_until_the_event_log_is_closed() -> None:
    async def run() -> list[list[int]]:
        event_log = filled(10, 3)
        batches = []
        async for batch in event_log.follow(1):
            batches.append(ids(batch))
            if len(batches) < 3:
                asyncio.get_running_loop().call_soon(event_log.append, event(0))
            else:
                event_log.close()
        return batches

    assert asyncio.run(run()) == [[2, 3], [4], [5]]


def test_closing_wakes_a_reader_that_waits() -> None:
    async def run() -> list[JsonEvent]:
        event_log = EventLog(10)
        asyncio.get_running_loop().call_soon(event_log.close)
        return [each async for batch in event_log.follow(0) for each in batch]

    assert asyncio.run(asyncio.wait_for(run(), 10)) == []


def test_a_reader_slower_than_the_events_is_told_how_many_it_missed_and_goes_on() -> None:
    async def run() -> list[JsonEvent]:
        event_log = filled(4, 1)
        seen: list[JsonEvent] = []
        async for batch in event_log.follow(0):
            seen += batch
            if event_log.last == 1:
                for each in range(2, 12):
                    event_log.append(event(each))
                event_log.close()
        return seen

    seen = asyncio.run(run())
    assert [(each["id"], each["kind"]) for each in seen] == [
        (1, "test"),
        (7, "missed"),
        (8, "test"),
        (9, "test"),
        (10, "test"),
        (11, "test"),
    ]
    assert seen[1]["missed"] == 6


def test_every_reader_gets_every_event_and_one_that_leaves_harms_nobody() -> None:
    async def run() -> list[int]:
        event_log = EventLog(10)

        async def read() -> list[int]:
            return [each["id"] async for batch in event_log.follow(0) for each in batch]

        staying, leaving = asyncio.create_task(read()), asyncio.create_task(read())
        await asyncio.sleep(0)
        leaving.cancel()
        event_log.append(event(1))
        await asyncio.sleep(0)
        event_log.append(event(2))
        event_log.close()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    assert asyncio.run(run()) == [1, 2]


def test_the_latest_event_about_a_server_is_known_after_it_has_left_the_event_log() -> None:
    event_log = EventLog(1)
    for number, server in enumerate(["rs1", "rs2", "rs1", "rs2"]):
        event_log.append(event(number, virtual_server="web", server=server))
    latest = event_log.latest("test", "web", "rs1")
    assert latest is not None
    assert latest["id"] == 3
    assert event_log.latest("test", "web", "rs3") is None
    assert event_log.latest("other", "web", "rs1") is None


def test_events_are_counted_by_kind_server_and_outcome() -> None:
    event_log = EventLog(1)
    for outcome in ("success", "miss", "success"):
        event_log.append(event(1, virtual_server="web", server="rs1", outcome=outcome))
    event_log.append(event(1))
    assert event_log.counts == {
        ("test", "web", "rs1", "success"): 2,
        ("test", "web", "rs1", "miss"): 1,
        ("test", "", "", ""): 1,
    }
