"""Each server's ways out of service and back, as a story's own facts, checks and states tell them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lb.config import parse
from netns.analysis.health_window import Sign, Window, misses, windows, worst_s
from netns.plan.config import LabConfig
from netns.record.recording import Fact
from tests.unit.netns.analysis.story import CONFIG, Story


def lab(**health_check: object) -> LabConfig:
    service = {"name": "web", "address": "192.0.2.10", "port": 80, "dscp": 10, "health_check": health_check}
    return parse(LabConfig, {"virtual_server": [service]}, "the test's lab")


def seen(story: Story, config: LabConfig = CONFIG) -> tuple[Window, ...]:
    return windows(story.recording(), config)


def checked(story: Story, server: str, *seen: tuple[float, str]) -> None:
    for at, detail in seen:
        story.probe(server, at, detail)


def hasty() -> Story:
    """rs2 is stopped 7.3 s after its health file went, and unbound 6.1 s after that."""
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 45.0)
    story.loses("rs2", Fact.LISTENING, 27.3, 40.0)
    story.fails("rs2", 33.4, until=46.0)
    return story


# When it began to fail its check


def test_window_is_measured_where_the_box_unbound_the_server() -> None:
    (one,) = seen(hasty())
    assert (one.server, one.virtual_server, one.sign) == ("rs2", "web", Sign.HEALTH_FILE)
    assert (one.failing, one.stopped, one.unbound, one.restarted, one.bound) == (20.0, 27.3, 33.4, 40.0, 46.0)
    assert one.measured
    assert one.needed_s == pytest.approx(13.4)
    assert one.waited_s == pytest.approx(7.3)


def test_health_file_after_which_checks_pass_is_not_why_the_check_failed() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 60.0)
    story.loses("rs1", Fact.LISTENING, 41.0, 55.0)
    checked(story, "rs1", (12.0, "200"), (22.0, "200"), (32.0, "200"), (42.0, "refused"), (52.0, "refused"))
    story.fails("rs1", 52.0, until=62.0)
    (one,) = seen(story)
    assert (one.sign, one.failing, one.health_off, one.passed) == (Sign.STOP, 41.0, 20.0, 2)
    assert (one.needed_s, one.waited_s) == (11.0, 0.0)


def test_health_file_after_which_no_check_was_made_before_the_stop_counts() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 60.0)
    story.loses("rs1", Fact.LISTENING, 25.0, 55.0)
    checked(story, "rs1", (19.0, "200"), (29.0, "refused"), (39.0, "refused"))
    story.fails("rs1", 39.0, until=62.0)
    (one,) = seen(story)
    assert (one.sign, one.failing, one.waited_s, one.passed) == (Sign.HEALTH_FILE, 20.0, 5.0, 0)


def test_health_file_that_no_check_asks_for_takes_nothing_out() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 60.0)
    checked(story, "rs1", (22.0, "200"), (32.0, "200"))
    assert seen(story) == ()
    assert seen(story, lab(kind="l4")) == ()


def test_app_that_fails_its_check_once_told_to_stop_is_failing_from_then_on() -> None:
    story = Story()
    story.told_to_stop("rs1", 31.0, "graceful: TERM")
    story.loses("rs1", Fact.LISTENING, 37.0, 39.0)
    checked(story, "rs1", (25.0, "200"), (35.0, "503"), (45.0, "200"))
    (one,) = seen(story)
    assert (one.sign, one.failing, one.stopped, one.failed_check) == (Sign.TOLD, 31.0, 37.0, "503")
    assert one.waited_s == 6.0
    assert (one.measured, one.needed_s) == (False, 4.0 + 10.0)


def test_server_that_is_told_to_stop_and_stops_listening_at_once_fails_by_that() -> None:
    story = Story()
    story.told_to_stop("rs1", 31.0, "graceful: QUIT")
    story.loses("rs1", Fact.LISTENING, 31.1, 39.0)
    checked(story, "rs1", (25.0, "200"), (35.0, "refused"))
    (one,) = seen(story)
    assert (one.sign, one.failing) == (Sign.STOP, 31.1)


@pytest.mark.parametrize("kind", ["l4", "l7"])
def test_check_that_fails_a_moment_before_the_stop_is_seen_failed_by_the_stop(kind: str) -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 32.03, 45.0)
    checked(story, "rs1", (22.0, "200"), (32.0, "reset"), (42.0, "refused"))
    story.fails("rs1", 42.0, until=52.0)
    (one,) = seen(story, lab(kind=kind))
    assert (one.sign, one.failing, one.needed_s) == (Sign.STOP, 32.0, 10.0)


def test_server_whose_checks_alone_were_refused_is_out_from_its_last_good_one_on() -> None:
    story = Story()
    checked(story, "rs2", (12.0, "200"), (22.0, "refused"), (32.0, "refused"))
    story.fails("rs2", 32.0, until=45.0)
    story.loses("rs2", Fact.LISTENING, 34.0, 38.0)
    (one,) = seen(story, lab(kind="l4"))
    assert (one.failing, one.sign, one.unbound) == (12.0, Sign.CHECK, 32.0)
    assert (one.needed_s, one.waited_s) == (20.0, 22.0)


def test_server_that_an_administrator_takes_out_has_failed_no_check() -> None:
    story = Story()
    checked(story, "rs2", (12.0, "200"), (22.0, "200"))
    story.state("rs2", 25.0, "ACTIVE", "SHUTDOWN")
    story.loses("rs2", Fact.LISTENING, 50.0, 55.0)
    story.state("rs2", 60.0, "SHUTDOWN", "ACTIVE")
    (one,) = seen(story)
    assert (one.sign, one.failing, one.unbound, one.needed_s) == (Sign.BOX, 25.0, 25.0, 0.0)


def test_the_beginning_of_a_check_decides_whether_it_came_after_the_file_went() -> None:
    """A check that began before, and ended after, says nothing of the file."""
    story = hasty()
    story.probe("rs2", 20.4, "200")
    story.events[-1] |= {"box_time": 120.4, "began": 119.9, "status": 200}
    (one,) = seen(story)
    assert one.sign is Sign.HEALTH_FILE
    story.events[-1]["began"] = 120.1
    (one,) = seen(story)
    assert one.sign is Sign.STOP


# How long it needed


def test_window_is_computed_from_the_first_miss_where_the_server_was_back_too_soon() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 29.0)
    story.loses("rs2", Fact.LISTENING, 25.0, 28.0)
    checked(story, "rs2", (16.2, "200"), (26.2, "refused"), (36.2, "200"))
    (one,) = seen(story)
    assert (one.unbound, one.measured) == (None, False)
    assert one.needed_s == pytest.approx(6.2 + 10)


def test_window_is_computed_from_the_next_check_where_none_came_meanwhile() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 24.0)
    story.loses("rs2", Fact.LISTENING, 22.0, 23.0)
    checked(story, "rs2", (16.2, "200"), (26.2, "200"))
    (one,) = seen(story)
    assert one.needed_s == pytest.approx(6.2 + 10)
    (one,) = seen(story, lab(retries=3))
    assert one.needed_s == pytest.approx(6.2 + 30)


def test_first_bad_status_is_enough_where_the_box_is_told_so_and_a_refusal_is_not() -> None:
    immediate = lab(on_bad_status="immediate")
    assert (misses(immediate.virtual_server[0]), worst_s(immediate.virtual_server[0])) == (1, 10.0)
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 24.0)
    (one,) = seen(story, immediate)
    assert one.needed_s == 10.0
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20.0, 24.0)
    (one,) = seen(story, immediate)
    assert one.needed_s == 20.0


def test_retries_of_an_l4_check_count_whatever_a_bad_status_would_do() -> None:
    service = lab(kind="l4", on_bad_status="immediate", retries=2).virtual_server[0]
    assert (misses(service), worst_s(service)) == (3, 30.0)


# Which outages there were


def test_server_that_nothing_happened_to_has_no_window() -> None:
    assert seen(Story()) == ()


def test_what_a_server_never_had_it_did_not_lose() -> None:
    story = Story()
    story.changes = [
        replace(one, holds=False) if one.fact is Fact.HEALTH_FILE else one for one in story.changes
    ]
    assert seen(story) == ()


def test_each_outage_of_a_server_is_a_window_of_its_own() -> None:
    story = hasty()
    story.loses("rs2", Fact.LISTENING, 70.0, 72.0)
    first, second = seen(story)
    assert (first.stopped, first.bound) == (27.3, 46.0)
    assert (second.stopped, second.restarted, second.unbound, second.health_off) == (70.0, 72.0, None, None)


def test_several_losses_at_once_are_one_outage_which_ends_with_the_last() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20.0, 40.0)
    story.loses("rs2", Fact.VIP, 30.0, 50.0)
    (one,) = seen(story)
    assert (one.stopped, one.restarted) == (20.0, 50.0)


def test_box_that_takes_a_server_out_by_a_check_begun_before_its_return_ends_the_same_outage() -> None:
    story = Story()
    story.loses("rs2", Fact.VIP, 20.0, 40.0)
    story.fails("rs2", 40.8, until=50.0)
    (one,) = seen(story)
    assert (one.failing, one.unbound, one.bound) == (20.0, 40.8, 50.0)


def test_vip_that_goes_and_stays_away_is_a_stop_without_a_start() -> None:
    story = Story()
    story.loses("rs2", Fact.VIP, 20.0)
    (one,) = seen(story)
    assert (one.stopped, one.restarted, one.health_off) == (20.0, None, None)


# Together with which others


def test_servers_that_are_out_at_the_same_time_are_named() -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 20.0, 40.0)
    story.loses("rs3", Fact.LISTENING, 39.0, 50.0)
    story.loses("rs2", Fact.LISTENING, 60.0, 70.0)
    assert {one.server: one.together for one in seen(story)} == {
        "rs1": ("rs3",),
        "rs3": ("rs1",),
        "rs2": (),
    }


def test_server_that_still_serves_while_its_check_fails_is_not_out_with_another() -> None:
    """The next server's health file goes before the box has the one before back."""
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 10.0, 40.0)
    story.fails("rs1", 25.0, until=46.0)
    story.loses("rs2", Fact.HEALTH_FILE, 41.0, 80.0)
    story.fails("rs2", 58.0, until=83.0)
    assert [one.together for one in seen(story)] == [(), ()]


