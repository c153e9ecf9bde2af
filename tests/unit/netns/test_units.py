"""Every second that is printed says whose it is: the box's, or real."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from markupsafe import Markup
from rich.console import Console

from netns.analysis import baseline
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.stop_pattern import Ends, Fates, StopPattern
from netns.analysis.stops import Stop
from netns.analysis.sweep import Combination, Repetition, Sweep
from netns.analysis.verdict import Circumstances
from netns.plan import speeds
from netns.play import scenario
from netns.record.recording import Recording
from netns.report import timeline, verdict, write, write_sweep
from tests import recordings
from tests.unit.netns.analysis import story

SPEED = 10.0
BARE = re.compile(r"[^.;:>]{0,40}\d[ \N{NO-BREAK SPACE}]s\b(?! of real time)")
"""A number of seconds that are nobody's, and what comes before it."""


def at_speed(recording: Recording) -> Recording:
    """The recording without the words that it was given: its tests' makers wrote those."""
    return replace(recording, speed=SPEED, intent="", expectations=())


def rehearsal() -> Rehearsal:
    """A rehearsal in which all that has a time happened. What explains its losses is told by others."""
    found = story.hasty()
    deploys = tuple(replace(one, real_s=2.52, outside_s=0.31) for one in found.deploys)
    explained = tuple(replace(one, text="why") for one in found.explained)
    circumstances = Circumstances(busy="a health check began late", box_ended=99.0)
    return replace(
        found,
        recording=at_speed(found.recording),
        deploys=deploys,
        explained=explained,
        advice=(),
        circumstances=circumstances,
    )


def sweep() -> Sweep:
    return Sweep(
        ("deploy",), SPEED, (Combination({"retries": 1}, 10.0, 20.0, (Repetition.of(rehearsal(), 0.5),)),)
    )


def printed(show: Callable[[Console], None]) -> str:
    console = Console(width=300, record=True, file=StringIO(), color_system=None)
    show(console)
    return console.export_text()


def page(path: Path) -> str:
    """What a reader of the page can read, tips included."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<(style|script|pre)\b.*?</\1>", "", text, flags=re.DOTALL)
    tips = " > ".join(re.findall(r'(?:data-tip|aria-label)="([^"]*)"', text))
    return Markup(f"{text} > {tips}").unescape()


def assert_all_say_whose_they_are(text: str) -> None:
    assert re.search(r"\d[ \N{NO-BREAK SPACE}]box[ \N{NO-BREAK SPACE}]s\b", text)
    assert BARE.findall(text.replace(speeds.in_words(SPEED), "")) == []


@pytest.mark.parametrize("make", recordings.MAKERS)
def test_no_time_of_a_timeline_or_of_its_page_is_in_seconds_that_are_nobodys(
    make: recordings.Maker, tmp_path: Path
) -> None:
    recording = at_speed(make())
    assert_all_say_whose_they_are(printed(lambda console: timeline.render(recording, console)))
    assert_all_say_whose_they_are(page(write(recording, tmp_path)))


def test_no_time_of_a_rehearsals_verdict_or_of_its_page_is_in_seconds_that_are_nobodys(
    tmp_path: Path,
) -> None:
    found = rehearsal()
    assert_all_say_whose_they_are(printed(lambda console: verdict.render(found, console)))
    assert_all_say_whose_they_are(page(write(found.recording, tmp_path, found)))


def test_no_time_of_a_sweep_or_of_its_page_is_in_seconds_that_are_nobodys(tmp_path: Path) -> None:
    swept = sweep()
    assert_all_say_whose_they_are(printed(lambda console: verdict.render_sweep(swept, console)))
    assert_all_say_whose_they_are(page(write_sweep(swept, tmp_path)))


def test_times_of_a_stop_are_under_a_heading_that_calls_them_real() -> None:
    none = Fates(finished=0, fin=0, rst=0, refused=0, hanging=0)
    pattern = StopPattern(
        server="rs2",
        idle=Ends(fin=2, rst=0, client=0, kept=0),
        idle_ended_s=2.0,
        in_hand=none,
        later=none,
        new=none,
        listener_gone_s=0.2,
        ended_s=2.1,
        answered_s=None,
        still_answers=None,
    )
    found = replace(rehearsal(), stops=(Stop("rs2", "nginx", 27.0, "", pattern),))
    text = printed(lambda console: verdict.render(found, console))
    assert "How the servers stopped, in real time" in text
    assert "the last after 2.0 s" in text


def test_speed_in_force_is_said_once_in_a_timeline_a_verdict_and_a_sweep() -> None:
    for text in (
        printed(lambda console: timeline.render(at_speed(recordings.trap()), console)),
        printed(lambda console: verdict.render(rehearsal(), console)),
        printed(lambda console: verdict.render_sweep(sweep(), console)),
    ):
        assert text.count("10 box s pass in 1 s of real time") == 1


def texts(path: Path) -> Iterator[str]:
    """The strings of a source file, each value in an f-string as a 0."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_no_scenario_and_nothing_said_during_a_run_is_in_seconds_that_are_nobodys() -> None:
    netns = scenario.FOLDER.parent
    files = [path for room in ("scenarios", "play", "rehearsal") for path in (netns / room).glob("*.py")]
    assert len(files) > 20
    found = {
        path.name: bare
        for path in (*files, Path(baseline.__file__))
        for text in texts(path)
        if (bare := BARE.findall(text))
    }
    assert found == {}
