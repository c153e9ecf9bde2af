"""Which outcome an exception of a Python library is, by the types and error numbers of what caused it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from http.client import IncompleteRead, RemoteDisconnected

from netns.record.recording import Outcome

Types = tuple[type[BaseException], ...]

_CLOSED: Types = (RemoteDisconnected, IncompleteRead, EOFError)
"""RemoteDisconnected is a ConnectionResetError, and yet what a FIN is told as: these come first."""


def outcome(error: BaseException, *, closed: Types = (), timeout: Types = ()) -> Outcome:
    """Of a request that ended with `error`; `closed` and `timeout` are the library's own types of those."""
    causes = list(_causes(error))
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    if caused_by(ConnectionRefusedError) or errno.ECONNREFUSED in numbers:
        return Outcome.REFUSED
    if caused_by(*_CLOSED, *closed):
        return Outcome.CLOSED
    if caused_by(ConnectionResetError, BrokenPipeError) or numbers & {errno.ECONNRESET, errno.EPIPE}:
        return Outcome.RESET
    if caused_by(TimeoutError, *timeout) or errno.ETIMEDOUT in numbers:
        return Outcome.TIMEOUT
    return Outcome.OTHER


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of. Its context is left out: that may be an earlier attempt's."""
    yield error
    for part in (error.__cause__, getattr(error, "reason", None), *error.args):
        if isinstance(part, BaseException):
            yield from _causes(part)
