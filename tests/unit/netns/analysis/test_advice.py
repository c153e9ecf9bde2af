"""Every sentence of advice, by a story that makes it true, and by a near miss that makes it false."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from netns.analysis.advice import HEADLINE, Advice, advise, headline
from netns.analysis.causes import Cause, Explained
from netns.analysis.facts import Facts
from netns.analysis.health_window import windows
from netns.analysis.loss_remedy import REMEDIES
from netns.plan.config import LabConfig
from netns.record.recording import ClientGroup, Deploy, Fact, Outcome
from tests.unit.netns.analysis.story import CONFIG, Story
from tests.unit.netns.analysis.test_health_window import checked, lab, two_services


def deploy(server: str, began: float, ended: float) -> Deploy:
    return Deploy(server, ("./deploy.sh", server), began, ended, 0, "")


def facts(story: Story, config: LabConfig = CONFIG, *deploys: Deploy) -> Facts:
    recording = story.recording()
    return Facts(recording, windows(recording, config), deploys, config, story.box_ended)


def advice(story: Story, config: LabConfig = CONFIG, *deploys: Deploy) -> tuple[Advice, ...]:
    """Of what the story's captures explain."""
    return advise(story.explained(), facts(story, config, *deploys))


def lose(
    story: Story,
    cause: Cause,
    server: str,
    *at: float,
    client: str = "curl-1",
    outcome: Outcome = Outcome.RESET,
    took_s: float = 0.01,
    **request: Any,
) -> list[Explained]:
    """Requests lost on a server for a cause that is given: how it is found is test_causes.py's."""
    return [
        Explained(
            story.request(client, time, time + took_s, outcome, **request), True, cause, server, "", 1, time
        )
        for time in at
    ]


def texts(story: Story, lost: Sequence[Explained], config: LabConfig = CONFIG, *deploys: Deploy) -> list[str]:
    return [one.text for one in advise(lost, facts(story, config, *deploys))]


def refused(story: Story, server: str, at: float) -> None:
    """A new connection that the server's kernel refuses."""
    number = len(story.requests)
    story.connection(40100 + number, server).syn(at).refuse(at + 0.004)
    story.request(f"urllib3-1.{number}", at - 0.01, at + 0.01, Outcome.REFUSED)


def hasty() -> Story:
    """rs2 is stopped 7.3 s after its health file went, and unbound 6.1 s after that."""
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 45.0)
    story.loses("rs2", Fact.LISTENING, 27.3, 40.0)
    story.fails("rs2", 33.4, until=46.0)
    refused(story, "rs2", 30.0)
    return story


def draining(*, told: float | None, closes: float = 37.0) -> Story:
    """An app that answers its checks with 503 from 31 s on, and closes its port."""
    story = Story()
    if told is not None:
        story.told_to_stop("rs1", told, "graceful: TERM")
    story.loses("rs1", Fact.LISTENING, closes, closes + 10)
    checked(story, "rs1", (25.0, "200"), (35.0, "503"), (45.0, "refused"))
    story.fails("rs1", 45.0, until=55.0)
    refused(story, "rs1", closes + 1)
    return story


# The health window


def test_stop_too_soon_after_the_health_file_went_is_told_the_wait_that_would_have_done() -> None:
    (one,) = advice(hasty())
    assert (one.server, one.cause, one.lost, one.wait_s) == ("rs2", "health_window", 1, 20.0)
    assert one.text == (
        "rs2 stopped 7.3 s after its health file went away. The box still bound it for 6.1 s more and "
        "gave it 1 new connection that was lost. Wait at least 20 s (2 checks, 10 s apart) between the "
        "two, or until the box says FAILED"
    )
    assert one.step == "Wait 20 s between renaming the health file and the stop"


def test_the_wait_follows_the_health_checks_settings() -> None:
    (one,) = advice(hasty(), lab(interval_s=5, retries=2, timeout_s=1))
    assert one.wait_s == 15.0
    assert "15 s (3 checks, 5 s apart)" in one.text


def test_deploy_that_waited_long_enough_by_the_settings_is_told_to_wait_for_failed() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 60.0)
    story.loses("rs2", Fact.LISTENING, 40.5, 55.0)
    story.fails("rs2", 40.9, until=62.0)
    refused(story, "rs2", 40.7)
    (one,) = advice(story)
    assert one.wait_s == 21.0  # the checks had timed out
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 60.0)
    story.loses("rs2", Fact.LISTENING, 41.5, 55.0)
    story.fails("rs2", 41.9, until=62.0)
    refused(story, "rs2", 41.7)
    (one,) = advice(story)
    assert "Wait until the box says FAILED between the two" in one.text


