"""What the exceptions of Python's libraries mean, made as those libraries make them."""

from __future__ import annotations

import errno
from http.client import IncompleteRead, RemoteDisconnected

import pytest
import requests
import urllib3
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from netns.clients.drivers.outcomes import outcome
from netns.record.recording import Outcome

RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
GONE = RemoteDisconnected("Remote end closed connection without response")
POOL = urllib3.HTTPConnectionPool("192.0.2.10")


def made_of(cause: BaseException, error: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RESET, Outcome.RESET),
        (ProtocolError("Connection aborted.", RESET), Outcome.RESET),
        (ProtocolError("Connection aborted.", BrokenPipeError(errno.EPIPE, "Broken pipe")), Outcome.RESET),
        (ProtocolError("Connection aborted.", GONE), Outcome.CLOSED),
        (ProtocolError("Connection broken", IncompleteRead(b"rs", 2)), Outcome.CLOSED),
        (requests.ConnectionError(ProtocolError("Connection aborted.", GONE)), Outcome.CLOSED),
        (made_of(REFUSED, OSError("failed")), Outcome.REFUSED),
        (OSError(errno.ECONNREFUSED, "Connect call failed"), Outcome.REFUSED),
        (OSError(errno.EHOSTUNREACH, "No route to host"), Outcome.OTHER),
        (TimeoutError("timed out"), Outcome.TIMEOUT),
        (ValueError("no such thing"), Outcome.OTHER),
    ],
)
def test_outcome_is_that_of_what_caused_the_error(error: BaseException, expected: Outcome) -> None:
    assert outcome(error) is expected


def test_reason_that_urllib3_gave_up_for_is_the_last_attempts() -> None:
    last = made_of(REFUSED, NewConnectionError(POOL, "failed to establish a new connection"))
    last.__context__ = ProtocolError("Connection aborted.", RESET)  # the first attempt's
    assert outcome(MaxRetryError(POOL, "/", last)) is Outcome.REFUSED


def test_librarys_own_timeout_is_a_timeout() -> None:
    error = ReadTimeoutError(POOL, "/", "Read timed out.")
    assert outcome(error) is Outcome.OTHER
    assert outcome(error, timeout=(urllib3.exceptions.TimeoutError,)) is Outcome.TIMEOUT
