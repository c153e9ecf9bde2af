"""What was measured of clients, as a table: on a terminal, and in docs/clients.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netns.measure.clients import OwnTime, Row
from netns.measure.deaths import Ending
from netns.record.recording import Outcome

COLUMNS: Final = {
    Ending.RST_IDLE: "RST while idle",
    Ending.FIN_IDLE: "FIN while idle",
    Ending.RST_BUSY: "RST, request in flight",
    Ending.FIN_BUSY: "FIN, request in flight",
    Ending.BLACK_HOLE: "black hole",
}
OWN: Final = "its own patience"


def cell(row: Row) -> str:
    """What the caller saw: "answered, by a retry", "**lost**: reset, not retried", …"""
    if row.outcome is Outcome.OK:
        if row.attempts == 1:
            return "answered, on a new connection" if row.new_connection else "answered"
        tries = "a retry" if row.attempts == 2 else f"{row.attempts - 1} retries"
        after = f" after {row.took_s:.1f} s" if row.ending is Ending.BLACK_HOLE else ""
        return f"answered, by {tries}{after}"
    if row.outcome is Outcome.TIMEOUT:
        return f"**lost**: timed out after {row.took_s:.1f} s"
    tried = "not retried" if row.attempts == 1 else f"retried {row.attempts - 1} times"
    return f"**lost**: {row.outcome.value}, {tried}"


def own(times: Sequence[OwnTime], kind: str, method: str) -> str:
    """How long the library waits when nobody sets it a time."""
    for one in times:
        if (one.kind, one.method) == (kind, method):
            return f"over {one.took_s:.0f} s" if one.outcome is None else f"{one.took_s:.1f} s"
    return "–"


def lines(rows: Sequence[Row], times: Sequence[OwnTime]) -> list[list[str]]:
    """A line for each kind and method: kind and version, method, a cell for each ending, its patience."""
    found = []
    for kind, version, method in dict.fromkeys((row.kind, row.version, row.method) for row in rows):
        cells = {row.ending: cell(row) for row in rows if (row.kind, row.method) == (kind, method)}
        found.append(
            [f"{kind} {version}", method, *(cells[ending] for ending in COLUMNS), own(times, kind, method)]
        )
    return found


def header() -> list[str]:
    return ["client", "method", *COLUMNS.values(), OWN]


def markdown(rows: Sequence[Row], times: Sequence[OwnTime]) -> str:
    """The table of docs/clients.md."""
    table = [header(), ["---"] * len(header()), *lines(rows, times)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)