def test_app_that_drained_too_short_is_told_how_long_it_answered_what_and_to_drain_longer() -> None:
    (one,) = advice(draining(told=31.0))
    assert one.text.startswith(
        "rs1 answered 503 to its check for 6.0 s before it stopped. The box still bound it"
    )
    assert "Drain for 20 s (2 checks, 10 s apart)" in one.text
    assert one.step == "Drain for 20 s: fail the health check for that long before the stop"
    assert "health file" not in one.text


def test_app_that_nobody_told_is_known_to_drain_by_its_first_failed_check_only() -> None:
    (one,) = advice(draining(told=None))
    assert one.text.startswith("rs1 stopped 2.0 s after its check first failed (503).")
    assert "Drain for 20 s" in one.text


def test_app_that_closes_before_a_check_has_failed_is_not_said_to_have_drained() -> None:
    (one,) = advice(draining(told=31.0, closes=31.5))
    assert "Drain" not in one.text
    assert "503" not in one.text


def test_app_that_answered_200_throughout_is_told_that_its_check_never_failed() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 60.0)
    story.loses("rs1", Fact.LISTENING, 41.0, 55.0)
    checked(story, "rs1", (22.0, "200"), (32.0, "200"), (42.0, "refused"), (52.0, "refused"))
    story.fails("rs1", 52.0, until=62.0)
    refused(story, "rs1", 45.0)
    (one,) = advice(story, lab(url="/readyz"))
    assert one.text.startswith(
        "rs1's check never failed before the stop: /readyz passed 2 checks in the 21.0 s after the "
        "health file went away. The box still bound it for 11.0 s more and gave it 1 new connection that "
        "was lost. Make /readyz fail, wait at least 20 s"
    )
    assert "stopped 21" not in one.text


def test_check_that_passed_only_before_the_health_file_went_is_not_said_to_have_ignored_it() -> None:
    story = hasty()
    checked(story, "rs2", (3.0, "200"), (13.0, "200"), (23.0, "404"), (33.4, "refused"))
    (one,) = advice(story)
    assert "never failed" not in one.text


def test_stop_without_a_word_to_the_box_is_told_to_fail_the_check_first() -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    refused(story, "rs1", 25.0)
    (one,) = advice(story)
    assert one.text == (
        "rs1 stopped while the box bound it. The box never took it out of the binding list and gave it 1 "
        "new connection that was lost. Make its check of /health_check.html fail first, wait at least 20 "
        "s (2 checks, 10 s apart) or until the box says FAILED, and stop it then"
    )
    assert one.step == "Make the health check fail 20 s before the stop"


def test_health_file_is_spoken_of_where_the_run_has_shown_that_checks_heed_it() -> None:
    story = hasty()
    story.loses("rs1", Fact.LISTENING, 70.0, 80.0)
    refused(story, "rs1", 75.0)
    assert "health file" not in next(one.text for one in advice(story) if one.server == "rs1")
    checked(story, "rs2", (13.4, "200"), (23.4, "404"), (33.4, "refused"))
    of = {one.server: one for one in advice(story)}
    assert "Rename its health file first" in of["rs1"].text
    assert of["rs1"].step == "Rename the health file 20 s before the stop"


def test_health_file_is_not_spoken_of_where_another_server_did_not_heed_it() -> None:
    story = hasty()
    story.loses("rs1", Fact.LISTENING, 70.0, 80.0)
    refused(story, "rs1", 75.0)
    story.loses("rs3", Fact.HEALTH_FILE, 60.0, 90.0)
    story.loses("rs3", Fact.LISTENING, 65.0, 90.0)
    story.probe("rs3", 62.0, "200")
    of = {one.server: one.text for one in advice(story)}
    assert "health file" not in of["rs1"]
    assert "health file" not in of["rs2"]  # the wait was too short for a check to show that it counts


def test_server_that_never_had_a_health_file_is_never_told_to_rename_or_put_it_back() -> None:
    story = Story()
    story.changes = [one for one in story.changes if one.fact is not Fact.HEALTH_FILE]
    for server in ("rs1", "rs2"):
        story.loses(server, Fact.HEALTH_FILE, 0.0)
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    refused(story, "rs1", 25.0)
    lost = [*story.explained(), *lose(story, Cause.SERVER_ERROR, "rs1", 31.0, status=502)]
    found = texts(story, lost)
    assert len(found) == 2
    assert not any("health file" in text for text in found)


