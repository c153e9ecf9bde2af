"""The engine without a lab: what scenarios there are, what a run waits for, records and judges."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from lb.client import BoxError
from lb.config import parse
from netns.cli.scenario import scenario as command
from netns.errors import LabError
from netns.lab.interface import Recorder, Say, quiet
from netns.namespaces.lab import NamespaceLab
from netns.observe.box import BoxWatch
from netns.plan.config import LabConfig
from netns.plan.topology import plan
from netns.play import run as run_module
from netns.play.begun import Beginning
from netns.play.clock import RunClock
from netns.play.run import GaveUp, Run, begin
from netns.play.scenario import Scenario, discover, load, play

SPEED = 100.0

SMALL = '''"""Nothing happens.

It shows that nothing does.
"""
SETTINGS = {"stop": ("quit", "term"), "aging_s": 120.0}
CLIENTS = "curl:2"

def lab(settings):
    return {"virtual_server": [{"aging_s": settings["aging_s"]}]}

def play(run):
    run.expect("nothing happens", True, "0 things")
'''


class FakeBox:
    """The box's API as far as a run that only waits and looks needs it."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def stats(self) -> dict[str, Any]:
        return {"box_time": 1000 + (time.monotonic() - self.began) * SPEED, "last_event": 0}

    def servers(self) -> list[dict[str, Any]]:
        return [{"name": "rs2", "virtual_server": "web", "next_check_in_s": 4.0}]


class FakeLab:
    def __init__(self) -> None:
        self.config = parse(LabConfig, {"name": "fake", "speed": SPEED}, "test")
        self.plan = plan(self.config)
        self.box = FakeBox()


class FakeWatch:
    """A watch that has seen what the test says."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.failed = False

    def check(self) -> None:
        pass

    def catch_up(self, _: int) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def saw(self, at: float, **event: object) -> None:
        known = {"kind": "server_state", "virtual_server": "web"}
        self.events.append({"box_time": 1000 + at, **known, **event})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watch() -> FakeWatch:
    return FakeWatch()


def beginning(lab: NamespaceLab, watch: FakeWatch, say: Say = quiet) -> Beginning:
    clock = RunClock.start(lab)
    return Beginning(lab, {}, say, {}, datetime.now(UTC), {}, clock, {}, cast(BoxWatch, watch))


@pytest.fixture
def run(said: list[str], watch: FakeWatch, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run in a lab that is not there, at speed 100: one box second is 10 ms."""
    monkeypatch.setattr(run_module, "GRACE_S", 0.0)
    lab = cast(NamespaceLab, FakeLab())
    return Run(beginning(lab, watch, say=said.append), clients=[], seed=7, held=ExitStack())


def small(folder: Path, name: str = "nothing_at_all.py", text: str = SMALL) -> Path:
    path = folder / name
    path.write_text(text)
    return path


# What scenarios there are


def test_the_nine_scenarios_are_there_each_with_a_title_and_an_intent() -> None:
    found = discover()
    assert found.keys() == {
        "health-file-only",
        "vip-down",
        "reset-on-port-fail",
        "recommended-l7",
        "recommended-l4",
        "mass-failure",
        "half-closed-client",
        "port-reuse",
        "green-but-black",
    }
    assert all(one.title and one.intent and "\n" not in one.title for one in found.values())


def test_every_scenarios_lab_is_a_valid_configuration() -> None:
    for one in discover().values():
        config = parse(LabConfig, {"name": "x", "speed": 20, **one.lab(one.defaults())}, one.name)
        assert config.box_config().virtual_server


def test_file_in_the_folder_is_a_scenario_without_any_other_change(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "_private.py").write_text("")
    (found,) = discover(tmp_path).values()
    assert (found.name, found.title) == ("nothing-at-all", "Nothing happens")
    assert found.intent == "It shows that nothing does."
    assert found.clients == "curl:2"


def test_file_without_a_docstring_or_a_play_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="it needs a docstring and play"):
        load(small(tmp_path, text='"""Title."""\n'))
    with pytest.raises(LabError, match="is no scenario"):
        load(tmp_path / "missing.py")


