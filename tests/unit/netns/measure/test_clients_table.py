"""What was measured of clients, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netns.measure.clients import OwnTime, Row
from netns.measure.clients_table import cell, header, lines, markdown, own
from netns.measure.deaths import BYSTANDER, Ending, ending_of
from netns.record.recording import Outcome

ROW = Row(
    kind="urllib3",
    version="2.8.0",
    method="GET",
    ending=Ending.RST_BUSY,
    outcome=Outcome.OK,
    error="",
    attempts=1,
    received=1,
    new_connection=False,
    took_s=0.1,
    next=Outcome.OK,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "answered"),
        ({"new_connection": True}, "answered, on a new connection"),
        ({"attempts": 2, "new_connection": True}, "answered, by a retry"),
        ({"attempts": 4, "new_connection": True}, "answered, by 3 retries"),
        ({"outcome": Outcome.TIMEOUT, "took_s": 2.004}, "**lost**: timed out after 2.0 s"),
        ({"ending": Ending.BLACK_HOLE, "attempts": 2, "took_s": 2.004}, "answered, by a retry after 2.0 s"),
        ({"outcome": Outcome.RESET}, "**lost**: reset, not retried"),
        ({"outcome": Outcome.CLOSED, "attempts": 3}, "**lost**: closed, retried 2 times"),
    ],
)
def test_cell_says_what_the_caller_saw(changes: dict[str, object], said: str) -> None:
    assert cell(replace(ROW, **changes)) == said  # type: ignore[arg-type]


def test_patience_of_who_was_still_waiting_is_a_bound() -> None:
    times = [
        OwnTime("httpx", "GET", Outcome.TIMEOUT, "ReadTimeout", 5.004),
        OwnTime("curl", "GET", None, "", 10.0),
    ]
    assert own(times, "httpx", "GET") == "5.0 s"
    assert own(times, "curl", "GET") == "over 10 s"
    assert own(times, "curl", "POST") == "–"


def test_table_has_a_line_for_each_kind_and_method_and_a_cell_for_each_ending() -> None:
    rows = [replace(ROW, method=method, ending=ending) for method in ("GET", "POST") for ending in Ending]
    assert [line[:2] for line in lines(rows, [])] == [["urllib3 2.8.0", "GET"], ["urllib3 2.8.0", "POST"]]
    assert {len(line) for line in lines(rows, [])} == {len(header())} == {2 + len(Ending) + 1}
    assert markdown(rows, []).count("\n") == 4


def test_every_client_but_the_bystander_has_an_ending_and_they_come_in_turn() -> None:
    found = [ending_of(BYSTANDER + 1 + number) for number in range(2 * len(Ending))]
    assert found == [*Ending, *Ending]