def test_l4_check_is_to_be_refused_before_the_stop() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 27.3, 40.0)
    story.fails("rs2", 41.0, until=46.0)
    refused(story, "rs2", 30.0)
    (one,) = advice(story, lab(kind="l4"))
    assert "rs2 stopped while the box bound it: a check of its port fails only then." in one.text
    assert "refuse the box's checks first" in one.text
    assert one.step == "Make the server refuse the box's checks 20 s before the stop"


@pytest.mark.parametrize(
    ("kind", "step"), [("l4", "Make the server refuse"), ("l7", "Make the health check fail")]
)
def test_stop_that_is_seen_a_moment_after_it_failed_a_check_is_no_drain(kind: str, step: str) -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 32.03, 45.0)
    checked(story, "rs1", (22.0, "200"), (32.0, "reset"), (42.0, "refused"))
    story.fails("rs1", 42.0, until=52.0)
    refused(story, "rs1", 35.0)
    (one,) = advice(story, lab(kind=kind))
    assert one.text.startswith("rs1 stopped while the box bound it")
    assert one.step.startswith(step)


def test_l4_server_that_refused_its_checks_for_too_short_is_told_to_refuse_them_longer() -> None:
    story = Story()
    checked(story, "rs2", (12.0, "connected"), (22.0, "refused"), (32.0, "refused"))
    story.fails("rs2", 32.0, until=45.0)
    story.loses("rs2", Fact.LISTENING, 27.0, 38.0)
    refused(story, "rs2", 30.0)
    (one,) = advice(story, lab(kind="l4"))
    assert one.text.startswith("rs2 stopped 5.0 s after its check first failed (refused).")
    assert one.step == "Refuse the box's checks for 20 s before the stop"


def test_errors_in_the_health_window_of_a_server_that_did_not_stop_are_not_blamed_on_a_stop() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 45.0)
    story.fails("rs1", 33.0, until=46.0)
    lost = lose(story, Cause.HEALTH_WINDOW, "rs1", 27.0, 28.0, outcome=Outcome.HTTP_ERROR, status=500)
    (text,) = texts(story, lost)
    assert text == (
        "The box still bound rs1 7.0 s after its health file went away, and gave it 2 new connections "
        "that were lost (2 answers 500). Wait at least 20 s (2 checks, 10 s apart), or until the box "
        "says FAILED, before the deploy changes it"
    )


def test_new_connections_lost_while_no_check_failed_are_told_that() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 45.0)
    checked(story, "rs1", (22.0, "200"), (32.0, "200"))
    lost = lose(story, Cause.HEALTH_WINDOW, "rs1", 27.0, outcome=Outcome.HTTP_ERROR, status=500)
    (text,) = texts(story, lost)
    assert text.startswith(
        "The box gave rs1 1 new connection that was lost. No check failed. Make its health check"
    )


def test_stop_as_an_administrator_takes_the_server_out_is_told_to_wait_for_what_is_on_the_way() -> None:
    story = Story()
    story.state("rs1", 25.0, "ACTIVE", "SHUTDOWN")
    story.loses("rs1", Fact.LISTENING, 25.1, 40.0)
    lost = lose(story, Cause.HEALTH_WINDOW, "rs1", 25.0, outcome=Outcome.REFUSED)
    (text,) = texts(story, lost)
    assert text.startswith("rs1 stopped 0.10 s after the box took it out of the binding list")


def test_losses_in_each_of_a_servers_outages_are_told_of_that_outage() -> None:
    story = hasty()
    story.loses("rs2", Fact.HEALTH_FILE, 60.0, 90.0)
    story.loses("rs2", Fact.LISTENING, 63.0, 80.0)
    refused(story, "rs2", 65.0)
    refused(story, "rs2", 66.0)
    first, second = advice(story)
    assert (first.lost, first.text.startswith("rs2 stopped 3.0 s after")) == (2, True)
    assert (second.lost, second.text.startswith("rs2 stopped 7.3 s after")) == (1, True)


def test_durations_of_the_box_are_named_so_at_another_speed_than_1() -> None:
    story = hasty()
    story.speed = 10.0
    (one,) = advice(story)
    assert "7.3 box s after" in one.text
    assert "20 box s (2 checks, 10 box s apart)" in one.text


# Sessions that the box keeps


