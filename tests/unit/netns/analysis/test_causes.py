"""Why requests are lost: each cause from a story of the wire, the box and the servers."""

from __future__ import annotations

import pytest

from netns.analysis.causes import Cause, Explained
from netns.record.recording import Fact, Outcome
from netns.record.segments import RST
from tests.unit.netns.analysis.story import HOP, Connection, Story


def only(story: Story) -> Explained:
    (found,) = story.explained()
    return found


def test_answered_request_is_neither_lost_nor_slow() -> None:
    story = Story()
    story.connection(40001, "rs1").open(10).ask(10.01, "curl-1.1").answer(10.02)
    story.request("curl-1.1", 10.0, 10.03, Outcome.OK, status=200)
    assert story.explained() == ()


def test_new_connection_to_a_stopped_server_that_is_still_bound_is_of_the_health_window() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20, 40)
    story.fails("rs2", 33, until=50)
    story.connection(40001, "rs2").syn(27.0).refuse(27.004)
    story.request("urllib3-1.3", 26.99, 27.01, Outcome.REFUSED)
    found = only(story)
    assert (found.cause, found.server, found.attempts) == (Cause.HEALTH_WINDOW, "rs2", 1)
    assert "nothing listened there for 7.0 s" in found.text
    assert "still bound it, for 6.0 s more" in found.text


def test_refusal_by_a_server_that_listens_and_has_no_filter_means_that_it_did_not_listen_for_a_moment() -> (
    None
):
    story = Story()
    story.connection(40001, "rs2").syn(27.0).refuse(27.004)
    story.request("urllib3-1.3", 26.99, 27.01, Outcome.REFUSED)
    found = only(story)
    assert found.cause is Cause.HEALTH_WINDOW
    assert "too short to be seen" in found.text


def test_refusal_after_the_ack_of_an_older_connection_from_the_same_port_is_of_the_health_window() -> None:
    """The ACK draws the client's RST, and its kernel sends the SYN again (RFC 9293 §3.10.7.3)."""
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20, 40)
    connection = story.connection(40001, "rs2").syn(27.0).old_ack(27.004).leaves(27.006, RST)
    connection.syn(27.02).refuse(27.024)
    story.request("curl-new-1.3", 26.99, 27.03, Outcome.REFUSED)
    found = only(story)
    assert (found.cause, found.server) == (Cause.HEALTH_WINDOW, "rs2")
    assert "nothing listened there" in found.text


def test_request_over_a_connection_that_the_server_had_closed_is_a_stuck_session() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.connection(40001, "rs2").used(5).fin(20.0).ask(27.0, "aiohttp-1.9", method="POST").rst(27.004)
    story.request("aiohttp-1.9", 27.0, 27.01, Outcome.RESET, method="POST", reused=True)
    found = only(story)
    assert found.cause is Cause.STUCK_SESSION
    assert "closed 7.0 s before" in found.text


def test_fin_that_crosses_a_request_is_a_close_under_way() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.connection(40001, "rs2").used(5).fin(20.0).ask(20.0005, "node-1.9", method="POST").rst(20.004)
    story.request("node-1.9", 20.0, 20.01, Outcome.RESET, method="POST", reused=True)
    found = only(story)
    assert found.cause is Cause.CLOSED_UNDER_WAY
    assert "could not know" in found.text


def test_fin_that_the_client_reads_as_it_has_sent_its_request_is_a_close_under_way() -> None:
    """It closes its own end at once, and the reset of the request comes after that."""
    story = Story()
    kept = story.connection(40001, "rs2").used(5).fin(20.0).ask(20.002, "requests-1.9").leaves(20.0025)
    kept.bare_rst(20.006)
    story.request("requests-1.9", 20.0, 20.003, Outcome.CLOSED, reused=True)
    found = only(story)
    assert found.cause is Cause.CLOSED_UNDER_WAY
    assert "rs2 closed the connection" in found.text


def test_close_after_the_request_had_arrived_is_a_server_stopped_with_it_in_hand() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.connection(40001, "rs2").used(5).ask(19.0, "node-1.9").fin(20.0)
    story.request("node-1.9", 19.0, 20.01, Outcome.CLOSED, reused=True)
    found = only(story)
    assert found.cause is Cause.STOPPED_IN_HAND
    assert "after the request had arrived" in found.text


def test_fin_that_the_client_has_had_no_time_to_see_is_a_close_under_way() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.connection(40001, "rs2").used(5).fin(20.0).ask(20.02, "node-1.9").rst(20.024)
    story.request("node-1.9", 20.02, 20.03, Outcome.RESET, reused=True)
    found = only(story)
    assert found.cause is Cause.CLOSED_UNDER_WAY
    assert "too late for the client to see" in found.text


def test_request_that_was_in_the_socket_and_not_read_crossed_the_close() -> None:
    story = Story()
    story.connection(40001, "rs2").used(5).ask(20.0, "node-1.9").rst(20.01)
    story.request("node-1.9", 20.0, 20.02, Outcome.RESET, reused=True)
    found = only(story)
    assert found.cause is Cause.CLOSED_UNDER_WAY
    assert "before it was read" in found.text


