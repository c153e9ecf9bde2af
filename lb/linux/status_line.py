"""Reads the status of an HTTP/1.x response, and nothing else of it (RFC 9112 §4).

A box's health check looks at the status line. h11 reads the whole head, and refuses a response for a header
field that is too long or malformed; browsers and proxies take the same response.
"""

from __future__ import annotations

import re
from typing import Final

_VERSION: Final = b"HTTP/1"
_STATUS_LINE: Final = re.compile(rb"HTTP/1(?:\.\d)?[ \t]+([1-9]\d\d)(?:[ \t].*)?\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_SWITCHING_PROTOCOLS: Final = 101
_QUOTED: Final = 40


class NotHttp(Exception):
    """The bytes are not the beginning of an HTTP/1.x response; the message quotes them."""


def final_status(received: bytes) -> int | None:
    """The status of the first response that is not interim, or None while its status line is incomplete.

    100 to 199 are interim, except 101 (RFC 9110 §15.2). Raises NotHttp as soon as the bytes can't become a
    status line.
    """
    start = 0
    while True:
        end = received.find(b"\n", start)
        line = received[start : end + 1 or None]
        if line[: len(_VERSION)] != _VERSION[: len(line)]:
            raise NotHttp(_in_words(line))
        if end < 0:
            return None
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise NotHttp(_in_words(line))
        status = int(found[1])
        if status >= 200 or status == _SWITCHING_PROTOCOLS:
            return status
        head_ends = _END_OF_HEAD.search(received, end)
        if head_ends is None:
            return None
        start = head_ends.end()


def _in_words(line: bytes) -> str:
    text = line.rstrip(b"\r\n")[:_QUOTED].decode("ascii", "replace")
    return f'not HTTP: "{text}"' if text.isascii() and text.isprintable() else "not HTTP: binary data"
