"""Measured stops as a table, and the page of the documentation that holds one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from netns.analysis.stop_pattern import Ends, Fates, StopPattern
from netns.cli.web import MEASURED
from netns.measure.servers import HealthAfterStop, Measured
from netns.measure.servers_table import COLUMNS, markdown, row
from netns.web import KINDS

PAGE = Path(__file__).parents[4] / "docs" / "web-servers.md"
NONE = Fates(finished=0, fin=0, rst=0, refused=0, hanging=0)
STOP = Measured(
    kind="gunicorn",
    version="27.0.1",
    how="graceful",
    signal="SIGTERM",
    left=0,
    pattern=StopPattern(
        server="gunicorn",
        idle=Ends(fin=8, rst=0, client=0, kept=0),
        idle_ended_s=0.024,
        in_hand=replace(NONE, finished=3),
        later=replace(NONE, finished=7, rst=1),
        new=replace(NONE, hanging=5),
        listener_gone_s=5.93,
        ended_s=6.0,
        answered_s=2.85,
        still_answers=False,
    ),
    l4=HealthAfterStop(good_s=5.6, state="FAILED"),
    l7=HealthAfterStop(good_s=None, state="FAILED"),
)


def test_row_says_what_became_of_each_connection_and_request_and_what_the_checks_said() -> None:
    assert dict(zip(COLUMNS, row(STOP), strict=True)) == {
        "server": "gunicorn 27.0.1",
        "stop": "graceful (TERM)",
        "idle connections": "closed by FIN at once",
        "requests in hand": "finished",
        "later ones, over these connections": "7 answered, 1 reset, until 2.9 s",
        "new connections": "left hanging",
        "listener gone": "after 5.9 s",
        "processes gone": "after 6.0 s",
        "L4 check": "good for 5.6 s",
        "L7 check": "bad at once",
    }


def test_what_a_killed_main_process_leaves_is_said() -> None:
    pattern = replace(STOP.pattern, ended_s=None, listener_gone_s=None, still_answers=True)
    left = replace(
        STOP, how="kill-main", left=2, pattern=pattern, l4=HealthAfterStop(good_s=9.9, state="ACTIVE")
    )
    cells = dict(zip(COLUMNS, row(left), strict=True))
    assert cells["processes gone"] == "2 left by the main one: no"
    assert cells["listener gone"] == "no"
    assert cells["later ones, over these connections"] == "7 answered, 1 reset, to the end"
    assert cells["L4 check"] == "good to the end"


def test_markdown_is_a_table_with_a_row_for_each_stop() -> None:
    lines = markdown([STOP, STOP]).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}


def test_page_has_the_table_of_every_kind_stopped_each_way() -> None:
    lines = PAGE.read_text().splitlines()
    begin = lines.index(markdown([]).splitlines()[0])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[begin + 2 :]]
    rows = rows[: rows.index([])]
    assert {len(cells) for cells in rows} == {len(COLUMNS)}
    assert [(cells[0].split()[0], cells[1].split()[0]) for cells in rows] == [
        (kind, how) for kind in KINDS for how in MEASURED
    ]