@pytest.mark.parametrize("listening", [True, False], ids=["server in service", "stopping server"])
@pytest.mark.parametrize("new", [True, False], ids=["new connection", "kept connection"])
def test_fin_that_acknowledges_a_request_shows_that_the_server_had_read_it(
    new: bool, listening: bool
) -> None:
    """An application closes 1 ms after the request arrived: a close with data unread sends a RST (Linux)."""
    story = Story()
    if not listening:
        story.loses("rs2", Fact.LISTENING, 20.0)
    connection = story.connection(40001, "rs2")
    (connection.open(19.9) if new else connection.used(5)).ask(20.0, "node-1.9").fin(20.004)
    story.request("node-1.9", 20.0, 20.01, Outcome.CLOSED, reused=not new)
    found = only(story)
    assert found.cause is Cause.STOPPED_IN_HAND
    assert found.text.endswith("just after the request had arrived")


def test_fin_that_left_as_the_request_arrived_does_not_acknowledge_it_and_crossed_it() -> None:
    story = Story()
    kept = story.connection(40001, "rs2").used(5).ask(20.0, "node-1.9")
    kept.arrived.pop()  # the capture at the server's interface has it, and the server's TCP not yet
    kept.fin(20.003)
    story.request("node-1.9", 20.0, 20.01, Outcome.CLOSED, reused=True)
    found = only(story)
    assert found.cause is Cause.CLOSED_UNDER_WAY
    assert "before it was read" in found.text


def test_request_that_a_filter_drops_until_its_server_closes_the_connection_is_the_filters() -> None:
    """The server's interface has the request, and the server's FIN does not acknowledge it."""
    story = Story()
    story.loses("rs2", Fact.FILTER, 19)
    kept = story.connection(40001, "rs2").used(5).ask(20.0, "node-1.9")
    kept.arrived.pop()
    kept.fin(20.15)
    story.request("node-1.9", 20.0, 20.16, Outcome.CLOSED, reused=True)
    found = only(story)
    assert found.cause is Cause.FILTERED
    assert "dropped it until the server closed the connection" in found.text


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(
    ("real_s", "cause"), [(0.015, Cause.CLOSED_UNDER_WAY), (0.025, Cause.STOPPED_IN_HAND)]
)
def test_reset_within_20_ms_of_a_requests_arrival_crossed_the_request(
    real_s: float, cause: Cause, speed: float
) -> None:
    story = Story(speed=speed)
    at = 20.0 + 3 * HOP + real_s * speed
    story.connection(40001, "rs2").used(5).ask(20.0, "node-1.9").rst(at)
    story.request("node-1.9", 20.0, at + 0.01, Outcome.RESET, reused=True)
    assert only(story).cause is cause


def test_connection_that_a_stopping_server_never_accepted_is_of_the_health_window() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20.1)
    story.fails("rs2", 33)
    story.connection(40001, "rs2").open(20.0).ask(20.01, "go-1.9").rst(20.1)
    story.request("go-1.9", 20.0, 20.11, Outcome.RESET)
    found = only(story)
    assert found.cause is Cause.HEALTH_WINDOW
    assert "as it stopped, and the box still bound it" in found.text


def test_answer_that_is_cut_is_a_server_stopped_with_the_request_in_hand() -> None:
    story = Story()
    story.connection(40001, "rs2").open(5).ask(19.0, "node-1.9").answer(19.1).rst(20.0)
    story.request("node-1.9", 19.0, 20.01, Outcome.RESET, reused=True)
    assert only(story).cause is Cause.STOPPED_IN_HAND


def test_reset_that_leaves_the_box_is_told_from_one_of_a_server() -> None:
    story = Story()
    story.connection(40001, "rs2").open(5).ask(30.0, "node-1.9").box_rst(30.5)
    story.request("node-1.9", 30.0, 30.51, Outcome.RESET, reused=True)
    found = only(story)
    assert (found.cause, found.server) == (Cause.BOX_RESET, "rs2")


@pytest.mark.parametrize(
    ("fact", "cause"), [(Fact.VIP, Cause.VIP_DOWN), (Fact.CONTAINER, Cause.STOPPED_IN_HAND)]
)
def test_silence_of_a_server_that_has_taken_the_request_is_what_it_lost_meanwhile(
    fact: Fact, cause: Cause
) -> None:
    story = Story()
    story.loses("rs2", fact, 25.5, 30)
    story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").took(25.003, "curl-1.4").leaves(27.0)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is cause


@pytest.mark.parametrize("new", [True, False], ids=["new connection", "kept connection"])
def test_silence_of_a_server_whose_vip_is_down_is_the_vip(new: bool) -> None:
    story = Story()
    story.loses("rs2", Fact.VIP, 20)
    story.fails("rs2", 33)
    if new:
        story.connection(40001, "rs2").syn(25.0).syn(26.0)
    else:
        kept = story.connection(40001, "rs2").used(5)
        kept.ask(25.0, "curl-1.4").ask(25.3, "curl-1.4")
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=not new)
    found = only(story)
    assert (found.cause, found.server) == (Cause.VIP_DOWN, "rs2")
    assert "VIP was down for 5.0 s" in found.text
    assert ("still bound it, for 8.0 s more" in found.text) is new