# Settings


@pytest.fixture
def nothing(tmp_path: Path) -> Scenario:
    return load(small(tmp_path))


def test_settings_given_are_put_over_the_defaults(nothing: Scenario) -> None:
    assert nothing.chosen({}) == {"stop": "quit", "aging_s": 120.0}
    assert nothing.chosen({"stop": "term", "aging_s": "600"}) == {"stop": "term", "aging_s": 600.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stop": "pull the plug"}, "stop = 'pull the plug': quit, term is allowed"),
        ({"aging_s": "long"}, "aging_s = 'long': a number is allowed"),
        ({"speed": "3"}, "nothing-at-all has no setting 'speed': stop, aging_s"),
    ],
)
def test_setting_that_makes_no_sense_is_refused_with_what_is_allowed(
    nothing: Scenario, given: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nothing.chosen(given)


def test_mistake_in_what_is_asked_for_is_found_before_anything_is_made(nothing: Scenario) -> None:
    for wrong in ({"clients": "wget:1"}, {"given": {"stop": "x"}}):
        with pytest.raises(ValueError, match="allowed"):
            play(nothing, seed=1, say=lambda _: None, **cast(Any, wrong))


# Time


def test_runs_time_is_the_boxs_whatever_clock_it_comes_from(run: Run) -> None:
    now = time.monotonic()
    wall = time.time()
    assert run.clock.monotonic(now + 1) - run.clock.monotonic(now) == pytest.approx(SPEED)
    assert run.clock.unix(wall) == pytest.approx(run.clock.monotonic(now), abs=1)
    assert run.clock.box(1000 + run.now()) == pytest.approx(run.now(), abs=1)


# Waiting


def test_wait_ends_when_its_condition_holds(run: Run) -> None:
    began = run.now()
    run.wait_until("a while is over", lambda: run.now() > began + 5, within_s=1000)
    assert run.now() - began < 100
    assert run.expectations == []


def test_wait_that_takes_too_long_is_an_expectation_that_failed(run: Run) -> None:
    with pytest.raises(GaveUp):
        run.wait_until("rs2 is FAILED", lambda: False, within_s=3)
    (failed,) = run.expectations
    assert (failed.text, failed.passed, failed.measured) == ("rs2 is FAILED", False, "not within 3 box s")


def test_state_is_that_of_the_first_change_since_the_step_not_of_one_before(
    run: Run, watch: FakeWatch
) -> None:
    watch.saw(2.0, server="rs2", new="FAILED")
    watch.saw(9.0, server="rs1", new="FAILED")
    watch.saw(11.0, server="rs2", new="SUSPECT")
    watch.saw(14.2, server="rs2", new="FAILED")
    watch.saw(34.2, server="rs2", new="FAILED")
    found = run.wait_for_state("rs2", "FAILED", within_s=5, since=10)
    assert found == pytest.approx(14.2 + 1000 - run.clock.box_s)


def test_random_phase_is_the_seeds_and_is_counted_from_a_health_check(run: Run, said: list[str]) -> None:
    phase_s = random.Random(7).uniform(0, 10)
    wait_s = (phase_s - 6) % 10  # the next check is 4 s away: the last was 6 s ago
    began = run.now()
    run.wait_for_random_phase("rs2")
    assert run.now() - began >= wait_s
    assert f"… {wait_s:.1f} box s to be {phase_s:.1f} box s after a health check of rs2" in said[-1]
    assert run.figures == {"seed": 7, "phase after a health check, box s": round(phase_s, 1)}


# Ending


def test_captures_end_although_the_box_does_not_say_what_its_last_event_was(
    watch: FakeWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, over = cast(NamespaceLab, FakeLab()), threading.Event()
    monkeypatch.setattr(Beginning, "now", lambda lab, *_: beginning(lab, watch))

    def has_ended() -> dict[str, Any]:
        raise BoxError("no such socket")

    class Capture(AbstractContextManager["Capture"]):
        def __exit__(self, *_: object) -> None:
            over.set()

    captures = {"client": cast(Recorder, Capture())}
    with (
        pytest.raises(BoxError),
        begin(lab, {}, clients=[], say=quiet, seed=7, captures=captures),
    ):
        monkeypatch.setattr(lab.box, "stats", has_ended)
    assert over.is_set()


# Judging


def test_expectation_comes_with_the_figure_behind_it(run: Run, said: list[str]) -> None:
    run.expect_between("rs2 is FAILED after its health file was renamed", 14.23, 10, 20)
    (judged,) = run.expectations
    assert judged.passed
    assert judged.measured.startswith("14.2 box s; allowed 10–20 box s")
    assert "14.2 box s" in said[-1]


def test_state_that_was_found_comes_with_what_the_checks_said_meanwhile(run: Run, watch: FakeWatch) -> None:
    for at, detail in ((3.0, "200"), (13.0, "404"), (23.0, "404"), (43.0, "200")):
        watch.saw(at, kind="probe", server="rs2", detail=detail)
    run.expect_found("rs2", "FAILED", "its health file was renamed", (8.8, 8.9), 23.0, 10, 20)
    assert run.expectations[0].text == "rs2 is FAILED after its health file was renamed"
    assert run.expectations[0].measured.startswith("14.2 box s (checks: 404, 404); allowed 10–20 box s")


@pytest.mark.parametrize(("found", "passed"), [(10.0, False), (16.0, True), (35.0, True), (41.0, False)])
def test_act_that_took_long_may_have_had_its_effect_at_any_time_of_it(
    run: Run, found: float, passed: bool
) -> None:
    assert run.slack_s == 5.0
    run.expect_found("rs2", "FAILED", "its lo:0 was taken down", (5.0, 12.0), found, 11, 21)
    assert run.expectations[0].passed is passed
    assert "of which the act itself took 7.0 box s" in run.expectations[0].measured


def test_act_is_dated_by_its_beginning_as_nothing_that_comes_of_it_is_earlier(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: list[float] = []
    monkeypatch.setattr(run.lab, "vip_down", lambda _: took.append(run.now()), raising=False)
    began, ended = run.vip_down("rs2")
    assert began <= took[0] <= ended
    assert run.steps[-1].time == began


@pytest.mark.parametrize(
    ("value_s", "passed"), [(4.9, False), (5.1, True), (10, True), (20, True), (24.9, True), (25.1, False)]
)
def test_time_may_be_off_by_what_the_machine_needs_and_no_more(
    run: Run, value_s: float, passed: bool
) -> None:
    assert run.slack_s == 5.0  # 50 ms at speed 100
    run.expect_between("it is in time", value_s, 10, 20)
    assert run.expectations[0].passed is passed


def test_what_must_not_be_there_is_counted_and_the_first_is_shown(run: Run) -> None:
    run.expect_none("no request is lost", [])
    run.expect_none("no RST is sent", ["RST to rs1", "RST to rs2"])
    assert [(one.passed, one.measured) for one in run.expectations] == [
        (True, "0 found"),
        (False, "2 found, the first: RST to rs1"),
    ]


def test_number_that_must_be_is_shown_beside_the_one_that_is(run: Run) -> None:
    run.expect_equal("resets", 19, 20)
    assert (run.expectations[0].passed, run.expectations[0].measured) == (False, "19, expected 20")


# The command


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_list_names_every_scenario() -> None:
    code, out, _ = invoke("list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(discover())


def test_list_as_json_says_what_can_be_set() -> None:
    code, out, _ = invoke("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["scenarios"]}
    assert code == 0
    assert rows["recommended-l7"]["settings"] == {"stop": "graceful"}
    assert rows["recommended-l7"]["choices"] == {"stop": ["graceful", "abrupt", "kill"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "no scenario 'no-such': all, green-but-black"),
        (["vip-down", "--set", "x"], "KEY=VALUE"),
        (["vip-down", "--set", "x=1"], "has no setting 'x'"),
        (["vip-down", "--clients", "wget:1"], "is no kind of client"),
    ],
)
def test_usage_mistake_exits_2_and_says_what_is_allowed(arguments: list[str], message: str) -> None:
    code, _, said = invoke("run", *arguments)
    assert code == 2
    assert message in said
