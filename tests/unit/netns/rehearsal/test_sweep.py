"""A sweep being played: which lab each rehearsal takes place in, and what is said meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netns import labs
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.verdict import Circumstances
from netns.errors import LabError
from netns.lab.interface import Lab
from netns.lab.restore import Restorable, restore
from netns.plan.config import LabConfig
from netns.record.recording import Fact, Outcome
from netns.rehearsal import sweep as sweeping
from netns.rehearsal.spec import RehearsalSpec
from netns.rehearsal.sweep import OneLab, OwnLabs, beyond_repair, sweep, varied
from tests.unit.netns.analysis import story
from tests.unit.netns.analysis.story import HASTY, Story

CONFIG = LabConfig()
SPEC = RehearsalSpec(("./deploy.sh", "{server}"), ("rs2",), ())


class Made:
    """A lab that only notes what is done to it."""

    def __init__(self, *, whole: bool = True) -> None:
        node = SimpleNamespace(name="rs1", vips=(IPv4Address("192.0.2.10"),))
        self.plan = SimpleNamespace(servers=(node,))
        self.done: list[str] = []
        self._whole = whole

    def start_box(self) -> bool:
        self.done.append("box")
        return True

    def health_on(self, server: str) -> bool:
        self.done.append(f"health file of {server}")
        return True

    def vip_up(self, server: str) -> None:
        self.done.append(f"VIPs of {server}")

    def start(self, server: str) -> bool:
        self.done.append(f"web server of {server}")
        return True

    def wait_until_bound(self) -> None:
        self.done.append("bound")
        if not self._whole:
            raise LabError("not ACTIVE in 25 s: rs1")


def well() -> Rehearsal:
    told = Story()
    told.request("curl-1.1", 30.0, 30.1, Outcome.OK, status=200)
    return told.rehearsal(HASTY)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """The labs that were made, in order; "down" is the last that is done to one."""
    found: list[Made] = []

    @contextmanager
    def own(config: LabConfig, **_: Any) -> Iterator[Made]:
        lab = Made(whole=config.name != "broken")
        found.append(lab)
        yield lab
        lab.done.append("down")

    monkeypatch.setattr(labs, "own", own)
    return found


def test_lab_is_made_whole() -> None:
    lab = Made()
    restore(cast(Restorable, lab))
    assert lab.done == ["box", "health file of rs1", "VIPs of rs1", "web server of rs1", "bound"]


def test_lab_is_used_again_when_it_is_whole_and_for_the_same_settings_alone(made: list[Made]) -> None:
    with OwnLabs(print) as own:
        first = own.next(CONFIG, None)
        assert own.next(CONFIG, well()) is first
        assert own.next(CONFIG, well()) is first
        assert own.next(CONFIG, None) is not first
        assert made[0].done.count("bound") == 2
        assert made[0].done[-1] == "down"
        assert made[1].done == []
    assert made[1].done == ["down"]


def test_lab_that_cannot_be_made_whole_makes_room_for_a_new_one(made: list[Made]) -> None:
    said: list[str] = []
    broken = CONFIG.model_copy(update={"name": "broken"})
    with OwnLabs(said.append) as own:
        own.next(broken, None)
        own.next(broken, well())
        assert len(made) == 2
        assert made[0].done[-1] == "down"
    assert said == ["a new lab for the next rehearsal: not ACTIVE in 25 s: rs1"]


def test_lab_that_is_beyond_repair_makes_room_for_a_new_one(made: list[Made]) -> None:
    said: list[str] = []
    ended = replace(well(), circumstances=Circumstances(box_ended=40.0))
    with OwnLabs(said.append) as own:
        own.next(CONFIG, None)
        own.next(CONFIG, ended)
    assert [lab.done for lab in made] == [["down"], ["down"]], "nobody tried to restore it"
    assert said == ["a new lab for the next rehearsal: the box's daemon ended"]


@pytest.mark.parametrize(
    ("fact", "ended", "why"),
    [
        (Fact.FILTER, None, "the last one left rs2: packet filter closed"),
        (Fact.DSR_RULE, None, "the last one left rs2: DSCP rule gone"),
        (Fact.ROUTE, None, "the last one left rs2: no route to the clients"),
        (Fact.FILTER, 70.0, ""),
        (Fact.VIP, None, ""),
        (Fact.LISTENING, None, ""),
        (Fact.HEALTH_FILE, None, ""),
    ],
)
def test_what_a_restored_lab_lacks_all_the_same_is_beyond_repair(
    fact: Fact, ended: float | None, why: str
) -> None:
    told = Story()
    told.loses("rs2", fact, 60.0, ended)
    assert beyond_repair(told.rehearsal(HASTY)) == why


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (replace(well(), circumstances=Circumstances(broken="The captures ended")), "The captures ended"),
        (replace(well(), circumstances=Circumstances(left_running=("sleep (pid 7)",))), "left sleep (pid 7)"),
        (replace(well(), deploys=(replace(HASTY, exit_code=3),)), "did not come to its end"),
        (replace(well(), circumstances=Circumstances(ill="2 lost before")), "did not come to its end"),
        (story.hasty(), ""),
    ],
)
def test_rehearsal_that_did_not_end_well_leaves_a_lab_beyond_repair(found: Rehearsal, why: str) -> None:
    assert why in beyond_repair(found)
    assert bool(why) == bool(beyond_repair(found))


def test_sweep_rehearses_at_each_moment_says_what_was_lost_so_far_and_keeps_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    shown: list[str] = []
    played: list[tuple[float | None, Path | None]] = []
    lost = story.hasty().lost

    def rehearse(lab: Lab, spec: RehearsalSpec, *, report: Path | None, progress: Any, **_: Any) -> Rehearsal:
        played.append((spec.phase_s, report))
        progress("12 s")
        return story.hasty()

    monkeypatch.setattr(sweeping, "rehearse", rehearse)
    settings = varied(CONFIG, ["retries=1,2"])
    found = sweep(
        OneLab(cast(Lab, None)),
        SPEC,
        settings,
        2,
        report=tmp_path,
        keep=lambda _, directory: directory.name != "retries=2-01",
        say=said.append,
        progress=shown.append,
    )
    names = ["retries=1-01", "retries=1-02", "retries=2-01", "retries=2-02"]
    assert played == [(phase, tmp_path / name) for phase, name in zip([2.5, 7.5] * 2, names, strict=True)]
    kept = [run.directory for one in found.combinations for run in one.repetitions]
    assert kept == ["retries=1-01", "retries=1-02", "", "retries=2-02"]
    assert said[1] == f"\nretries=1 2 of 2, lost so far {lost}: begins 7.5 s after a check of rs2"
    assert said[2] == "\nretries=2 1 of 2, lost so far 0: begins 2.5 s after a check of rs2"
    assert shown[1] == f"retries=1 2 of 2, lost so far {lost}  12 s"
    assert (found.command, found.speed) == (SPEC.command, CONFIG.speed)
    assert [one.worst_s for one in found.combinations] == [20.0, 30.0]