@pytest.mark.parametrize("to", ["server", "lost"])
@pytest.mark.parametrize(
    ("new", "cause"),
    [(True, Cause.HEALTH_WINDOW), (False, Cause.STUCK_SESSION)],
    ids=["new connection", "kept connection"],
)
def test_silence_where_a_container_was_is_its_end_however_far_the_packets_got(
    new: bool, cause: Cause, to: str
) -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.loses("rs2", Fact.CONTAINER, 20)
    story.fails("rs2", 33)
    if new:
        story.connection(40001, "rs2").syn(25.0, to=to).syn(26.0, to=to)
    else:
        story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4", to=to).ask(25.3, "curl-1.4", to=to)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=not new)
    found = only(story)
    assert (found.cause, found.server) == (cause, "rs2")
    assert "its container was gone, and its network with it for 5.0 s" in found.text
    assert ("still bound it, for 8.0 s more" in found.text) is new


def test_request_that_a_server_in_service_takes_and_does_not_answer_is_the_servers_slowness() -> None:
    story = Story()
    story.connection(40001, "rs2").open(5).ask(25.0, "curl-1.4").took(25.003, "curl-1.4")
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is Cause.SERVER_HUNG


def test_request_that_a_server_being_taken_out_does_not_answer_is_a_stuck_session() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20)
    story.fails("rs2", 33)
    kept = story.connection(40001, "rs2").used(5)
    kept.ask(40.0, "curl-1.4").took(40.003, "curl-1.4")
    story.request("curl-1.4", 40.0, 42.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is Cause.STUCK_SESSION


def test_error_of_a_server_being_deployed_over_a_kept_connection_is_the_trap() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20)
    story.fails("rs2", 33)
    story.connection(40002, "rs2").open(6).ask(9.0, "curl-1.1").answer(9.1).ask(40.0, "curl-1.4").answer(
        40.01
    )
    story.request("curl-1.4", 40.0, 40.02, Outcome.HTTP_ERROR, status=503, reused=True)
    found = only(story)
    assert (found.cause, found.server) == (Cause.STUCK_SESSION, "rs2")
    assert "answered 503" in found.text


def test_error_over_a_new_connection_in_the_window_is_the_windows() -> None:
    story = Story()
    story.loses("rs2", Fact.HEALTH_FILE, 20)
    story.fails("rs2", 33)
    story.connection(40001, "rs2").open(25.0).ask(25.01, "curl-1.4").answer(25.02)
    story.request("curl-1.4", 25.0, 25.03, Outcome.HTTP_ERROR, status=404)
    assert only(story).cause is Cause.HEALTH_WINDOW


def test_error_of_a_server_in_service_is_its_own() -> None:
    story = Story()
    story.connection(40001, "rs1").open(25.0).ask(25.01, "curl-1.4").answer(25.02)
    story.request("curl-1.4", 25.0, 25.03, Outcome.HTTP_ERROR, status=500)
    assert only(story).cause is Cause.SERVER_ERROR


def test_refusal_by_the_box_with_nobody_bound_is_no_server() -> None:
    story = Story()
    for server in ("rs1", "rs2", "rs3"):
        story.fails(server, 30)
    syn = story.connection(40001, "rs1").syn(35.0, to="box")
    syn.box_rst(35.002)
    story.request("curl-1.4", 35.0, 35.01, Outcome.REFUSED)
    assert only(story).cause is Cause.NO_SERVER


def test_refusal_just_before_the_box_says_that_nobody_is_bound_is_no_server() -> None:
    """Its clock and the captures' are a little apart."""
    story = Story()
    for server in ("rs1", "rs2", "rs3"):
        story.fails(server, 35.03)
    story.connection(40001, "rs1").syn(35.0, to="box").box_rst(35.002)
    story.request("curl-1.4", 35.0, 35.01, Outcome.REFUSED)
    assert only(story).cause is Cause.NO_SERVER


def test_drop_by_the_box_with_nobody_bound_is_no_server_and_with_somebody_is_not_explained_away() -> None:
    for bound, cause in ((False, Cause.NO_SERVER), (True, Cause.UNEXPLAINED)):
        story = Story()
        for server in ("rs1", "rs2", "rs3")[bound:]:
            story.fails(server, 30)
        story.connection(40001, "rs1").syn(35.0, to="box").syn(36.0, to="box")
        story.request("curl-1.4", 35.0, 37.0, Outcome.TIMEOUT)
        assert only(story).cause is cause


def test_what_a_dead_box_does_not_forward_is_the_boxs() -> None:
    story = Story(box_ended=34.0)
    story.connection(40001, "rs1").syn(35.0, to="box")
    story.request("curl-1.4", 35.0, 37.0, Outcome.TIMEOUT)
    assert only(story).cause is Cause.BOX_DOWN


def test_packet_that_leaves_the_box_and_never_arrives_found_its_server_off_the_network() -> None:
    story = Story()
    story.connection(40001, "rs1").syn(35.0, to="lost")
    story.request("curl-1.4", 35.0, 37.0, Outcome.TIMEOUT)
    found = only(story)
    assert (found.cause, found.server) == (Cause.UNREACHABLE, "rs1")