def test_sessions_of_a_stopped_server_are_to_be_ended_by_a_graceful_stop() -> None:
    story = Story()
    story.told_to_stop("rs1", 20.0, "kill: KILL")
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    (text,) = texts(story, lose(story, Cause.STUCK_SESSION, "rs1", 22.0, outcome=Outcome.TIMEOUT))
    assert "which had stopped. Stop the web server gracefully before anything else" in text


def test_server_that_was_stopped_gracefully_is_not_told_to_be() -> None:
    story = Story()
    story.told_to_stop("rs1", 20.0, "graceful: QUIT")
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    (text,) = texts(story, lose(story, Cause.STUCK_SESSION, "rs1", 22.0))
    assert "Stop the web server" not in text
    assert "though it had stopped gracefully (graceful: QUIT). No wait avoids this" in text


def test_sessions_of_a_server_that_is_back_are_known_to_be_of_its_stop() -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    (text,) = texts(story, lose(story, Cause.STUCK_SESSION, "rs1", 50.0))
    assert text.startswith("1 request followed sessions that the box keeps to rs1, which had stopped.")


def test_errors_over_sessions_of_a_server_that_is_out_are_told_to_stop_before_the_change() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 60.0)
    lost = lose(story, Cause.STUCK_SESSION, "rs1", 45.0, outcome=Outcome.HTTP_ERROR, status=500)
    (text,) = texts(story, lost)
    assert text.startswith(
        "rs1 answered 500 to 1 request while it was out of service: the box keeps sessions"
    )
    assert "before the deploy changes what it serves" in text


def test_silence_over_sessions_of_a_server_that_did_not_stop_is_told_so() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 20.0, 60.0)
    (text,) = texts(story, lose(story, Cause.STUCK_SESSION, "rs1", 45.0, outcome=Outcome.TIMEOUT))
    assert text.startswith(
        "rs1 did not answer 1 request over sessions that the box keeps. It had not stopped."
    )


# Closed by the server


def keep_alive(story: Story, idle_s: Sequence[float], *, apart_s: float = 5.0) -> list[Explained]:
    """Requests sent over connections that had been idle, as the server closed them."""
    found = []
    for number, idle in enumerate(idle_s):
        at, port = 10.0 + number * apart_s, 41000 + number
        story.request("curl-1", at - idle - 0.1, at - idle, Outcome.OK, status=200, port=port)
        found += lose(story, Cause.CLOSED_UNDER_WAY, "rs1", at, port=port, reused=True, method="POST")
    return found


def test_keep_alive_timeout_shorter_than_the_clients_is_named_as_it_was_seen() -> None:
    story = Story()
    (text,) = texts(story, keep_alive(story, [0.100, 0.104, 0.110]))
    assert text == (
        "3 requests (POST) were sent over connections that rs1 closed while it listened, after they had "
        "been idle for 0.10–0.11 s. Set its keep-alive timeout longer than the clients keep an idle "
        "connection"
    )


def test_idle_times_are_real_ones_whatever_the_boxs_speed() -> None:
    story = Story(speed=10.0)
    (text,) = texts(story, keep_alive(story, [1.0, 1.02, 1.0], apart_s=8.0))
    assert "idle for 0.10 s" in text


@pytest.mark.parametrize(
    ("idle_s", "apart_s"),
    [
        pytest.param([0.01, 0.05, 0.03], 5.0, id="idle times that are not alike"),
        pytest.param([0.1, 0.1, 0.1], 0.01, id="all at once, as a reload closes them"),
        pytest.param([0.1], 5.0, id="a single one"),
    ],
)
def test_closes_that_no_timeout_explains_are_not_called_one(idle_s: list[float], apart_s: float) -> None:
    story = Story()
    (text,) = texts(story, keep_alive(story, idle_s, apart_s=apart_s), CONFIG, deploy("rs1", 0.0, 50.0))
    assert "keep-alive" not in text
    assert "that rs1 closed while it listened and the command ran for rs1." in text
    assert 'Answer with "Connection: close" before connections are closed' in text


def test_connections_that_a_stop_closes_under_requests_are_told_to_be_announced() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.connection(40001, "rs2").used(5).fin(20.0).ask(20.0005, "node-1.9", method="POST").rst(20.004)
    story.request("node-1.9", 20.0, 20.01, Outcome.RESET, method="POST", reused=True)
    (one,) = advice(story)
    assert one.text.startswith(
        "rs2 closed connections as it stopped, while 1 request (POST) was on the wire. No wait avoids this. "
        'Answer with "Connection: close" while the server drains'
    )


