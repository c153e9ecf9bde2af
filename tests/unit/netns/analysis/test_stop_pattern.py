"""The pattern of a stop: from segments as a server's interface sees them, requests as clients tell them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from netns.analysis.stop_pattern import Ends, Fates, StopPattern, first_sign, stop_pattern
from netns.analysis.stop_wording import in_words
from netns.record.recording import Outcome, Request
from netns.record.segments import ACK, FIN, RST, SYN, Segment

SERVER = "10.80.1.2:80"
VIP = "192.0.2.10:80"
NONE = Fates(finished=0, fin=0, rst=0, refused=0, hanging=0)
TOLD = 10.0


class Wire:
    """What passes the server's interface, written as a dialogue: `time`, client's port, what."""

    def __init__(self) -> None:
        self.seen: list[Segment] = []
        self._numbers = count(1000, 100)

    def client(self, time: float, port: int, flags: int, payload: bytes = b"", seq: int | None = None) -> int:
        number = next(self._numbers) if seq is None else seq
        self._add(time, f"10.80.4.2:{port}", SERVER, flags, payload, number)
        return number

    def server(self, time: float, port: int, flags: int, payload: bytes = b"") -> None:
        self._add(time, VIP, f"10.80.4.2:{port}", flags, payload, next(self._numbers))

    def opens(self, time: float, port: int) -> None:
        self.client(time, port, SYN)
        self.server(time, port, SYN | ACK)

    def asks(self, time: float, port: int) -> int:
        return self.client(time, port, ACK, b"GET /?name HTTP/1.1\r\n")

    def answers(self, time: float, port: int) -> None:
        self.server(time, port, ACK, b"HTTP/1.1 200 OK\r\n")

    def kept_alive(self, port: int) -> None:
        """A connection that has carried a request and is idle from 2 s on."""
        self.opens(1.0, port)
        self.asks(1.5, port)
        self.answers(2.0, port)

    def _add(self, time: float, source: str, to: str, flags: int, payload: bytes, seq: int) -> None:
        length = len(payload)
        self.seen.append(Segment(time, "rs1", source, to, 0, flags, seq, 0, length, payload))


def request(port: int, started: float, ended: float, outcome: Outcome = Outcome.OK) -> Request:
    return Request("curl-1", started, ended, outcome, 200, "rs1", True, port)


def pattern(
    wire: Wire,
    *requests: Request,
    until: float = 60.0,
    speed: float = 1.0,
    listener_gone: float | None = None,
    ended: float | None = None,
) -> StopPattern:
    return stop_pattern(
        "rs1",
        requests,
        wire.seen,
        told=TOLD,
        until=until,
        speed=speed,
        listener_gone=listener_gone,
        ended=ended,
    )


# Idle connections


def test_idle_connections_are_counted_by_how_the_server_ended_them() -> None:
    wire = Wire()
    for port in (1, 2, 3, 4):
        wire.kept_alive(port)
    wire.server(10.5, 1, FIN | ACK)
    wire.server(11.0, 2, FIN | ACK)
    wire.server(10.1, 3, RST)
    found = pattern(wire)
    assert found.idle == Ends(fin=2, rst=1, client=0, kept=1)
    assert found.idle_ended_s == 1.0


def test_connection_that_its_client_closes_first_was_not_ended_by_the_server() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.client(20.0, 1, FIN | ACK)
    wire.server(20.1, 1, FIN | ACK)
    found = pattern(wire)
    assert found.idle == Ends(fin=0, rst=0, client=1, kept=0)
    assert found.idle_ended_s is None


def test_connection_that_had_ended_before_the_server_was_told_counts_for_nothing() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.server(9.0, 1, FIN | ACK)
    assert pattern(wire).idle == Ends(fin=0, rst=0, client=0, kept=0)


def test_reset_that_answers_a_request_sent_after_the_fin_is_no_second_end() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.server(10.5, 1, FIN | ACK)
    wire.asks(10.6, 1)
    wire.server(10.6, 1, RST)
    found = pattern(wire)
    assert found.idle == Ends(fin=1, rst=0, client=0, kept=0)
    assert found.later == replace(NONE, fin=1)


def test_port_that_comes_back_is_another_connection() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.client(3.0, 1, FIN | ACK)
    wire.server(3.0, 1, FIN | ACK)
    wire.opens(4.0, 1)
    wire.server(10.5, 1, RST)
    assert pattern(wire).idle == Ends(fin=0, rst=1, client=0, kept=0)


def test_capture_out_of_order_and_a_syn_seen_twice_change_nothing() -> None:
    wire = Wire()
    number = wire.client(1.0, 1, SYN)
    wire.client(2.0, 1, SYN, seq=number)
    wire.server(2.0, 1, SYN | ACK)
    wire.server(10.5, 1, FIN | ACK)
    wire.seen.reverse()
    assert pattern(wire).idle == Ends(fin=1, rst=0, client=0, kept=0)


# Requests under way


def test_download_under_way_is_in_hand_and_its_client_says_whether_it_was_whole() -> None:
    wire = Wire()
    for port in (1, 2, 3, 4):
        wire.kept_alive(port)  # the answer began at 2 s
        wire.answers(10.2, port)
    wire.server(13.0, 1, FIN | ACK)
    wire.server(11.0, 2, FIN | ACK)
    wire.server(11.0, 3, RST)
    found = pattern(
        wire,
        request(1, 1.5, 13.0),
        request(2, 1.5, 11.0, Outcome.CLOSED),
        request(3, 1.5, 11.0, Outcome.RESET),
        request(4, 1.5, 31.5, Outcome.TIMEOUT),
    )
    assert found.in_hand == Fates(finished=1, fin=1, rst=1, refused=0, hanging=1)
    assert found.idle == Ends(0, 0, 0, 0)


def test_request_that_has_arrived_unanswered_is_in_hand_even_if_its_client_reports_another_connection() -> (
    None
):
    wire = Wire()
    for port in (1, 2, 3):
        wire.kept_alive(port)
        wire.asks(9.9, port)
    wire.answers(10.4, 1)
    wire.server(10.5, 2, FIN | ACK)
    found = pattern(wire, request(77, 9.9, 10.9))  # the client of port 2 asked again elsewhere
    assert found.in_hand == Fates(finished=1, fin=1, rst=0, refused=0, hanging=1)


def test_download_under_way_that_no_client_tells_of_is_not_an_idle_connection() -> None:
    """As of clients that had not ended it when the run did."""
    wire = Wire()
    for port in (1, 2, 3, 4):
        wire.kept_alive(port)  # the answer began at 2 s
        wire.answers(10.2, port)
    wire.server(10.21, 1, RST)
    wire.server(10.21, 2, FIN | ACK)
    wire.server(11.0, 3, FIN | ACK)  # idle by then: its answer was whole
    found = pattern(wire)
    assert found.in_hand == Fates(finished=1, fin=1, rst=1, refused=0, hanging=1)
    assert found.idle == Ends(0, 0, 0, 0)


def test_request_that_came_twice_is_one() -> None:
    wire = Wire()
    wire.kept_alive(1)
    number = wire.asks(10.2, 1)
    wire.client(10.4, 1, ACK, b"GET /?name HTTP/1.1\r\n", seq=number)
    wire.answers(10.5, 1)
    assert pattern(wire).later == replace(NONE, finished=1)


# What comes later


def test_later_requests_and_new_connections_are_told_apart_and_by_their_ends() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.asks(11.0, 1)
    wire.answers(11.5, 1)
    wire.opens(12.0, 2)
    wire.asks(12.0, 2)
    wire.answers(12.1, 2)
    wire.opens(13.0, 3)  # taken by the kernel, reset when the listener goes
    wire.asks(13.0, 3)
    wire.server(14.0, 3, RST)
    wire.opens(13.0, 4)  # the same, but its client gives up before
    wire.asks(13.0, 4)
    wire.client(13.9, 4, FIN | ACK)
    wire.server(14.0, 4, RST)
    wire.client(15.0, 5, SYN)  # nothing listens any more
    wire.server(15.0, 5, RST | ACK)
    found = pattern(wire, listener_gone=14.0, ended=14.2)
    assert found.later == replace(NONE, finished=1)
    assert found.new == Fates(finished=1, fin=0, rst=1, refused=1, hanging=1)
    assert (found.answered_s, found.still_answers) == (2.1, False) or abs(
        (found.answered_s or 0) - 2.1
    ) < 1e-9
    assert (found.listener_gone_s, found.ended_s) == (4.0, 14.2 - TOLD)


def test_server_that_answers_over_a_connection_it_kept_still_answers_though_new_ones_are_refused() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.asks(50.0, 1)
    wire.answers(50.1, 1)
    wire.client(51.0, 2, SYN)
    wire.server(51.0, 2, RST | ACK)
    assert pattern(wire).still_answers is True


def test_server_whose_kept_connection_has_ended_since_its_last_answer_answers_no_more() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.asks(50.0, 1)
    wire.answers(50.1, 1)
    wire.server(50.2, 1, FIN | ACK)
    found = pattern(wire)
    assert found.later.finished == 1
    assert found.still_answers is False


def test_whether_it_still_answers_is_unknown_where_nobody_asked() -> None:
    wire = Wire()
    wire.kept_alive(1)
    assert pattern(wire).still_answers is None


def test_what_comes_in_the_last_moment_may_yet_be_answered_and_is_left_out() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.asks(59.9, 1)
    wire.opens(59.9, 2)
    found = pattern(wire)
    assert (found.later, found.new) == (NONE, NONE)


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(("real_s", "hanging"), [(0.19, 0), (0.21, 1)])
def test_last_moment_is_the_last_fifth_of_a_real_second(real_s: float, hanging: int, speed: float) -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.asks(60 - real_s * speed, 1)
    wire.opens(60 - real_s * speed, 2)
    found = pattern(wire, speed=speed)
    assert (found.later.total, found.later.hanging) == (hanging, hanging)
    assert (found.new.total, found.new.hanging) == (hanging, hanging)


def test_connection_that_is_refused_or_closed_in_the_last_moment_counts() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.asks(59.9, 1)
    wire.server(59.91, 1, FIN | ACK)
    wire.client(59.95, 2, SYN)
    wire.server(59.95, 2, RST | ACK)
    found = pattern(wire)
    assert found.later == replace(NONE, fin=1)
    assert found.new == replace(NONE, refused=1)
    assert found.still_answers is False


def test_answer_in_the_last_moment_may_be_the_next_servers_and_is_left_out() -> None:
    wire = Wire()
    wire.client(59.0, 1, SYN)
    wire.server(59.0, 1, RST | ACK)
    wire.opens(59.99, 2)  # the next server listens, and is seen to 10 ms later
    wire.asks(59.99, 2)
    wire.answers(59.995, 2)
    found = pattern(wire)
    assert found.new == replace(NONE, refused=1)
    assert found.still_answers is False


def test_refusal_after_the_ack_of_an_older_connection_from_the_same_port_is_a_refusal() -> None:
    """The ACK draws the client's RST, and its kernel sends the SYN again (RFC 9293 §3.10.7.3)."""
    wire = Wire()
    number = wire.client(20.0, 1, SYN)
    wire.server(20.0, 1, ACK)
    wire.client(20.001, 1, RST)
    wire.client(20.014, 1, SYN, seq=number)
    wire.server(20.014, 1, RST | ACK)
    assert pattern(wire).new == replace(NONE, refused=1)


