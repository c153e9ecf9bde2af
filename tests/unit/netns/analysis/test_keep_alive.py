"""A keep-alive timeout is told from other reasons to close."""

from __future__ import annotations

import pytest

from netns.analysis.keep_alive import Closed, idle_timeout

AGAIN = [Closed(float(number), idle) for number, idle in enumerate((0.100, 0.104, 0.110, 0.098))]


def test_closes_again_and_again_after_the_same_idle_time_are_a_timeout() -> None:
    assert idle_timeout(AGAIN, [0.05, 0.09, 0.1]) == (0.098, 0.110)


def test_few_times_that_a_busy_machine_distorts_change_nothing() -> None:
    assert idle_timeout([*AGAIN, Closed(9.0, 0.3)], [0.09] * 40 + [0.2]) == (0.098, 0.110)


@pytest.mark.parametrize(
    ("closed", "kept_s"),
    [
        pytest.param([], [0.1], id="nothing closed"),
        pytest.param(
            [Closed(one.at_s, one.idle_s * one.at_s) for one in AGAIN], [], id="idle times that differ"
        ),
        pytest.param(AGAIN, [0.09, 0.2], id="another was kept that had been idle for longer"),
        pytest.param([Closed(5.0, one.idle_s) for one in AGAIN], [], id="all at once, as by a reload"),
        pytest.param(AGAIN[:2], [], id="too few to be sure"),
    ],
)
def test_closes_that_no_timeout_explains_are_none(closed: list[Closed], kept_s: list[float]) -> None:
    assert idle_timeout(closed, kept_s) is None