def test_nothing_is_said_of_stops_or_draining_where_nothing_stopped() -> None:
    story = Story()
    lost = keep_alive(story, [0.1, 0.1, 0.1])
    lost += lose(story, Cause.STUCK_SESSION, "rs1", 30.0)
    lost += lose(story, Cause.STOPPED_IN_HAND, "rs1", 40.0)
    lost += lose(story, Cause.SERVER_ERROR, "rs1", 50.0, status=502)
    lost += lose(story, Cause.SERVER_HUNG, "rs1", 60.0)
    found = texts(story, lost)
    assert len(found) == 5
    assert not [text for text in found if "drain" in text.lower() or "before the stop" in text]
    assert not [text for text in found if "as it stopped" in text or "Stop the" in text]


def test_stop_that_was_not_graceful_is_told_to_be_and_for_how_long() -> None:
    story = Story()
    story.told_to_stop("rs1", 20.0, "abrupt: TERM")
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    (text,) = texts(story, lose(story, Cause.STOPPED_IN_HAND, "rs1", 19.5, 20.2, took_s=2.5)[1:])
    assert text == (
        "rs1 stopped (abrupt: TERM) before it answered 1 request. Stop it by the signal after which it "
        "finishes its requests, and give it more than 2.5 s"
    )


def test_stop_that_was_graceful_is_told_to_give_more_time() -> None:
    story = Story()
    story.told_to_stop("rs1", 20.0, "graceful: QUIT")
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    (text,) = texts(story, lose(story, Cause.STOPPED_IN_HAND, "rs1", 20.2, took_s=2.5))
    assert text.endswith("(graceful: QUIT). Raise the time that it gives its requests above 2.5 s")


def test_stop_that_nobody_told_is_seen_by_its_listener_a_moment_before_it_goes() -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 20.0, 30.0)
    (text,) = texts(story, lose(story, Cause.STOPPED_IN_HAND, "rs1", 19.5))
    assert text.startswith("rs1 stopped before it answered 1 request.")


def test_answers_cut_off_by_a_server_that_went_on_listening_are_not_blamed_on_a_stop() -> None:
    story = Story()
    story.told_to_stop("rs1", 60.0, "graceful: QUIT")
    story.loses("rs1", Fact.LISTENING, 60.0, 70.0)
    lost = lose(story, Cause.STOPPED_IN_HAND, "rs1", 20.0, took_s=2.5)
    (text,) = texts(story, lost, CONFIG, deploy("rs1", 10.0, 50.0))
    assert "while it listened and the command ran for rs1. Let its old workers finish" in text
    assert text.endswith("give them more than 2.5 s. If none ended, look in rs1's own log")
    (text,) = texts(story, lost)
    assert text.endswith("no command ran. Look in rs1's own log for a worker that ended, or for an error")


# The network, the kernel, the box


def test_vip_is_to_stay_up() -> None:
    (text,) = texts(story := Story(), lose(story, Cause.VIP_DOWN, "rs1", 20.0, outcome=Outcome.TIMEOUT))
    assert text.startswith("1 request reached rs1 while its VIP was down")
    assert "Keep the VIP up" in text


def test_filter_is_not_to_touch_clients_and_at_l4_only_the_boxs_checks() -> None:
    lost = lose(story := Story(), Cause.FILTERED, "rs1", 20.0, 21.0)
    (text,) = texts(story, lost)
    assert text.startswith(
        "rs1's own packet filter refused or dropped 2 requests, or their answers. Make the health check fail"
    )
    (text,) = texts(story, lost[:1])
    assert text.startswith("rs1's own packet filter refused or dropped 1 request, or its answer. ")
    (text,) = texts(story, lost, lab(kind="l4"))
    assert "Filter only the box's checks, wait 20 s or until the box says FAILED" in text


def test_dscp_rule_is_to_be_kept() -> None:
    (text,) = texts(story := Story(), lose(story, Cause.NO_DSR_RULE, "rs1", 20.0))
    assert text.startswith("1 request reached rs1 while it had no DSCP rule")
    assert "do not flush the whole ruleset" in text


def test_server_whose_route_goes_is_to_be_stopped_before_and_nothing_is_said_of_what_arrived() -> None:
    story = Story()
    story.loses("rs1", Fact.ROUTE, 19.0, 22.0)
    routeless, later = texts(story, lose(story, Cause.UNREACHABLE, "rs1", 20.0, 25.0))
    assert routeless == (
        "The box forwarded 1 request to rs1, which had no route to the clients. Before the route goes, wait "
        "until the box says FAILED and stop the web server"
    )
    assert later.startswith("The box forwarded 1 request to rs1, and nothing came back in time.")


