"""The status of an answer, whatever else is odd about it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.linux.status_line import NotHttp, final_status

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"

ANSWERS = {
    "everyday": (OK + LENGTH + b"\r\nok", 200),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nok", 200),
    "empty reason": (b"HTTP/1.1 200 \r\n" + LENGTH + b"\r\nok", 200),
    "reason with digits and colon": (b"HTTP/1.1 200 404: none\r\n\r\n", 200),
    "reason in Latin-1": (b"HTTP/1.1 404 Page non trouv\xe9e\r\n\r\n", 404),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", 200),
    "HTTP/1 without a minor version": (b"HTTP/1 200 OK\r\n\r\nok", 200),
    "two spaces before the status": (b"HTTP/1.1  200  OK\r\n\r\n", 200),
    "LF alone ends lines": (b"HTTP/1.0 200 OK\nServer: old\n\nok", 200),
    "LF alone ends the head": (OK + b"Server: old\r\n\nok", 200),
    "the same length twice": (OK + LENGTH + LENGTH + b"\r\nok", 200),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
    "gzip": (OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00", 200),
    "empty field value": (OK + b"Server:\r\n" + LENGTH + b"\r\nok", 200),
    "space before the colon": (OK + b"X-Old : 1\r\n" + LENGTH + b"\r\nok", 200),
    "line without a colon": (OK + b"no colon here\r\n" + LENGTH + b"\r\nok", 200),
    "folded field": (OK + b"X-Policy: a;\r\n  b;\r\n" + LENGTH + b"\r\nok", 200),
    "field in Latin-1": (OK + b"X-Name: caf\xe9\r\n" + LENGTH + b"\r\nok", 200),
    "field with a NUL": (OK + b"X-Name: \0\r\n\r\n", 200),
    "head of 20 kB": (OK + b"Set-Cookie: c=" + b"x" * 20_000 + b"\r\n\r\nok", 200),
    "head that does not end": (OK + b"Half: a he", 200),
    "status line alone": (OK, 200),
    "103 first": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + OK + b"\r\n", 200),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n", 200),
    "100 and 103 first": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nodd\r\n\r\n" + OK, 200),
    "100 in lines that LF ends": (b"HTTP/1.1 100 Continue\n\nHTTP/1.1 503 Busy\n\n", 503),
    "101 is final": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    "301": (b"HTTP/1.1 301 Moved\r\nLocation: https://www.example.com/\r\n\r\n", 301),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304),
    "a status of its maker's own": (b"HTTP/1.1 999 Denied\r\n\r\n", 999),
}

every_answer = pytest.mark.parametrize(("answer", "status"), ANSWERS.values(), ids=ANSWERS.keys())


@every_answer
def test_status_line_decides_whatever_comes_after_it(answer: bytes, status: int) -> None:
    assert final_status(answer) == status


@every_answer
def test_status_is_known_with_the_end_of_its_line_and_not_before(answer: bytes, status: int) -> None:
    first = next(size for size in range(len(answer) + 1) if final_status(answer[:size]) is not None)

    assert final_status(answer[:first]) == status
    assert answer[:first].endswith(b"\n")
    assert str(status).encode() in answer[:first].splitlines()[-1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", 'not HTTP: "SSH-2.0-OpenSSH_9.2"'),
        (b"220 mail.example.com ESMTP\r\n", 'not HTTP: "220 mail.example.com ESMTP"'),
        (b"<html>no head</html>", 'not HTTP: "<html>no head</html>"'),
        (b"\x15\x03\x01\x00\x02\x02\x28", "not HTTP: binary data"),
        (b"HTTP/1.1 999999 OK\r\n", 'not HTTP: "HTTP/1.1 999999 OK"'),
        (b"HTTP/1.1 20 OK\r\n", 'not HTTP: "HTTP/1.1 20 OK"'),
        (b"HTTP/1.1 OK\r\n", 'not HTTP: "HTTP/1.1 OK"'),
        (b"HTTP/1.1 200OK\r\n", 'not HTTP: "HTTP/1.1 200OK"'),
        (b"HTTP/1.1 000 OK\r\n", 'not HTTP: "HTTP/1.1 000 OK"'),
        (b"HTTP/10.1 200 OK\r\n", 'not HTTP: "HTTP/10.1 200 OK"'),
        (b"HTTP/2 200\r\n", 'not HTTP: "HTTP/2 200"'),
        (b"\r\nHTTP/1.1 200 OK\r\n", 'not HTTP: ""'),
        (b"HTTP/1.1 100 Continue\r\n\r\nok\n", 'not HTTP: "ok"'),
        (b"x" * 1000, f'not HTTP: "{"x" * 40}"'),
    ],
)
def test_anything_else_is_not_http_and_is_quoted_in_words(answer: bytes, words: str) -> None:
    with pytest.raises(NotHttp) as caught:
        final_status(answer)

    assert str(caught.value) == words


def test_what_can_not_become_a_status_line_is_known_before_its_end() -> None:
    assert final_status(b"") is final_status(b"HTTP") is final_status(b"HTTP/1.1 2") is None
    with pytest.raises(NotHttp):
        final_status(b"HTTPS")


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda rest: b"HTTP/1.1 " + rest))
def test_no_bytes_raise_anything_else(answer: bytes) -> None:
    with suppress(NotHttp):
        status = final_status(answer)
        assert status is None or 101 <= status <= 999
