"""What happens to servers is seen without being told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from netns.namespaces.lab import NamespaceLab
from netns.observe.servers import ServerWatch
from netns.record.recording import Change, Fact
from netns.web import StopSignal
from tests.integration.conftest import MakeLab, eventually

FACTS = (Fact.HEALTH_FILE, Fact.LISTENING, Fact.VIP, Fact.FILTER, Fact.DSR_RULE, Fact.ROUTE)
"""Of a server whose node is a namespace."""

pytestmark = pytest.mark.integration

Watched = tuple[NamespaceLab, ServerWatch]


@pytest.fixture
def watched(make_lab: MakeLab) -> Iterator[Watched]:
    lab = make_lab()
    watch = ServerWatch(lab, lambda seconds: seconds)
    watch.start()
    yield lab, watch
    watch.stop()


def new_changes(watch: ServerWatch, count: int) -> Sequence[Change]:
    return watch.changes[count:]


def since(watch: ServerWatch, count: int, server: str) -> list[tuple[Fact, bool]]:
    return [(change.fact, change.holds) for change in watch.changes[count:] if change.server == server]


def test_each_change_of_a_server_is_noted_with_its_time_and_nothing_else_is(watched: Watched) -> None:
    lab, watch = watched
    assert {(c.server, c.fact, c.holds) for c in watch.changes} == {
        (server, fact, True) for server in ("rs1", "rs2", "rs3") for fact in FACTS
    }
    for act, undo, fact in (
        (lambda: lab.health_off("rs2"), lambda: lab.health_on("rs2"), Fact.HEALTH_FILE),
        (lambda: lab.vip_down("rs2"), lambda: lab.vip_up("rs2"), Fact.VIP),
        (lambda: lab.stop("rs2", StopSignal.KILL), lambda: lab.start("rs2"), Fact.LISTENING),
    ):
        for step, holds in ((act, False), (undo, True)):
            count, before = len(watch.changes), time.monotonic()
            step()
            change: Change = eventually(partial(new_changes, watch, count), f"{fact} {holds}")[0]
            assert (change.server, change.fact, change.holds) == ("rs2", fact, holds)
            assert before <= change.time <= time.monotonic()
    watch.check()
    assert since(watch, len(lab.plan.servers) * len(FACTS), "rs1") == []


RULE = ["-p", "tcp", "--dport", "80", "!", "-s", "10.0.0.1", "-j"]


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("verdict", ["DROP", "REJECT"])
def test_rule_that_stops_clients_is_noted_and_one_that_does_not_is_not(
    watched: Watched, program: str, verdict: str
) -> None:
    lab, watch = watched

    def change(action: str, *rule: str) -> None:
        lab.run("rs2", [program, action, "INPUT", *rule], check=True)

    change("-A", "-p", "tcp", "--dport", "80", "-j", "ACCEPT")
    change("-A", "-s", str(lab.plan.box.address), "-j", verdict)
    change("-A", "-p", "tcp", "--dport", "22", "-j", verdict)
    for action, holds in (("-A", False), ("-D", True)):
        count, before = len(watch.changes), time.monotonic()
        change(action, *RULE, verdict)
        seen: Change = eventually(partial(new_changes, watch, count), f"{action} {verdict}")[0]
        assert (seen.server, seen.fact, seen.holds) == ("rs2", Fact.FILTER, holds)
        assert before <= seen.time <= time.monotonic()
    watch.check()


def test_loss_of_the_dscp_rule_is_noted_and_is_no_filter(watched: Watched) -> None:
    lab, watch = watched
    saved = lab.run("rs2", ["nft", "list", "ruleset"], check=True).stdout
    for words, text, holds in ((["flush", "ruleset"], "", False), (["-f", "-"], saved, True)):
        count = len(watch.changes)
        lab.run("rs2", ["nft", *words], input=text, check=True)
        seen = eventually(partial(new_changes, watch, count), f"the DSCP rule {holds}")[0]
        assert (seen.server, seen.fact, seen.holds) == ("rs2", Fact.DSR_RULE, holds)
    assert [one.fact for one in watch.changes if not one.holds] == [Fact.DSR_RULE]


def test_loss_of_the_route_to_the_clients_is_noted(watched: Watched) -> None:
    lab, watch = watched
    route = lab.run("rs2", ["ip", "-o", "route", "show", "default"], check=True).stdout.split()
    for action, holds in (("del", False), ("add", True)):
        count = len(watch.changes)
        lab.run("rs2", ["ip", "route", action, *route], check=True)
        seen = eventually(partial(new_changes, watch, count), f"route {holds}")[0]
        assert (seen.server, seen.fact, seen.holds) == ("rs2", Fact.ROUTE, holds)
