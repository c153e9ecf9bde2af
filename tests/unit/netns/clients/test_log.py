"""What drivers log, and how a group of clients reads it."""

from __future__ import annotations

import json

import pytest

from netns.clients import log
from netns.clients.group import Clients
from netns.clients.kinds import KINDS
from netns.clients.log import Ended, Volume
from netns.lab.program import Program
from netns.record.recording import Outcome, Request

POST = Request("urllib3-1", 1.0, 1.5, Outcome.RESET, 0, "", True, 40001, "gone", "POST", "urllib3-1.4")
HIDDEN = Request("java-1", 1.0, 1.5, Outcome.OK, 200, "rs1", None, 0, "", "GET", "java-1.1")


class FakeProgram(Program):
    """A program whose lines are given."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def lines(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


@pytest.mark.parametrize("request_", [POST, HIDDEN])
def test_request_is_read_as_it_was_logged(
    request_: Request, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log.write(request_)
    written = capfdbinary.readouterr().out.decode()
    assert written.count("\n") == 1
    assert log.parse(written) == request_


def test_end_of_a_connection_is_read_as_it_was_logged(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    end = Ended("idle-1", "reset", 9.0, 40001)
    log.write_end(end)
    assert log.parse(capfdbinary.readouterr().out.decode()) == end


def test_sum_of_what_wrk_did_is_read_as_it_was_logged(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    volume = Volume("wrk", 1200, 9.5, 1, 2, 3, 4, 5)
    log.write_sum(volume)
    assert log.parse(capfdbinary.readouterr().out.decode()) == volume


def test_what_is_no_log_is_kept_to_be_shown(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log.write(POST)
    logged = capfdbinary.readouterr().out.decode()
    other = ["Traceback (most recent call last):", "[1]", '"text"', json.dumps({"client": "curl-1"}), ""]
    group = Clients("urllib3", KINDS["urllib3"], 1, FakeProgram(*other, logged))
    assert group.read() == [POST]
    assert group.unread == other
