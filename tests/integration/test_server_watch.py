"""What happens to servers is seen without being told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from netns.recording import Change, Fact
from netns.server_watch import ServerWatch
from netns.web import StopSignal
from tests.integration.conftest import MakeLab, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def watched(make_lab: MakeLab) -> Iterator[tuple[object, ServerWatch]]:
    lab = make_lab()
    watch = ServerWatch(lab, lambda seconds: seconds)
    watch.start()
    yield lab, watch
    watch.stop()


def since(watch: ServerWatch, count: int, server: str) -> list[tuple[Fact, bool]]:
    return [(change.fact, change.holds) for change in watch.changes[count:] if change.server == server]


def test_each_change_of_a_server_is_noted_with_its_time_and_nothing_else_is(watched) -> None:
    lab, watch = watched
    assert {(c.server, c.fact, c.holds) for c in watch.changes} == {
        (server, fact, True)
        for server in ("rs1", "rs2", "rs3")
        for fact in (Fact.HEALTH_FILE, Fact.LISTENING, Fact.VIP)
    }
    for act, undo, fact in (
        (lambda: lab.health_off("rs2"), lambda: lab.health_on("rs2"), Fact.HEALTH_FILE),
        (lambda: lab.vip_down("rs2"), lambda: lab.vip_up("rs2"), Fact.VIP),
        (lambda: lab.stop("rs2", StopSignal.KILL), lambda: lab.start("rs2"), Fact.LISTENING),
    ):
        for step, holds in ((act, False), (undo, True)):
            count, before = len(watch.changes), time.monotonic()
            step()
            change: Change = eventually(lambda n=count: watch.changes[n:], f"{fact} {holds}")[0]
            assert (change.server, change.fact, change.holds) == ("rs2", fact, holds)
            assert before <= change.time <= time.monotonic()
    watch.check()
    assert since(watch, 9, "rs1") == []
