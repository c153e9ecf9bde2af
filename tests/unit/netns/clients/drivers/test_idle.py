"""Idle clients: the responses that they read."""

from __future__ import annotations

import pytest

from netns.clients.drivers.idle import parse


def test_response_is_parsed_when_it_is_whole_and_not_before() -> None:
    response = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4\r\n\r\nrs1\n"
    for length in range(len(response)):
        assert parse(response[:length]) is None
    assert parse(response) == (200, "rs1")


def test_error_response_names_no_server() -> None:
    assert parse(b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n") == (404, "")


@pytest.mark.parametrize(
    "response",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
)
def test_what_is_no_response_with_a_length_is_refused(response: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is int()'s in one case
        parse(response)