# Several virtual servers


def two_services() -> LabConfig:
    services: list[dict[str, Any]] = [
        {"name": "web", "address": "192.0.2.10", "port": 80, "dscp": 10},
        {
            "name": "api",
            "address": "192.0.2.11",
            "port": 8080,
            "dscp": 11,
            "servers": ["rs2"],
            "health_check": {"interval_s": 3, "retries": 2},
        },
    ]
    return parse(LabConfig, {"virtual_server": services}, "the test's lab")


def test_each_virtual_server_has_its_own_window_of_a_server() -> None:
    story = hasty()
    for at, old, new in (
        (26.0, "ACTIVE", "SUSPECT"),
        (28.5, "SUSPECT", "FAILED"),
        (47.0, "FAILED", "ACTIVE"),
    ):
        story.state("rs2", at, old, new)
        story.events[-1]["virtual_server"] = "api"
    found = {one.virtual_server: one for one in seen(story, two_services())}
    assert (found["web"].unbound, found["web"].bound, found["web"].needed_s) == (
        33.4,
        46.0,
        pytest.approx(13.4),
    )
    assert (found["api"].unbound, found["api"].bound, found["api"].needed_s) == (28.5, 47.0, 8.5)


def test_checks_of_one_virtual_server_say_nothing_of_another() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 24.0)
    story.probe("rs2", 21.0, "200")
    story.events[-1]["virtual_server"] = "api"
    assert [one.virtual_server for one in seen(story, two_services())] == ["web"]