def test_request_that_arrives_after_retransmissions_only_found_its_server_off_the_network() -> None:
    story = Story()
    kept = story.connection(40001, "rs2").used(5)
    kept.ask(25.0, "curl-1.4", to="lost").ask(27.5, "curl-1.4").took(27.503, "curl-1.4")
    story.request("curl-1.4", 25.0, 28.0, Outcome.TIMEOUT, reused=True)
    found = only(story)
    assert (found.cause, "for 2.5 s" in found.text) == (Cause.UNREACHABLE, True)


def test_request_of_which_nothing_is_on_the_wire_is_not_explained_away() -> None:
    story = Story()
    story.request("curl-1.4", 35.0, 37.0, Outcome.OTHER)
    found = only(story)
    assert (found.cause, found.attempts) == (Cause.UNEXPLAINED, 0)


def test_retry_of_a_library_counts_and_its_last_attempt_decides() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.fails("rs2", 33)
    story.connection(40001, "rs2").used(5).fin(20.0).ask(20.0005, "node-1.9").rst(20.004)
    story.connection(40002, "rs2").syn(20.01).refuse(20.014)
    story.request("node-1.9", 20.0, 20.02, Outcome.REFUSED, reused=True)
    found = only(story)
    assert (found.cause, found.attempts) == (Cause.HEALTH_WINDOW, 2)


def test_each_refused_connection_is_one_requests_only() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.fails("rs2", 33)
    for number, at in enumerate((25.0, 25.02, 25.04)):
        story.connection(40001 + number, "rs2").syn(at).refuse(at + 0.004)
        story.request(f"java-{number}.1", at - 0.001, at + 0.006, Outcome.REFUSED)
    assert [round(one.at, 2) for one in story.explained()] == [25.0, 25.02, 25.04]


def test_error_over_a_new_connection_is_no_stuck_session() -> None:
    """The box says FAILED between the SYN and the answer."""
    story = Story()
    story.fails("rs2", 27.01, until=50)
    story.connection(40001, "rs2").open(27.0).ask(27.02, "curl-new-1.3").answer(
        27.03, b"HTTP/1.1 404 Gone\r\n\r\n"
    )
    story.request("curl-new-1.3", 26.99, 27.04, Outcome.HTTP_ERROR, status=404)
    assert only(story).cause is Cause.SERVER_ERROR


def test_server_without_a_route_to_its_clients_is_off_the_network() -> None:
    story = Story()
    story.loses("rs2", Fact.ROUTE, 20, 40)
    story.connection(40001, "rs2").syn(27.0)
    story.request("curl-new-1.3", 26.99, 29.0, Outcome.TIMEOUT)
    found = only(story)
    assert (found.cause, found.server) == (Cause.UNREACHABLE, "rs2")
    assert "it had no route to the clients for 7.0 s" in found.text


def test_no_refused_request_is_left_without_a_connection_when_clients_log_late() -> None:
    """The first request's end is logged late, so the second's connection is nearer to it than its own is. Its
    own began before what the second may have."""
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20, 40)
    story.connection(40001, "rs2").syn(26.90).refuse(26.905)
    story.connection(40002, "rs2").syn(27.00).refuse(27.005)
    story.request("curl-new-1.1", 26.93, 27.005, Outcome.REFUSED)
    story.request("curl-new-2.1", 26.97, 27.03, Outcome.REFUSED)
    assert {one.cause for one in story.explained()} == {Cause.HEALTH_WINDOW}


def test_refused_connection_is_not_taken_for_that_of_a_request_that_was_reset_at_the_same_moment() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    story.fails("rs2", 33)
    story.connection(40001, "rs2").used(5).ask(19.99, "curl-1.4").rst(20.005)
    story.request("curl-1.4", 19.99, 20.007, Outcome.RESET, reused=True)
    story.connection(40002, "rs2").syn(20.001).refuse(20.005)
    story.request("curl-2.4", 19.98, 20.02, Outcome.REFUSED)
    assert [one.attempts for one in story.explained()] == [1, 1]


def test_client_that_names_nothing_is_found_by_its_port() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20)
    first = story.connection(40001, "rs2").open(5)
    first.ask(6.0, "").answer(6.01)
    first.ask(19.999, "").fin(20.1)
    story.request("idle-1", 19.99, 20.11, Outcome.CLOSED, port=40001, reused=True)
    assert only(story).cause is Cause.STOPPED_IN_HAND


