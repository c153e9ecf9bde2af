"""The event loop's lag, as the heartbeat counts it."""

from __future__ import annotations

import asyncio
import time

import pytest

from lb.lag import BEAT_S, UPPER_BOUNDS_S, Heartbeat, LoopLag


def between(before: LoopLag, after: LoopLag) -> dict[float, int]:
    """Beats between two readings by the bucket they fall into; empty buckets are left out."""
    counts = [new - old for old, new in zip(before.counts, after.counts, strict=True)]
    by_bound = zip(UPPER_BOUNDS_S, [0, *counts[:-1]], counts, strict=True)
    return {bound: count - below for bound, below, count in by_bound if count > below}


def test_beats_are_counted_by_how_late_they_were() -> None:
    heart = Heartbeat()
    heart.note(0.0)
    heart.note(0.1005)
    heart.note(0.24)

    assert heart.reading().beats == 3
    assert between(Heartbeat().reading(), heart.reading()) == {0.001: 2, 0.05: 1}
    assert heart.reading().worst_s == pytest.approx(0.04)
    assert heart.reading().sum_s == pytest.approx(0.0405)


def test_a_loop_that_stands_still_for_a_second_was_late_for_a_second() -> None:
    """One late beat would say that the loop was late for a tenth of a second."""
    heart = Heartbeat()
    heart.note(0.0)
    before = heart.reading()

    heart.note(1.099)

    assert between(before, heart.reading()) == {0.1: 1, 0.2: 1, 0.5: 3, 1.0: 5}


def test_lag_beyond_the_last_bound_is_in_the_number_of_beats_only() -> None:
    heart = Heartbeat()
    heart.note(5.95)

    assert (heart.reading().beats, heart.reading().counts[-1]) == (60, 50)


def test_heartbeat_measures_a_loop_that_is_kept_from_turning() -> None:
    async def block() -> LoopLag:
        heart = Heartbeat()
        heart.start(asyncio.get_running_loop())
        time.sleep(0.6)  # noqa: ASYNC251 - the fault that is measured
        await asyncio.sleep(BEAT_S)
        heart.stop()
        return heart.reading()

    reading = asyncio.run(block())

    assert reading.worst_s >= 0.4
    assert reading.beats >= 6


def test_stopped_heartbeat_beats_no_more() -> None:
    async def stop_at_once() -> LoopLag:
        heart = Heartbeat()
        heart.start(asyncio.get_running_loop())
        heart.stop()
        await asyncio.sleep(2 * BEAT_S)
        return heart.reading()

    assert asyncio.run(stop_at_once()).beats == 0
