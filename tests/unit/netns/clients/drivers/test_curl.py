"""curl: how it is started, and what its own words mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns.clients.drivers.curl import LARGE_RATE, ON_DEMAND, Words, command, outcome
from netns.clients.group import LARGE_BYTES
from netns.clients.spec import LIFETIME_S, ClientSpec
from netns.record.recording import Outcome, Request

ORDER = ClientSpec("192.0.2.10", 80, "curl", rate=10)


def heard(*lines: str, kind: str = "curl") -> list[Request]:
    """The requests that curls tell of: a line is "NUMBER TIME TEXT"; URL stands for one of the client's."""
    words, found = Words(kind), []
    for line in lines:
        number, now, text = line.split(" ", 2)
        text = text.replace("URL", f"http://192.0.2.10:80/?curl-{number}.1")
        request = words.heard(f"curl-{number}", text, float(now))
        found += [request] if request else []
    return found


# How it is started


def test_keep_alive_curl_asks_serially_at_a_rate_and_ends_by_itself() -> None:
    argv = command("curl", ORDER, "curl-3")
    assert argv[argv.index("--rate") + 1] == "10/s"
    assert argv[argv.index("--max-time") + 1] == "2"
    assert argv[-1] == f"http://192.0.2.10:80/?curl-3.[1-{10 * LIFETIME_S}]"
    assert "--fail-early" not in argv  # a lost request must not be the client's last
    assert "Connection: close" not in argv


@pytest.mark.parametrize(("rate", "words"), [(1, "1/s"), (0.5, "1800/h"), (0.0001, "1/h"), (2.5, "9000/h")])
def test_rate_is_said_in_whole_numbers_of_a_second_or_an_hour(rate: float, words: str) -> None:
    argv = command("curl", ClientSpec("192.0.2.10", 80, "curl", rate=rate), "curl-1")
    assert argv[argv.index("--rate") + 1] == words


def test_curl_that_posts_has_a_body_and_the_others_have_none() -> None:
    assert "--data-raw" in command("curl-post", ORDER, "curl-post-1")
    assert "--data-raw" not in command("curl", ORDER, "curl-1")


def test_new_connection_curl_asks_the_server_to_close_each() -> None:
    assert "Connection: close" in command("curl-new", ORDER, "curl-new-1")


def test_download_is_slow_and_has_all_the_time() -> None:
    argv = command("curl-download", ORDER, "curl-download-1")
    assert argv[argv.index("--limit-rate") + 1] == str(LARGE_RATE)
    assert argv[argv.index("--max-time") + 1] == str(LIFETIME_S)
    assert LARGE_BYTES / LARGE_RATE > 60


def test_curl_on_demand_waits_at_its_gate_before_every_request() -> None:
    argv = command("curl", ORDER, "curl-2", Path("/run/gate"))
    asked = [f"http://192.0.2.10:80/?curl-2.{n}" for n in range(1, ON_DEMAND + 1)]
    assert argv[-2 * ON_DEMAND :: 2] == ["file:///run/gate"] * ON_DEMAND
    assert argv[-2 * ON_DEMAND + 1 :: 2] == asked
    assert "--rate" not in argv


def test_longest_time_of_nought_leaves_curl_its_own() -> None:
    assert "--max-time" not in command("curl", ClientSpec("192.0.2.10", 80, "curl", max_time_s=0), "curl-1")


# What it says


def test_request_is_its_page_and_the_line_after_it() -> None:
    (request,) = heard("1 100.25 rs2", "1 100.25 the new release", "1 100.25 = 0 200 1 40001 0.25 URL ")
    wanted = Request("curl-1", 100.0, 100.25, Outcome.OK, 200, "rs2", False, 40001, id="curl-1.1")
    assert request == wanted


def test_request_over_the_connection_that_was_there_is_reused() -> None:
    _, second = heard(
        "1 5.0 rs1", "1 5.0 = 0 200 1 40001 0.1 URL ", "1 6.0 rs1", "1 6.0 = 0 200 0 40001 0.1 URL "
    )
    assert second.reused


def test_posts_are_told_of_as_posts() -> None:
    (request,) = heard("1 5.0 rs1", "1 5.0 = 0 200 1 40001 0.1 URL ", kind="curl-post")
    assert request.method == "POST"


def test_pages_of_two_clients_are_told_apart() -> None:
    found = heard(
        "1 5.0 rs1", "2 5.0 rs2", "2 5.1 = 0 200 1 40002 0.1 URL ", "1 5.1 = 0 200 1 40001 0.1 URL "
    )
    assert [(one.client, one.server) for one in found] == [("curl-2", "rs2"), ("curl-1", "rs1")]


def test_page_that_came_in_part_belongs_to_no_later_request() -> None:
    cut, whole = heard(
        "1 5.0 rs1",
        "1 5.0 = 18 200 1 40001 0.1 URL transfer closed with 3 bytes remaining to read",
        "1 6.0 rs3",
        "1 6.0 = 0 200 1 40002 0.1 URL ",
    )
    assert (cut.outcome, cut.server) == (Outcome.CLOSED, "")
    assert whole.server == "rs3"


def test_error_page_names_no_server() -> None:
    (request,) = heard("1 5.0 <html>", "1 5.0 = 0 404 1 40001 0.1 URL ")
    assert (request.outcome, request.status, request.server) == (Outcome.HTTP_ERROR, 404, "")


def test_request_that_got_no_connection_has_no_port_and_reused_none() -> None:
    said = "Failed to connect: Couldn't connect to server"
    (request,) = heard(f"1 5.0 = 7 000 0 0 0.001 URL {said}")
    assert (request.outcome, request.local_port, request.reused) == (Outcome.REFUSED, 0, False)
    assert request.error == said


def test_passing_the_gate_is_no_request() -> None:
    assert heard("1 5.0 = 28 000 0 0 9.0 file:///run/gate Operation timed out") == []


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
