"""The terminal's timeline tells the story of a run."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from netns.record.recording import Outcome, Recording, Request
from netns.report import timeline
from tests import recordings


def told(recording: Recording, width: int = 200) -> list[str]:
    console = Console(width=width, record=True, file=StringIO(), color_system=None)
    timeline.render(recording, console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def line_with(lines: list[str], *texts: str) -> int:
    found = [number for number, line in enumerate(lines) if all(text in line for text in texts)]
    assert found, f"no line has {texts} in:\n" + "\n".join(lines)
    return found[0]


def test_the_trap_is_told_in_the_order_in_which_it_shuts() -> None:
    lines = told(recordings.trap())
    renamed = line_with(lines, "12.0 box s", "done", "rename health_check.html")
    suspect = line_with(lines, "16.2 box s", "box", "ACTIVE → SUSPECT", "still in the binding list")
    failed = line_with(lines, "26.2 box s", "box", "SUSPECT → FAILED", "out of the binding list")
    trapped = line_with(
        lines, "7 of 20: answered by rs2, out of the binding list, over their old connections"
    )
    assert renamed < suspect < failed < trapped
    assert line_with(lines, "13 of 20: answered by rs1, rs3 over their old connections") == trapped + 1


def test_clients_that_go_on_as_they_did_are_not_told_again() -> None:
    lines = told(recordings.trap())
    assert sum("answered by rs2" in line for line in lines) == 1
    counts = [int(line.split()[0].replace(",", "")) for line in lines if line.endswith("none lost")]
    assert sum(counts) == len(recordings.trap().requests)


def test_hanging_clients_wait_then_time_out_then_are_answered_elsewhere() -> None:
    lines = told(recordings.vip_down())
    waiting = line_with(lines, "7 of 20: waiting for an answer that does not come")
    timed_out = line_with(lines, "7 of 20: timed out, then answered by rs3 over a new connection")
    assert line_with(lines, "ip addr del") < waiting < timed_out
    line_with(lines, "7 lost: 7 timed out")


def test_of_a_client_that_shows_no_connection_it_is_not_said_which_answered() -> None:
    sent = tuple(Request("java-1", time, time + 0.1, Outcome.OK, 200, "rs1", None, 0) for time in (1.0, 2.0))
    lines = told(replace(recordings.trap(), requests=sent))
    assert lines[line_with(lines, "all 1: answered by")].endswith("answered by rs1")


def test_a_reset_tells_its_sessions_and_what_the_server_is_left_with() -> None:
    lines = told(recordings.reset_on_port_fail())
    line_with(lines, "rs2: 7 sessions reset (port fail) with 7 RSTs in 0.06 box s")
    line_with(lines, "rs2: 0 sessions in the box's table; in its kernel 7 ESTAB, 7 of them zombies")


def test_clients_without_keep_alive_are_told_of_in_one_line() -> None:
    requests = tuple(
        Request("curl-new-1", at, at + 0.01, Outcome.OK, 200, f"rs{at % 3 + 1}", False, 50000 + at)
        for at in range(30)
    )
    lines = told(replace(recordings.trap(), requests=requests, steps=(), events=()))
    line_with(lines, "all 1: answered by rs1 and rs2 and rs3, a new connection for each request")


@pytest.mark.parametrize("make", [recordings.trap, recordings.vip_down, recordings.recommended_l7])
@pytest.mark.parametrize("width", [80, 120])
def test_the_story_is_short_and_fits(make: recordings.Maker, width: int) -> None:
    lines = told(make(), width)
    assert len(lines) <= 45
    assert max(map(len, lines)) <= width


def test_every_expectation_has_its_verdict_and_its_figure() -> None:
    lines = told(recordings.vip_down())
    line_with(lines, "met", "clients of rs2 hang until their own timeout: 5.0 s")
    line_with(lines, "NOT MET", "no request is lost: 7 lost")
    assert lines[-1] == "FAILED"


def test_what_looks_like_markup_is_told_as_it_is() -> None:
    recording = recordings.trap()
    step = replace(recording.steps[0], text="[bold]rename[/] [/oops]")
    line_with(told(replace(recording, steps=(step,))), "[bold]rename[/] [/oops]")


def test_a_run_in_which_nothing_happened_is_told_too() -> None:
    empty = replace(
        recordings.trap(), steps=(), events=(), requests=(), samples=(), expectations=(), ended=0.0
    )
    line_with(told(empty), "No request was sent.")