def test_server_that_leaves_the_network_is_to_be_stopped_before() -> None:
    (text,) = texts(story := Story(), lose(story, Cause.UNREACHABLE, "rs1", 20.0))
    assert text.startswith("The box forwarded 1 request to rs1, and nothing came back in time.")
    assert "wait until the box says FAILED and stop the web server" in text


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("port_fail", "when the server was FAILED (Reset On Port Fail)"),
        ("drain_timeout", "when the drain timeout was over. Raise drain_timeout_s"),
        ("administrator", "because an administrator reset the server's sessions"),
    ],
)
def test_reset_by_the_box_has_the_reason_that_the_box_gave(reason: str, told: str) -> None:
    story = Story()
    reset = {"virtual_server": "web", "server": "rs1", "reason": reason, "sessions": 3, "resets": 3}
    story.events += [
        {**reset, "kind": "reset_started", "at": 20.0},
        {**reset, "kind": "reset_ended", "at": 20.1},
    ]
    (text,) = texts(story, lose(story, Cause.BOX_RESET, "rs1", 19.95, took_s=0.1))
    assert told in text
    (text,) = texts(story, lose(story, Cause.BOX_RESET, "rs1", 50.0))
    assert "was not resetting the server's sessions: it had no session for them" in text
    (text,) = texts(story, lose(story, Cause.BOX_RESET, "rs2", 19.95, took_s=0.1))
    assert "was not resetting the server's sessions" in text


def test_servers_that_are_out_together_are_named_with_when_the_first_came_back() -> None:
    story = Story()
    for server, until in (("rs1", 50.0), ("rs2", 45.0), ("rs3", 60.0)):
        story.fails(server, 30, until=until)
    story.connection(40001, "rs1").syn(35.0, to="box").box_rst(35.002)
    story.request("curl-1.4", 35.0, 35.01, Outcome.REFUSED)
    (one,) = advice(story)
    assert one.cause == "no_server"
    assert one.text.startswith(
        "1 request came while no server of web was bound: rs1, rs2, rs3 were out at 35.0 s; the first was "
        "bound again 10.0 s later. Deploy fewer servers at a time"
    )


def test_servers_of_another_virtual_server_are_not_among_those_that_were_out() -> None:
    story = Story()
    config = lab()
    (web,) = config.virtual_server
    pair = web.model_copy(update={"servers": ("rs1", "rs2")})
    config = config.model_copy(update={"virtual_server": (pair,)})
    for server in ("rs1", "rs2", "rs3"):
        story.fails(server, 30)
    (text,) = texts(story, lose(story, Cause.NO_SERVER, "", 35.0), config)
    assert "no server of web was bound: rs1, rs2 were out at 35.0 s. Deploy" in text


def test_server_that_goes_from_one_state_out_into_another_is_not_yet_back() -> None:
    story = Story()
    for server in ("rs1", "rs2", "rs3"):
        story.fails(server, 30)
    story.state("rs2", 40.0, "FAILED", "SHUTDOWN")
    story.state("rs2", 55.0, "SHUTDOWN", "ACTIVE")
    (text,) = texts(story, lose(story, Cause.NO_SERVER, "", 35.0))
    assert "the first was bound again 20.0 s later" in text


def test_only_server_of_a_virtual_server_is_not_told_to_be_deployed_with_fewer() -> None:
    story = Story()
    (web,) = CONFIG.virtual_server
    config = CONFIG.model_copy(update={"virtual_server": (web.model_copy(update={"servers": ("rs1",)}),)})
    story.fails("rs1", 30)
    (text,) = texts(story, lose(story, Cause.NO_SERVER, "", 35.0), config)
    assert "no server of web was bound, and rs1 is its only one. Put another server behind web" in text


def test_no_server_bound_that_the_events_do_not_show_is_told_without_names() -> None:
    (text,) = texts(story := Story(), lose(story, Cause.NO_SERVER, "", 35.0))
    assert text.startswith("1 request came while no server of web was bound. Deploy fewer servers at a time")


def test_stop_under_a_long_request_is_the_stop_of_its_loss() -> None:
    """A download that began before the stop, and whose end came long after it."""
    story = Story()
    story.loses("rs1", Fact.LISTENING, 25.0, 26.0)
    lost = lose(story, Cause.STOPPED_IN_HAND, "rs1", 10.0, took_s=30.0, outcome=Outcome.CLOSED)
    (text,) = texts(story, lost)
    assert text.startswith("rs1 stopped before it answered 1 request")


