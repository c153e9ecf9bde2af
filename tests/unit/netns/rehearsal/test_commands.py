"""What of a command's time its own waits cover."""

from __future__ import annotations

import pytest

from netns.record.recording import Change, Fact, Wait
from netns.rehearsal.commands import outside_s, undisturbed


def test_overlapping_waits_cover_a_time_once() -> None:
    waits = [Wait("sleep 10", 5.0, 15.0), Wait("sleep 4", 10.0, 14.0), Wait("wait FAILED", 14.0, 20.0)]
    assert outside_s(0.0, 30.0, waits) == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("server", "time", "counts"),
    [("rs1", 8.0, True), ("rs2", 8.0, False), ("rs2", 5.5, True), ("rs2", 16.0, True)],
)
def test_a_fleets_wait_counts_unless_another_server_changed_within_it(
    server: str, time: float, counts: bool
) -> None:
    wait = Wait("sleep 10", 5.0, 15.0)
    changes = [Change(time, server, Fact.LISTENING, False)]
    assert undisturbed({"rs1": [wait]}, changes, late_s=1.0) == ([wait] if counts else [])