@pytest.mark.parametrize(
    ("answered", "client", "cause"),
    [(13.0, 13.01, Cause.SERVER_SLOW), (10.02, 13.0, Cause.CLIENT_SLOW)],
    ids=["server", "client"],
)
def test_slow_answer_is_where_its_time_went(answered: float, client: float, cause: Cause) -> None:
    story = Story()
    story.connection(40001, "rs1").open(10).ask(10.01, "curl-1.1").answer(answered)
    story.request("curl-1.1", 10.0, client, Outcome.OK, status=200)
    found = only(story)
    assert (found.cause, found.lost) == (cause, False)


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(("real_s", "slow"), [(0.45, False), (0.55, True)])
def test_answer_after_half_a_real_second_is_slow(real_s: float, slow: bool, speed: float) -> None:
    story = Story(speed=speed)
    ended = 10.0 + real_s * speed
    story.connection(40001, "rs1").open(10).ask(10.01, "curl-1.1").answer(ended - 0.01)
    story.request("curl-1.1", 10.0, ended, Outcome.OK, status=200)
    assert [one.cause for one in story.explained()] == [Cause.SERVER_SLOW] * slow


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(("real_s", "cause"), [(0.045, Cause.CLOSED_UNDER_WAY), (0.055, Cause.STUCK_SESSION)])
def test_client_has_50_ms_to_see_that_its_connection_was_closed(
    real_s: float, cause: Cause, speed: float
) -> None:
    story = Story(speed=speed)
    story.loses("rs2", Fact.LISTENING, 20)
    at = 20.0 + HOP + real_s * speed
    story.connection(40001, "rs2").used(5).fin(20.0).ask(at, "node-1.9").rst(at + 0.004)
    story.request("node-1.9", at, at + 0.01, Outcome.RESET, reused=True)
    assert only(story).cause is cause


@pytest.mark.parametrize(("after", "words"), [(0.004, "just after"), (0.006, "0.01 s after")])
def test_less_than_5_ms_is_told_as_no_time(after: float, words: str) -> None:
    story = Story()
    at = 20.0 + 3 * HOP + after
    story.connection(40001, "rs2").used(5).ask(20.0, "node-1.9").fin(at)
    story.request("node-1.9", 20.0, at + 0.01, Outcome.CLOSED, reused=True)
    assert f"{words} the request had arrived" in only(story).text


def test_slow_answer_after_a_retransmitted_syn_is_the_reason_for_that() -> None:
    story = Story()
    story.loses("rs2", Fact.VIP, 20, 25.5)
    story.connection(40001, "rs2").syn(25.0).syn(26.0).syn_ack(26.004).ask(26.01, "curl-1.1").answer(26.02)
    story.request("curl-1.1", 25.0, 26.03, Outcome.OK, status=200)
    assert only(story).cause is Cause.VIP_DOWN


# Who closed first


@pytest.mark.parametrize("close", ["fin", "rst"])
def test_close_after_the_client_gave_up_is_no_cause_of_that(close: str) -> None:
    """Workers that are stopped by SIGSTOP and go on later find their clients gone."""
    story = Story()
    kept = story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").took(25.003, "curl-1.4").leaves(27.0)
    getattr(kept, close)(30.0)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=True)
    found = only(story)
    assert (found.cause, found.server) == (Cause.SERVER_HUNG, "rs2")


def test_close_that_crosses_the_clients_own_is_no_cause() -> None:
    story = Story()
    kept = story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").took(25.003, "curl-1.4")
    kept.fin(27.0).leaves(27.0005)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is Cause.SERVER_HUNG


def test_answer_that_comes_when_a_retry_has_already_been_answered_counts_for_nothing() -> None:
    story = Story()
    hung = story.connection(40001, "rs1").used(5).ask(25.0, "urllib3-1.4").took(25.003, "urllib3-1.4")
    hung.leaves(27.0).answer(30.0)
    story.connection(40002, "rs2").open(27.01).ask(27.02, "urllib3-1.4").answer(27.03)
    story.request("urllib3-1.4", 25.0, 27.04, Outcome.OK, status=200)
    found = only(story)
    assert (found.cause, found.server, found.attempts) == (Cause.SERVER_HUNG, "rs1", 2)
    assert "5.0 s" not in found.text


def test_syn_ack_that_its_client_resets_came_too_late_to_count() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20, 29)
    late = story.connection(40001, "rs2").syn(25.0).syn(29.5)
    late.syn_ack(29.504).leaves(29.506, RST)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT)
    assert only(story).cause is Cause.FILTERED


# A server's own packet filter


def asks(story: Story, *, new: bool) -> Connection:
    """A client asks rs2 at 25, and gives up at 27."""
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=not new)
    if new:
        return story.connection(40001, "rs2").syn(25.0).syn(26.0)
    return story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").ask(25.3, "curl-1.4")


@pytest.mark.parametrize("new", [True, False], ids=["new connection", "kept connection"])
def test_packet_that_arrives_and_draws_nothing_was_dropped_by_the_filter_or_its_answer_was(new: bool) -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20)
    story.fails("rs2", 33)
    asks(story, new=new)
    found = only(story)
    assert (found.cause, found.server) == (Cause.FILTERED, "rs2")
    assert "dropped it or the answer: that rule was there for 5.0 s already" in found.text
    assert ("still bound it, for 8.0 s more" in found.text) is new


def test_acknowledgement_after_the_client_left_does_not_mean_that_the_server_took_the_request() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20, 29)
    asks(story, new=False).leaves(27.0).took(29.1, "curl-1.4")
    assert only(story).cause is Cause.FILTERED


@pytest.mark.parametrize("new", [True, False], ids=["new connection", "kept connection"])
def test_icmp_unreachable_from_the_server_is_its_filter(new: bool) -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20)
    story.fails("rs2", 33)
    asks(story, new=new).icmp(25.004)
    found = only(story)
    assert found.cause is Cause.FILTERED
    assert "refused it by ICMP: that rule was there for 5.0 s" in found.text


