"""Facts read from recordings."""

from __future__ import annotations

from dataclasses import replace

from netns.analysis import findings, wording
from netns.record.recording import Outcome, Request
from netns.report.headline import headline
from netns.report.moments import Actor, moments
from tests import recordings


def test_bands_cover_the_run_without_a_gap() -> None:
    bands = findings.bands(recordings.trap(), "rs2")
    assert [(band.started, band.ended, band.state, band.bound) for band in bands] == [
        (0.0, 16.2, "ACTIVE", True),
        (16.2, 26.2, "SUSPECT", True),
        (26.2, 60.0, "FAILED", False),
    ]


def test_a_server_without_events_has_the_state_of_its_samples() -> None:
    (band,) = findings.bands(recordings.trap(), "rs1")
    assert (band.state, band.started, band.ended) == ("ACTIVE", 0.0, 60.0)


def test_a_server_that_was_never_bound_was_not_taken_out() -> None:
    testing = recordings.event(1.0, "server_state", server="rs9", old="ENABLED", new="TESTING", bound=False)
    recording = replace(recordings.trap(), servers=("rs9",), events=(testing,), samples=())
    assert findings.absences(recording, "rs9") == ()


def test_requests_over_one_port_are_one_connection_until_a_new_one() -> None:
    def request(at: float, port: int, reused: bool, server: str = "rs1") -> Request:
        return Request("curl-1", at, at + 0.1, Outcome.OK, 200, server, reused, port)

    sent = (
        request(0, 5, False),
        request(1, 5, True),
        request(2, 6, False, "rs2"),
        request(3, 5, False, "rs2"),
    )
    opened = findings.connections(replace(recordings.trap(), requests=sent))["curl-1"]
    assert [(one.local_port, one.server, len(one.requests)) for one in opened] == [
        (5, "rs1", 2),
        (6, "rs2", 1),
        (5, "rs2", 1),
    ]


def test_a_request_lost_on_a_connection_to_a_server_that_is_out_has_reached_it() -> None:
    recording = recordings.trap()
    lost = replace(recording.requests[-1], outcome=Outcome.TIMEOUT, server="")
    reached = findings.reached_while_out(recording)["rs2"]
    on_rs2 = next(one for one in reversed(recording.requests) if one in reached)
    changed = tuple(
        replace(
            lost,
            **{name: getattr(one, name) for name in ("client", "started", "ended", "reused", "local_port")},
        )
        if one is on_rs2
        else one
        for one in recording.requests
    )
    again = findings.reached_while_out(replace(recording, requests=changed))["rs2"]
    assert len(again) == len(reached)
    assert sum(one.outcome is Outcome.TIMEOUT for one in again) == 1


def test_client_that_shows_no_connection_reaches_the_server_that_answers_it_while_it_is_out() -> None:
    out = findings.absences(recordings.trap(), "rs2")[0]
    at = (out.started - 1, out.started + 1)
    sent = tuple(Request("java-1", time, time + 0.1, Outcome.OK, 200, "rs2", None, 0) for time in at)
    recording = replace(recordings.trap(), requests=sent)
    assert findings.connections(recording) == {"java-1": ()}
    assert findings.reached_while_out(recording)["rs2"] == [sent[1]]


def test_sessions_are_counted_from_the_reports_of_each_where_there_are_any() -> None:
    def event(at: float, what: str, server: str = "rs1") -> dict[str, object]:
        return recordings.event(at, f"session_{what}", server=server)

    events = (event(1, "opened"), event(2, "opened"), event(2, "opened", "rs2"), event(5, "removed"))
    recording = replace(recordings.trap(), events=events)
    assert findings.session_counts(recording, "rs1") == [(0, 0), (1, 1), (2, 2), (5, 1), (60, 1)]
    assert findings.session_counts(recording, "rs3") == [(0, 0), (60, 0)]


def test_sessions_that_were_there_before_the_run_count_too() -> None:
    removed = recordings.event(4.0, "session_removed", server="rs1")
    opened = recordings.event(9.0, "session_opened", server="rs1")
    recording = replace(recordings.trap(), events=(removed, opened))
    assert findings.session_counts(recording, "rs1") == [(0, 1), (4, 0), (9, 1), (60, 1)]


def test_sessions_are_as_sampled_where_a_report_is_missing() -> None:
    opened = recordings.event(9.0, "session_opened", server="rs1")
    missed = recordings.event(10.0, "missed", missed=7)
    recording = replace(recordings.trap(), events=(opened, missed))
    sampled = [(one.time, one.sessions) for one in recording.samples if one.server == "rs1"]
    assert findings.session_counts(recording, "rs1") == sampled


def test_every_request_is_of_one_phase() -> None:
    recording = recordings.recommended_l7()
    phases = findings.phases(recording)
    assert [phase.step.text if phase.step else None for phase in phases] == [
        None,
        *(step.text for step in recording.steps),
    ]
    assert sum(len(phase.requests) for phase in phases) == len(recording.requests)


def test_a_reset_that_has_not_ended_lasts_as_long_as_the_run() -> None:
    recording = recordings.reset_on_port_fail()
    events = tuple(event for event in recording.events if event["kind"] != "reset_ended")
    (reset,) = findings.resets(replace(recording, events=events))
    assert (reset.started, reset.ended, reset.resets) == (recordings.FAILED, 60.0, 0)


def test_the_headline_says_what_was_lost_and_what_reached_the_server_that_was_out() -> None:
    trap = recordings.trap()
    late = len(findings.reached_while_out(trap)["rs2"])
    assert late > 0
    assert list(headline(trap)) == [
        f"No request was lost: all {len(trap.requests):,} were answered.",
        f"The box took rs2 out of the binding list at 26.2 box s: meanwhile {late} requests of 7 clients "
        "still went to it, over connections that they already had.",
    ]


def test_times_are_in_seconds_at_speed_1_where_the_boxs_are_real_ones() -> None:
    trap = replace(recordings.trap(), speed=1.0)
    assert "binding list at 26.2 s: meanwhile" in list(headline(trap))[1]
    assert (wording.seconds(5.7, 1.0), wording.real_seconds(5.7, 1.0)) == ("5.7 s", "5.7 s")


def test_times_at_another_speed_say_whose_they_are() -> None:
    assert wording.seconds(5.7, 10.0) == "5.7 box s"
    assert wording.real_seconds(0.57, 10.0) == "0.57 s of real time"


def test_clients_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["curl-10", "curl-2", "idle-1", "curl-1"], key=findings.natural) == [
        "curl-1",
        "curl-2",
        "curl-10",
        "idle-1",
    ]


def test_servers_that_fail_together_are_one_moment() -> None:
    failing = tuple(
        recordings.event(
            20 + at, "server_state", server=server, old="SUSPECT", new="FAILED", bound=False, sessions=3
        )
        for server, at in (("rs1", 0.0), ("rs2", 0.1), ("rs3", 9.0))
    )
    decided = [one for one in moments(replace(recordings.trap(), events=failing)) if one.actor is Actor.BOX]
    assert [(one.mark, one.short) for one in decided] == [("A", "rs1, rs2 FAILED"), ("B", "rs3 FAILED")]
