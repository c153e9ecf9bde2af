"""What would have saved the requests, computed from a story's own times."""

from __future__ import annotations

import pytest

from lb.config import parse
from netns.config import LabConfig
from netns.recording import Fact, Outcome
from netns.rehearsal.advice import Advice, advise
from netns.rehearsal.window import Window, window, worst_s
from tests.unit.netns.rehearsal.story import CONFIG, Story


def lab(**health_check: object) -> LabConfig:
    service = {"name": "web", "address": "192.0.2.10", "port": 80, "dscp": 10, "health_check": health_check}
    return parse(LabConfig, {"virtual_server": [service]}, "the test's lab")


def windows(story: Story, config: LabConfig) -> list[Window]:
    servers = ("rs1", "rs2", "rs3")
    found = [window(server, story.recording(), story.history(), config) for server in servers]
    return [one for one in found if one is not None]


def advice(story: Story, config: LabConfig = CONFIG) -> tuple[Advice, ...]:
    return advise(story.explained(), windows(story, config), story.history(), config)


def hasty() -> Story:
    """rs2 is stopped 7.3 s after its health file went, and unbound 6.1 s after that."""
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 45.0)
    story.loses("rs2", Fact.LISTENING, 27.3, 40.0)
    story.fails("rs2", 33.4, until=46.0)
    story.connection(40001, "rs2").syn(30.0).refuse(30.004)
    story.request("urllib3-1.3", 29.99, 30.01, Outcome.REFUSED)
    return story


def test_stop_in_the_health_window_is_told_the_wait_that_would_have_done() -> None:
    (one,) = advice(hasty())
    assert (one.server, one.cause, one.lost, one.wait_s) == ("rs2", "health_window", 1, 20.0)
    assert one.text.startswith(
        "rs2 was stopped 7.3 s after its health file went; the box still bound it for 6.1 s more and gave it "
        "1 new connection that was lost. Wait at least 20 s (2 checks, 10 s apart)"
    )


def test_the_wait_follows_the_health_checks_settings() -> None:
    (one,) = advice(hasty(), lab(interval_s=5, retries=2, timeout_s=1))
    assert one.wait_s == 15.0
    assert "15 s (3 checks, 5 s apart)" in one.text


def test_first_bad_status_is_enough_where_the_box_is_told_so() -> None:
    assert worst_s(lab(on_bad_status="immediate").virtual_server[0]) == 10.0


def test_l4_check_finds_out_by_the_stop_and_is_to_be_refused_before_it() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 27.3, 40.0)
    story.fails("rs2", 41.0, until=46.0)
    story.connection(40001, "rs2").syn(30.0).refuse(30.004)
    story.request("urllib3-1.3", 29.99, 30.01, Outcome.REFUSED)
    (one,) = advice(story, lab(kind="l4"))
    assert "refuse the box's checks first" in one.text


def test_window_is_measured_where_the_box_unbound_the_server() -> None:
    (one,) = windows(hasty(), CONFIG)
    assert (one.failing, one.stopped, one.unbound, one.restarted, one.bound) == (20.0, 27.3, 33.4, 40.0, 46.0)
    assert one.measured
    assert one.needed_s == pytest.approx(13.4)
    assert one.waited_s == pytest.approx(7.3)


def test_window_is_computed_from_the_next_check_where_the_server_was_back_too_soon() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 29.0)
    story.loses("rs2", Fact.LISTENING, 25.0, 28.0)
    for at, detail in ((16.2, "200"), (26.2, "refused"), (36.2, "200")):
        story.probe("rs2", at, detail)
    (one,) = windows(story, CONFIG)
    assert (one.unbound, one.measured) == (None, False)
    assert one.needed_s == pytest.approx(6.2 + 10)


def test_server_whose_checks_alone_were_refused_is_out_from_its_last_good_one_on() -> None:
    story = Story()
    for at, detail in ((12.0, "200"), (22.0, "refused"), (32.0, "refused")):
        story.probe("rs2", at, detail)
    story.fails("rs2", 32.0, until=45.0)
    story.loses("rs2", Fact.LISTENING, 34.0, 38.0)
    (one,) = windows(story, lab(kind="l4"))
    assert (one.failing, one.unbound, one.needed_s, one.waited_s) == (12.0, 32.0, 20.0, 22.0)


def test_server_that_nothing_happened_to_has_no_window() -> None:
    assert windows(Story(), CONFIG) == []


def test_vip_that_goes_and_stays_away_is_a_stop_without_a_start() -> None:
    story = Story()
    story.loses("rs2", Fact.VIP, 20.0)
    (one,) = windows(story, CONFIG)
    assert (one.stopped, one.restarted, one.health_off) == (20.0, None, None)


def test_servers_that_are_out_together_are_named_with_when_the_first_came_back() -> None:
    story = Story()
    for server, until in (("rs1", 50.0), ("rs2", 45.0), ("rs3", 60.0)):
        story.fails(server, 30, until=until)
    story.connection(40001, "rs1").syn(35.0, to="box").box_rst(35.002)
    story.request("curl-1.4", 35.0, 35.01, Outcome.REFUSED)
    (one,) = advice(story)
    assert one.cause == "no_server"
    assert "rs1, rs2, rs3 were all out at 35.0 s; the first was bound again 10.0 s later" in one.text


def test_errors_after_a_server_is_put_back_are_dated_by_that() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 10.0, 25.0)
    story.connection(40001, "rs1").open(27.0).ask(27.01, "curl-1.4").answer(27.02)
    story.request("curl-1.4", 27.0, 27.03, Outcome.HTTP_ERROR, status=500)
    (one,) = advice(story)
    assert (
        "answered with an error 1 time while it was in service, until 2.0 s after it was put back" in one.text
    )


def test_methods_of_what_a_close_hit_are_named() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.connection(40001, "rs2").used(5).fin(20.0).ask(20.0005, "node-1.9", method="POST").rst(20.004)
    story.request("node-1.9", 20.0, 20.01, Outcome.RESET, method="POST", reused=True)
    (one,) = advice(story)
    assert one.text.startswith("1 request (POST) on the wire when rs2 closed")


def test_costliest_comes_first_and_what_was_only_slow_costs_nothing() -> None:
    story = hasty()
    for number in range(3):
        story.connection(40010 + number, "rs1").open(25.0).ask(25.01, f"curl-{number}.4").answer(25.02)
        story.request(f"curl-{number}.4", 25.0, 25.03, Outcome.HTTP_ERROR, status=500)
    story.connection(40020, "rs1").open(10).ask(10.01, "curl-9.1").answer(13.0)
    story.request("curl-9.1", 10.0, 13.01, Outcome.OK, status=200)
    assert [(one.cause, one.lost) for one in advice(story)] == [("server_error", 3), ("health_window", 1)]