def test_icmp_unreachable_tells_of_a_filter_that_could_not_be_watched() -> None:
    story = Story()
    story.unwatched(Fact.FILTER)
    asks(story, new=True).icmp(25.004)
    assert only(story).cause is Cause.FILTERED


def test_reset_of_a_connection_that_the_server_never_closed_is_its_filter() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20)
    story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").bare_rst(25.004)
    story.request("curl-1.4", 25.0, 25.01, Outcome.RESET, reused=True)
    found = only(story)
    assert found.cause is Cause.FILTERED
    assert "refused it with a TCP reset" in found.text


def test_refusal_by_a_server_that_listens_is_its_filter() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20)
    story.fails("rs2", 33)
    story.connection(40001, "rs2").syn(27.0).refuse(27.004)
    story.request("urllib3-1.3", 26.99, 27.01, Outcome.REFUSED)
    found = only(story)
    assert found.cause is Cause.FILTERED
    assert "still bound it, for 6.0 s more" in found.text


def test_refusal_by_a_server_that_has_stopped_is_not_its_filter() -> None:
    """Its filter refuses the box's checks first, and it stops too soon after that."""
    story = Story()
    story.loses("rs2", Fact.FILTER, 20)
    story.loses("rs2", Fact.LISTENING, 26)
    story.connection(40001, "rs2").syn(27.0).refuse(27.004)
    story.request("urllib3-1.3", 26.99, 27.01, Outcome.REFUSED)
    assert only(story).cause is Cause.HEALTH_WINDOW


def test_answer_that_the_filter_drops_is_the_filters() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 25.5)
    story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").took(25.003, "curl-1.4").leaves(27.0)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is Cause.FILTERED


def test_server_that_takes_a_request_is_hung_whatever_rule_its_filter_already_had() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20)
    story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4").took(25.003, "curl-1.4").leaves(27.0)
    story.request("curl-1.4", 25.0, 27.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is Cause.SERVER_HUNG


def test_error_of_a_server_in_service_is_its_own_whatever_rule_its_filter_has() -> None:
    story = Story()
    story.loses("rs1", Fact.FILTER, 20)
    story.connection(40001, "rs1").open(25.0).ask(25.01, "curl-1.4").answer(25.02)
    story.request("curl-1.4", 25.0, 25.03, Outcome.HTTP_ERROR, status=500)
    assert only(story).cause is Cause.SERVER_ERROR


def test_new_connection_that_nothing_stops_and_nobody_answers_is_of_a_hung_server_for_no_known_reason() -> (
    None
):
    story = Story()
    asks(story, new=True)
    found = only(story)
    assert found.cause is Cause.SERVER_HUNG
    assert found.text == "timed out: rs2's kernel got a new connection and did not answer it"


def test_request_of_which_no_word_leaves_a_server_that_nothing_stops_found_it_off_the_network() -> None:
    """Its route to the clients is gone, say."""
    story = Story()
    asks(story, new=False)
    found = only(story)
    assert (found.cause, found.server) == (Cause.UNREACHABLE, "rs2")


def test_request_that_a_filter_dropped_at_first_is_slow_because_of_it() -> None:
    story = Story()
    story.loses("rs2", Fact.FILTER, 20, 25.9)
    slow = story.connection(40001, "rs2").syn(25.0).syn(26.0).syn_ack(26.004)
    slow.ask(26.01, "curl-1.1").answer(26.02)
    story.request("curl-1.1", 25.0, 26.03, Outcome.OK, status=200)
    found = only(story)
    assert (found.cause, found.lost) == (Cause.FILTERED, False)
    assert "dropped it or the answer at first" in found.text


# A lost DSCP rule


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("new", [True, False], ids=["new connection", "kept connection"])
def test_answer_from_the_servers_own_address_is_a_lost_dscp_rule(new: bool, watched: bool) -> None:
    story = Story()
    if watched:
        story.loses("rs2", Fact.DSR_RULE, 20)
    else:
        story.unwatched(Fact.DSR_RULE)
    story.fails("rs2", 33)
    asks(story, new=new).answers_from_own_address(25.004)
    found = only(story)
    assert (found.cause, found.server) == (Cause.NO_DSR_RULE, "rs2")
    assert ("its DSCP rule was gone for 5.0 s" in found.text) is watched
    assert ("still bound it, for 8.0 s more" in found.text) is new


def test_what_a_server_sends_to_somebody_else_from_its_own_address_says_nothing() -> None:
    story = Story()
    story.connection(40009, "rs2").answers_from_own_address(25.004)
    story.loses("rs2", Fact.FILTER, 20)
    asks(story, new=True)
    assert only(story).cause is Cause.FILTERED


def test_packet_with_a_vips_dscp_for_a_port_of_no_virtual_server_is_none_of_the_clients() -> None:
    story = Story()
    story.connection(40009, "rs2", 22).syn(25.0)
    story.loses("rs2", Fact.FILTER, 20)
    asks(story, new=True)
    assert only(story).cause is Cause.FILTERED


# Other requests that are not where they are looked for first


def test_download_is_found_by_its_id_whatever_its_path() -> None:
    story = Story()
    story.loses("rs1", Fact.LISTENING, 30)
    cut = story.connection(40001, "rs1").open(10).ask(10.01, "curl-download-1.1", path="/large")
    cut.answer(10.02).fin(30.0)
    story.request("curl-download-1.1", 10.0, 30.1, Outcome.CLOSED)
    found = only(story)
    assert (found.cause, found.attempts) == (Cause.STOPPED_IN_HAND, 1)
    assert "in the middle of its answer" in found.text


def test_download_whose_server_closed_behind_data_that_was_never_sent_was_cut_all_the_same() -> None:
    story = Story()
    cut = story.connection(40001, "rs1").open(10).ask(10.01, "curl-download-1.1", path="/large")
    cut.answer(10.02).leaves(40.0)
    story.request("curl-download-1.1", 10.0, 40.0, Outcome.CLOSED)
    assert only(story).cause is Cause.STOPPED_IN_HAND


def test_answer_that_stops_coming_is_that_of_a_hung_server() -> None:
    story = Story()
    story.connection(40001, "rs1").open(10).ask(10.01, "curl-1.1").answer(10.02).leaves(12.0)
    story.request("curl-1.1", 10.0, 12.0, Outcome.TIMEOUT)
    found = only(story)
    assert (found.cause, "did not end its answer" in found.text) == (Cause.SERVER_HUNG, True)


@pytest.mark.parametrize(("close", "word"), [("fin", "closed"), ("rst", "reset")])
def test_request_that_a_close_overtook_before_it_was_written_is_a_close_under_way(
    close: str, word: str
) -> None:
    """The JDK gives a POST up whose connection closes before it is written."""
    story = Story()
    kept = story.connection(40001, "rs1").open(5).ask(6.0, "java-1.8").answer(6.01)
    story.connection(40002, "rs2").open(5).ask(6.0, "java-2.8").answer(6.01).fin(20.0)
    getattr(kept, close)(20.001)
    story.request("java-1.9", 20.0, 20.01, Outcome.CLOSED, method="POST")
    found = only(story)
    assert (found.cause, found.server, found.attempts) == (Cause.CLOSED_UNDER_WAY, "rs1", 0)
    assert f"rs1 {word} a kept connection as the request began" in found.text


def test_request_that_was_never_written_is_not_taken_for_anothers_connection() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 19)
    story.connection(40001, "rs1").open(5).ask(6.0, "java-1.8").answer(6.01).fin(20.001)
    story.request("java-1.9", 20.0, 20.01, Outcome.CLOSED, method="POST")
    story.connection(40002, "rs2").syn(20.0).refuse(20.004)
    story.request("java-2.9", 20.0, 20.03, Outcome.REFUSED)
    causes = {one.request.client: one.cause for one in story.explained()}
    assert causes == {"java-1": Cause.CLOSED_UNDER_WAY, "java-2": Cause.HEALTH_WINDOW}