def test_nothing_after_the_last_moment_that_counts_is_counted() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.server(30.0, 1, FIN | ACK)
    wire.opens(31.0, 2)  # the server has been started again
    wire.asks(31.0, 2)
    wire.answers(31.0, 2)
    found = pattern(wire, until=25.0, listener_gone=30.0, ended=None)
    assert found.idle == Ends(fin=0, rst=0, client=0, kept=1)
    assert found.new == NONE
    assert found.listener_gone_s is None


# Time


def test_times_are_real_ones_whatever_the_boxs_speed() -> None:
    wire = Wire()
    wire.kept_alive(1)
    wire.server(30.0, 1, FIN | ACK)
    found = pattern(wire, speed=20, listener_gone=12.0, ended=50.0)
    assert (found.idle_ended_s, found.listener_gone_s, found.ended_s) == (1.0, 0.1, 2.0)


def test_first_sign_of_a_stop_is_the_first_end_put_to_an_idle_connection_else_the_listeners() -> None:
    wire = Wire()
    for port in (1, 2, 3, 4):
        wire.kept_alive(port)
    wire.server(3.0, 1, FIN | ACK)  # long before
    wire.client(9.0, 2, FIN | ACK)  # its client's own end
    wire.server(9.1, 2, FIN | ACK)
    wire.asks(9.5, 3)
    wire.answers(9.6, 3)
    wire.server(9.6, 3, FIN | ACK)  # as its client had asked, for all that is known
    wire.client(9.7, 5, SYN)
    assert first_sign(wire.seen, 12.0, since=8.0, speed=1) == 12.0
    wire.server(10.5, 4, FIN | ACK)
    assert first_sign(wire.seen, 12.0, since=8.0, speed=1) == 10.5
    assert first_sign(wire.seen, 10.4, since=8.0, speed=1) == 10.4


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize(("idle_s", "sign"), [(0.045, 12.0), (0.055, 9.0)])
def test_end_of_a_connection_without_payload_for_50_ms_is_not_the_end_of_an_answer(
    idle_s: float, sign: float, speed: float
) -> None:
    wire = Wire()
    wire.opens(1.0, 1)
    wire.asks(1.5, 1)
    wire.answers(9.0 - idle_s * speed, 1)
    wire.server(9.0, 1, FIN | ACK)
    assert first_sign(wire.seen, 12.0, since=8.0, speed=speed) == sign


# In words


def test_pattern_is_told_in_a_sentence() -> None:
    wire = Wire()
    for port in (1, 2, 3):
        wire.kept_alive(port)
    wire.server(10.1, 1, FIN | ACK)
    wire.server(10.2, 2, FIN | ACK)
    wire.answers(11.0, 3)
    wire.client(12.0, 4, SYN)
    wire.server(12.0, 4, RST | ACK)
    found = pattern(wire, request(3, 1.5, 11.0), listener_gone=10.0, ended=11.25)
    assert in_words(found) == (
        "2 idle connections: closed by FIN, the last after 0.20 s; 1 request under way: finished; "
        "1 new connection: refused; listener gone: at once; processes gone: after 1.2 s"
    )
    assert "1 closed by FIN, 2 kept" in in_words(replace(found, idle=Ends(fin=1, rst=0, client=0, kept=2)))
    assert in_words(pattern(Wire())) == ("0 idle connections: none; listener gone: no; processes gone: no")