def test_resets_for_two_reasons_are_two_advices() -> None:
    story = Story()
    for at, reason in ((20.0, "drain_timeout"), (60.0, "port_fail")):
        reset = {"virtual_server": "web", "server": "rs2", "reason": reason, "sessions": 2, "resets": 2}
        story.events += [
            {**reset, "kind": "reset_started", "at": at},
            {**reset, "kind": "reset_ended", "at": at + 0.5},
        ]
    lost = lose(story, Cause.BOX_RESET, "rs2", 20.1, 20.2, 60.1)
    found = advise(lost, facts(story))
    assert [one.lost for one in found] == [2, 1]
    assert "when the drain timeout was over" in found[0].text
    assert "Reset On Port Fail" in found[1].text


def test_each_virtual_server_has_its_own_outages_servers_and_waits() -> None:
    """The virtual server api asks its one server every 3 s, with two retries."""
    story, config = Story(), two_services()
    story.groups.append(ClientGroup("asker", "curl", "api", 1, 10.0, 2.0))
    story.loses("rs2", Fact.HEALTH_FILE, 20.0, 45.0)
    story.loses("rs2", Fact.LISTENING, 24.0, 40.0)
    lost = lose(story, Cause.HEALTH_WINDOW, "rs2", 25.0, outcome=Outcome.REFUSED)
    lost += lose(story, Cause.HEALTH_WINDOW, "rs2", 25.0, 26.0, client="asker-1", outcome=Outcome.REFUSED)
    lost += lose(story, Cause.NO_SERVER, "", 70.0, client="asker-1")
    found = advise(lost, facts(story, config))
    assert [(one.lost, one.wait_s) for one in found] == [(2, 9.0), (1, None), (1, 20.0)]
    assert "no server of api was bound, and rs2 is its only one" in found[1].text


def test_box_is_to_be_kept_running() -> None:
    story = Story(box_ended=30.0)
    (text,) = texts(story, lose(story, Cause.BOX_DOWN, "", 35.0, 36.0))
    assert text == (
        "The box's daemon ended at 30.0 s, and 2 requests were dropped. Keep the daemon running during "
        "the deploy"
    )


# In service, and not fit for it


def test_errors_after_a_server_is_put_back_are_dated_by_that() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 10.0, 25.0)
    story.connection(40001, "rs1").open(27.0).ask(27.01, "curl-1.4").answer(27.02)
    story.request("curl-1.4", 27.0, 27.03, Outcome.HTTP_ERROR, status=500)
    (one,) = advice(story)
    assert one.text == (
        "rs1, in service, answered 500 to 1 request, until 2.0 s after it came back. Put its health file "
        "back only when it answers as it should"
    )


def test_server_that_came_back_by_listening_is_told_to_fail_its_check_until_it_is_ready() -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 20.0, 25.0)
    (text,) = texts(story, lose(story, Cause.SERVER_HUNG, "rs1", 27.0, took_s=4.0))
    assert text == (
        "rs1, in service, did not answer 1 request within 4.0 s, until 2.0 s after it came back. "
        "Make its health check fail until it answers as it should"
    )


def test_errors_that_began_after_good_answers_are_not_blamed_on_the_return() -> None:
    story = Story()
    story.loses("rs1", Fact.HEALTH_FILE, 10.0, 25.0)
    story.connection(40002, "rs1").open(26.0).ask(26.01, "curl-2.1").answer(26.02)
    made = story.request("curl-2.1", 26.0, 26.03, Outcome.OK, status=200)
    story.requests[-1] = made.__class__(**{**{k: getattr(made, k) for k in made.__slots__}, "server": "rs1"})
    (text,) = texts(story, lose(story, Cause.SERVER_ERROR, "rs1", 27.0, status=500))
    assert "came back" not in text
    assert "health file" not in text


def test_errors_answered_while_the_command_worked_on_a_server_in_service_are_told_so() -> None:
    story = Story()
    lost = lose(story, Cause.SERVER_ERROR, "rs1", 20.0, 21.0, status=502)
    (text,) = texts(story, lost, CONFIG, deploy("rs1", 19.0, 30.0))
    assert text == (
        "rs1, in service, answered 502 to 2 requests while the command ran for rs1. Make its health check "
        "fail, and wait until the box says FAILED, before the command changes it"
    )
    (text,) = texts(story, lost, CONFIG, deploy("", 19.0, 30.0))
    assert "2 requests while the command ran. Make" in text