def test_request_of_a_client_whose_connection_stayed_open_is_not_explained_by_anothers() -> None:
    story = Story()
    story.connection(40001, "rs1").open(5).ask(6.0, "java-1.8").answer(6.01)
    story.connection(40002, "rs2").open(5).ask(6.0, "java-2.8").answer(6.01).fin(20.001)
    story.request("java-1.9", 20.0, 20.01, Outcome.CLOSED, method="POST")
    assert only(story).cause is Cause.UNEXPLAINED


def test_connection_that_a_server_in_service_had_closed_early_is_not_stuck_on_a_stopped_one() -> None:
    story = Story()
    story.connection(40001, "rs1").used(5).fin(20.0).ask(20.2, "requests-1.9").bare_rst(20.204)
    story.request("requests-1.9", 20.2, 20.21, Outcome.RESET, reused=True)
    found = only(story)
    assert found.cause is Cause.CLOSED_UNDER_WAY
    assert "had not noticed" in found.text


def test_connection_that_is_closed_before_its_request_is_sent_is_a_close_under_way() -> None:
    story = Story()
    story.connection(40001, "rs1").open(20.0).acks(20.005).rst(20.01)
    story.request("go-1.9", 20.0, 20.02, Outcome.RESET)
    found = only(story)
    assert (found.cause, "before a request was sent" in found.text) == (Cause.CLOSED_UNDER_WAY, True)


def test_reset_of_a_connection_that_its_server_forgot_when_it_stopped_is_a_stuck_session() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20, 22)
    story.connection(40001, "rs2").used(5).ask(25.0, "node-1.9").bare_rst(25.004)
    story.request("node-1.9", 25.0, 25.01, Outcome.RESET, reused=True)
    assert only(story).cause is Cause.STUCK_SESSION


def test_every_request_that_met_a_dead_box_is_the_boxs() -> None:
    story = Story(box_ended=34.0)
    story.request("curl-1.4", 35.0, 37.0, Outcome.TIMEOUT)  # nothing of it was captured
    kept = story.connection(40002, "rs1").used(5)
    kept.ask(33.8, "curl-2.4", to="box").ask(34.1, "curl-2.4", to="box").leaves(35.8)
    story.request("curl-2.4", 33.8, 35.8, Outcome.TIMEOUT, reused=True)
    story.connection(40003, "rs1").syn(33.9, to="box").syn(34.9, to="box")
    story.request("curl-3.4", 33.9, 35.9, Outcome.TIMEOUT)
    assert [one.cause for one in story.explained()] == [Cause.BOX_DOWN] * 3


