"""Clients: what they are asked for, how they are started, what their own words mean."""

from __future__ import annotations

import pytest

from netns import connections, traffic
from netns.program import Program
from netns.recording import Outcome, Request
from netns.traffic import Clients, Ended, Kind, Wanted, curl_command, outcome, parse_clients


class FakeProgram(Program):
    """A program whose lines are given."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def lines(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


def curls(*lines: str) -> list[Request | Ended]:
    """What a group of two curls gives when it has written these lines."""
    return Clients("curl", Kind.CURL, 2, FakeProgram(*lines)).read()


# What is asked for


def test_clients_are_asked_for_by_kind_and_number() -> None:
    assert parse_clients("curl:20, curl-new:5") == [Wanted(Kind.CURL, 20), Wanted(Kind.CURL_NEW, 5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wget:3", "'wget' is no kind of client: curl, curl-new, curl-download, idle are allowed"),
        ("curl", "'curl': a number of clients is missing, as in curl:20"),
        ("curl:0", "a number of clients is missing"),
        ("curl:-1", "a number of clients is missing"),
        ("", "'' is no kind of client"),
    ],
)
def test_clients_that_make_no_sense_are_refused_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_clients(text)


def test_keep_alive_curl_asks_serially_at_a_rate_and_ends_by_itself() -> None:
    argv = curl_command("http://192.0.2.10:80/", Kind.CURL, rate=10, max_time_s=2)
    assert argv[argv.index("--rate") + 1] == "10/s"
    assert argv[argv.index("--max-time") + 1] == "2"
    assert argv[-1] == f"http://192.0.2.10:80/?[1-{10 * traffic.LIFETIME_S}]"
    assert "--fail-early" not in argv  # a lost request must not be the client's last
    assert "Connection: close" not in argv


def test_new_connection_curl_asks_the_server_to_close_each() -> None:
    assert "Connection: close" in curl_command("http://192.0.2.10:80/", Kind.CURL_NEW, rate=1, max_time_s=2)


def test_download_is_slow_and_has_all_the_time() -> None:
    argv = curl_command("http://192.0.2.10:80/", Kind.CURL_DOWNLOAD, rate=1, max_time_s=2)
    assert argv[argv.index("--limit-rate") + 1] == str(traffic.LARGE_RATE)
    assert argv[argv.index("--max-time") + 1] == str(traffic.LIFETIME_S)
    assert traffic.LARGE_BYTES / traffic.LARGE_RATE > 60


# What curl says


def test_request_is_its_page_and_the_line_after_it() -> None:
    (request,) = curls("1 100.25 rs2", "1 100.25 the new release", "1 100.25 = 0 200 1 40001 0.25 ")
    assert request == Request("curl-1", 100.0, 100.25, Outcome.OK, 200, "rs2", False, 40001)


def test_request_over_the_connection_that_was_there_is_reused() -> None:
    _, second = curls("1 5.0 rs1", "1 5.0 = 0 200 1 40001 0.1 ", "1 6.0 rs1", "1 6.0 = 0 200 0 40001 0.1 ")
    assert isinstance(second, Request)
    assert second.reused


def test_pages_of_two_clients_are_told_apart() -> None:
    found = curls("1 5.0 rs1", "2 5.0 rs2", "2 5.1 = 0 200 1 40002 0.1 ", "1 5.1 = 0 200 1 40001 0.1 ")
    assert [(one.client, one.server) for one in found if isinstance(one, Request)] == [
        ("curl-2", "rs2"),
        ("curl-1", "rs1"),
    ]


def test_page_that_came_in_part_belongs_to_no_later_request() -> None:
    cut, whole = curls(
        "1 5.0 rs1",
        "1 5.0 = 18 200 1 40001 0.1 transfer closed with 3 bytes remaining to read",
        "1 6.0 rs3",
        "1 6.0 = 0 200 1 40002 0.1 ",
    )
    assert isinstance(cut, Request)
    assert (cut.outcome, cut.server) == (Outcome.CLOSED, "")
    assert isinstance(whole, Request)
    assert whole.server == "rs3"


def test_error_page_names_no_server() -> None:
    (request,) = curls("1 5.0 <html>", "1 5.0 = 0 404 1 40001 0.1 ")
    assert isinstance(request, Request)
    assert (request.outcome, request.status, request.server) == (Outcome.HTTP_ERROR, 404, "")


def test_request_that_got_no_connection_has_no_port_and_reused_none() -> None:
    (request,) = curls("1 5.0 = 7 000 0 0 0.001 Failed to connect: Couldn't connect to server")
    assert request == Request(
        "curl-1",
        pytest.approx(4.999),
        5.0,
        Outcome.REFUSED,
        0,
        "",
        False,
        0,
        "Failed to connect: Couldn't connect to server",
    )


def test_what_is_no_result_is_kept_to_be_shown() -> None:
    group = Clients("curl", Kind.CURL, 2, FakeProgram("nsenter: curl: No such file"))
    assert group.read() == []
    assert group.unread == ["nsenter: curl: No such file"]


@pytest.mark.parametrize(
    ("exit_code", "status", "error", "expected"),
    [
        (0, 200, "", Outcome.OK),
        (0, 304, "", Outcome.OK),
        (0, 503, "", Outcome.HTTP_ERROR),
        (7, 0, "Couldn't connect to server", Outcome.REFUSED),
        (28, 0, "Connection timed out after 2001 milliseconds", Outcome.TIMEOUT),
        (28, 200, "Operation timed out", Outcome.TIMEOUT),
        (18, 200, "transfer closed", Outcome.CLOSED),
        (52, 0, "Empty reply from server", Outcome.CLOSED),
        (56, 0, "Recv failure: Connection reset by peer", Outcome.RESET),
        (55, 0, "Send failure: Broken pipe", Outcome.RESET),
        (56, 0, "Recv failure: Network is down", Outcome.OTHER),
        (6, 0, "Could not resolve host", Outcome.OTHER),
    ],
)
def test_every_way_for_a_request_to_end_has_its_name(
    exit_code: int, status: int, error: str, expected: Outcome
) -> None:
    assert outcome(exit_code, status, error) is expected


# What idle clients say


def test_idle_client_tells_of_requests_and_of_the_end_of_its_connection() -> None:
    lines = (
        '{"client": "idle-1", "started": 1.0, "ended": 1.5, "outcome": "ok", "status": 200, "server": "rs1", '
        '"reused": false, "port": 40001, "error": ""}',
        '{"client": "idle-1", "event": "reset", "time": 9.0, "port": 40001}',
        "Traceback (most recent call last):",
    )
    found = Clients("idle", Kind.IDLE, 1, FakeProgram(*lines)).read()
    assert found == [
        Request("idle-1", 1.0, 1.5, Outcome.OK, 200, "rs1", False, 40001),
        Ended("idle-1", "reset", 9.0, 40001),
    ]


def test_response_is_parsed_when_it_is_whole_and_not_before() -> None:
    response = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4\r\n\r\nrs1\n"
    for length in range(len(response)):
        assert connections.parse(response[:length]) is None
    assert connections.parse(response) == (200, "rs1")


def test_error_response_names_no_server() -> None:
    assert connections.parse(b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n") == (404, "")


@pytest.mark.parametrize(
    "response",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
)
def test_what_is_no_response_with_a_length_is_refused(response: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is int()'s in one case
        connections.parse(response)