def test_errors_with_no_command_running_are_the_applications_own() -> None:
    story = Story()
    lost = lose(story, Cause.SERVER_ERROR, "rs1", 20.0, status=502)
    (text,) = texts(story, lost, CONFIG, deploy("rs1", 30.0, 40.0))
    assert text == (
        "rs1, in service, answered 502 to 1 request with no command running. Look in rs1's own log: no order "
        "of the deploy's steps helps"
    )


def test_errors_with_and_without_the_command_are_told_apart() -> None:
    story = Story()
    lost = lose(story, Cause.SERVER_ERROR, "rs1", 20.0, 21.0, 50.0, status=502)
    found = advise(lost, facts(story, CONFIG, deploy("rs1", 19.0, 30.0)))
    assert [(one.lost, "while the command ran" in one.text) for one in found] == [(2, True), (1, False)]


# What is unexplained


def test_only_what_is_unexplained_is_to_be_reported() -> None:
    story = hasty()
    lost = [*story.explained(), *lose(story, Cause.UNEXPLAINED, "", 70.0, 71.0)]
    reported = [one for one in advise(lost, facts(story)) if "eport" in one.text]
    assert [(one.cause, one.lost) for one in reported] == [("unexplained", 2)]


def test_server_that_no_deploy_was_asked_for_is_advised_on_as_any_other() -> None:
    story = hasty()
    (one,) = advice(story, CONFIG, deploy("rs1", 5.0, 50.0))
    assert one.text.startswith("rs2 stopped 7.3 s after its health file went away")


# All of them


def test_every_cause_by_which_requests_are_lost_has_its_advice() -> None:
    slow = {Cause.SERVER_SLOW, Cause.PATH_SLOW, Cause.CLIENT_SLOW}
    assert {*REMEDIES, Cause.HEALTH_WINDOW} | slow == set(Cause)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.UNEXPLAINED])
@pytest.mark.parametrize("story", [Story, hasty, lambda: draining(told=31.0)], ids=["none", "file", "drain"])
def test_advice_of_any_cause_and_run_is_whole_sentences_and_blames_no_defect(
    cause: Cause, story: Callable[[], Story]
) -> None:
    told = story()
    server = "" if cause in (Cause.NO_SERVER, Cause.BOX_DOWN) else "rs2"
    for one in advise(lose(told, cause, server, 1.0, 20.5, 30.0, 99.0), facts(told)):
        assert "eport" not in one.text
        assert one.text[0].isupper() or one.text[0].isdigit() or one.text.startswith("rs2")
        assert not one.text.endswith(".")
        assert "  " not in one.text
        assert len(headline([one])) <= HEADLINE


def test_costliest_comes_first_and_what_was_only_slow_costs_nothing() -> None:
    story = hasty()
    for number in range(3):
        story.connection(40010 + number, "rs1").open(25.0).ask(25.01, f"curl-{number}.4").answer(25.02)
        story.request(f"curl-{number}.4", 25.0, 25.03, Outcome.HTTP_ERROR, status=500)
    story.connection(40020, "rs1").open(10).ask(10.01, "curl-9.1").answer(13.0)
    story.request("curl-9.1", 10.0, 13.01, Outcome.OK, status=200)
    assert [(one.cause, one.lost) for one in advice(story)] == [("server_error", 3), ("health_window", 1)]


# The headline


def test_headline_is_the_step_that_saves_most_with_all_its_servers() -> None:
    wait, slow = "Wait 20 s between renaming the health file and the stop", "Keep the VIP up"
    given = [
        Advice("rs1", "vip_down", 5, "", slow),
        Advice("rs3", "health_window", 4, "", wait, 20.0),
        Advice("rs2", "health_window", 3, "", wait, 20.0),
    ]
    assert headline(given) == f"{wait} (rs2, rs3)."
    assert headline(given[:1]) == "Keep the VIP up (rs1)."


def test_headline_of_what_concerns_no_one_server_names_none_and_of_nothing_says_nothing() -> None:
    assert headline([Advice("", "box_down", 5, "", "Keep the box running")]) == "Keep the box running."
    assert headline([]) == ""


def test_headline_of_a_large_fleet_counts_the_servers_that_it_has_no_room_for() -> None:
    step = "Wait 20 s between renaming the health file and the stop"
    text = headline([Advice(f"web-server-{n:02}", "health_window", 1, "", step) for n in range(40)])
    assert text.startswith(f"{step} (web-server-00, web-server-01, ")
    assert text.endswith(" more).")
    assert len(text) <= HEADLINE
