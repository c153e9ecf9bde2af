from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lb.journal import Journal, JsonEvent


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"time": f"t{number}", "box_time": float(number), "kind": "test", **fields}


def filled(keep: int, number: int) -> Journal:
    journal = Journal(keep)
    for each in range(1, number + 1):
        journal.append(event(each))
    return journal


def ids(events: list[JsonEvent]) -> list[int]:
    return [each["id"] for each in events]


def test_events_are_numbered_from_one_and_otherwise_kept_as_they_are() -> None:
    journal = filled(10, 2)
    assert journal.since(0, 10) == [{"id": 1, **event(1)}, {"id": 2, **event(2)}]
    assert journal.last == 2


def test_an_empty_journal_has_nothing() -> None:
    assert Journal(1).since(0, 10) == []
    assert Journal(1).since(-5, 10) == []


def test_since_gives_what_comes_after_a_number_up_to_the_limit() -> None:
    journal = filled(10, 8)
    assert ids(journal.since(3, 2)) == [4, 5]
    assert ids(journal.since(6, 100)) == [7, 8]
    assert journal.since(8, 100) == []
    assert journal.since(99, 100) == []


def test_a_negative_number_counts_from_the_end() -> None:
    assert ids(filled(10, 8).since(-3, 100)) == [6, 7, 8]
    assert ids(filled(10, 2).since(-3, 100)) == [1, 2]


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 301])
def test_only_the_newest_are_kept_in_order(number: int) -> None:
    journal = filled(3, number)
    assert ids(journal.since(number - 3, 100)) == [number - 2, number - 1, number]


def test_who_asks_for_events_that_are_gone_is_told_how_many_came_before() -> None:
    journal = filled(3, 10)
    missed, *rest = journal.since(2, 100)
    assert missed == {"id": 7, "time": "t8", "box_time": 8.0, "kind": "missed", "missed": 5}
    assert ids(rest) == [8, 9, 10]


def test_following_gives_what_is_there_and_then_what_comes_until_the_journal_is_closed() -> None:
    async def run() -> list[list[int]]:
        journal = filled(10, 3)
        batches = []
        async for batch in journal.follow(1):
            batches.append(ids(batch))
            if len(batches) < 3:
                asyncio.get_running_loop().call_soon(journal.append, event(0))
            else:
                journal.close()
        return batches

    assert asyncio.run(run()) == [[2, 3], [4], [5]]


def test_closing_wakes_a_reader_that_waits() -> None:
    async def run() -> list[JsonEvent]:
        journal = Journal(10)
        asyncio.get_running_loop().call_soon(journal.close)
        return [each async for batch in journal.follow(0) for each in batch]

    assert asyncio.run(asyncio.wait_for(run(), 10)) == []


def test_a_reader_slower_than_the_events_is_told_how_many_it_missed_and_goes_on() -> None:
    async def run() -> list[JsonEvent]:
        journal = filled(4, 1)
        seen: list[JsonEvent] = []
        async for batch in journal.follow(0):
            seen += batch
            if journal.last == 1:
                for each in range(2, 12):
                    journal.append(event(each))
                journal.close()
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
        journal = Journal(10)

        async def read() -> list[int]:
            return [each["id"] async for batch in journal.follow(0) for each in batch]

        staying, leaving = asyncio.create_task(read()), asyncio.create_task(read())
        await asyncio.sleep(0)
        leaving.cancel()
        journal.append(event(1))
        await asyncio.sleep(0)
        journal.append(event(2))
        journal.close()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    assert asyncio.run(run()) == [1, 2]


def test_the_latest_event_about_a_server_is_known_after_it_has_left_the_journal() -> None:
    journal = Journal(1)
    for number, server in enumerate(["rs1", "rs2", "rs1", "rs2"]):
        journal.append(event(number, virtual_server="web", server=server))
    latest = journal.latest("test", "web", "rs1")
    assert latest is not None
    assert latest["id"] == 3
    assert journal.latest("test", "web", "rs3") is None
    assert journal.latest("other", "web", "rs1") is None


def test_events_are_counted_by_kind_server_and_outcome() -> None:
    journal = Journal(1)
    for outcome in ("success", "miss", "success"):
        journal.append(event(1, virtual_server="web", server="rs1", outcome=outcome))
    journal.append(event(1))
    assert journal.counts == {
        ("test", "web", "rs1", "success"): 2,
        ("test", "web", "rs1", "miss"): 1,
        ("test", "", "", ""): 1,
    }