# Several virtual servers


def test_refusal_of_one_virtual_server_with_nobody_bound_is_not_excused_by_another() -> None:
    story = Story()
    for server in ("rs1", "rs2", "rs3"):
        story.fails(server, 30, of="api")
    story.connection(40001, "rs1", 81).syn(35.0, to="box").box_rst(35.002)
    story.request("curl@api-1.4", 35.0, 35.01, Outcome.REFUSED)
    story.connection(40002, "rs1").syn(35.0, to="box").box_rst(35.002)
    story.request("curl@web-1.4", 35.0, 35.01, Outcome.REFUSED)
    causes = {one.request.client: one.cause for one in story.explained()}
    assert causes == {"curl@api-1": Cause.NO_SERVER, "curl@web-1": Cause.UNEXPLAINED}


def test_health_window_is_that_of_the_requests_own_virtual_server() -> None:
    story = Story()
    story.loses("rs2", Fact.LISTENING, 20, 40)
    story.fails("rs2", 33, until=50)
    story.fails("rs2", 30, until=50, of="api")
    story.connection(40001, "rs2", 81).syn(27.0).refuse(27.004)
    story.request("curl@api-3.17", 26.99, 27.01, Outcome.REFUSED)
    found = only(story)
    assert (found.cause, found.attempts) == (Cause.HEALTH_WINDOW, 1)
    assert "still bound it, for 3.0 s more" in found.text


# Times in words


@pytest.mark.parametrize(("speed", "words"), [(1.0, "for 7.0 s already"), (10.0, "for 7.0 box s already")])
def test_times_say_whose_they_are_when_a_real_second_is_not_the_boxs(speed: float, words: str) -> None:
    story = Story(speed=speed)
    story.loses("rs2", Fact.LISTENING, 20, 40)
    story.fails("rs2", 33, until=50)
    story.connection(40001, "rs2").syn(27.0).refuse(27.004)
    story.request("urllib3-1.3", 26.99, 27.01, Outcome.REFUSED)
    assert words in only(story).text


# Slow, and sent more than once


def test_connection_that_arrived_at_once_and_was_taken_late_was_slow_at_its_server() -> None:
    story = Story()
    slow = story.connection(40001, "rs2").syn(25.0).syn(26.0).syn_ack(26.004)
    slow.ask(26.01, "curl-1.1").answer(26.02)
    story.request("curl-1.1", 25.0, 26.03, Outcome.OK, status=200)
    found = only(story)
    assert found.cause is Cause.SERVER_SLOW
    assert found.text.endswith("rs2's kernel did not answer a new connection at first")


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(("real_s", "cause"), [(0.08, Cause.SERVER_HUNG), (0.12, Cause.UNREACHABLE)])
def test_request_that_arrives_more_than_a_tenth_of_a_second_late_is_a_retransmission(
    real_s: float, cause: Cause, speed: float
) -> None:
    story = Story(speed=speed)
    again = 25.0 + real_s * speed - 3 * HOP
    kept = story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.4", to="lost").ask(again, "curl-1.4")
    kept.took(again + 3 * HOP, "curl-1.4")
    story.request("curl-1.4", 25.0, 28.0, Outcome.TIMEOUT, reused=True)
    assert only(story).cause is cause


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(("real_s", "cause"), [(0.08, Cause.SERVER_SLOW), (0.12, Cause.PATH_SLOW)])
def test_syn_that_arrives_more_than_a_tenth_of_a_second_late_is_a_retransmission(
    real_s: float, cause: Cause, speed: float
) -> None:
    """Its retransmission was taken; the first had taken that long on its way, or was lost."""
    story = Story(speed=speed)
    slow = story.connection(40001, "rs2").syn(25.0, to="lost").syn(25.0 + real_s * speed - 3 * HOP)
    slow.syn_ack(40.0).ask(40.01, "curl-1.1").answer(40.02)
    story.request("curl-1.1", 25.0, 40.03, Outcome.OK, status=200)
    assert only(story).cause is cause


def test_connection_whose_first_syn_was_lost_was_slow_on_the_way() -> None:
    story = Story()
    slow = story.connection(40001, "rs2").syn(25.0, to="lost").syn(26.0).syn_ack(26.004)
    slow.ask(26.01, "curl-1.1").answer(26.02)
    story.request("curl-1.1", 25.0, 26.03, Outcome.OK, status=200)
    assert only(story).cause is Cause.PATH_SLOW


def test_request_that_had_arrived_when_it_was_sent_once_more_was_slow_at_its_server() -> None:
    story = Story()
    kept = story.connection(40001, "rs2").used(5).ask(25.0, "curl-1.1").ask(25.3, "curl-1.1")
    kept.took(25.304, "curl-1.1").answer(26.02)
    story.request("curl-1.1", 25.0, 26.03, Outcome.OK, status=200)
    found = only(story)
    assert (found.cause, "rs2 had it for 1.0 s" in found.text) == (Cause.SERVER_SLOW, True)
