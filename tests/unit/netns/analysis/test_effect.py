"""What a deploy was seen to do: to servers, and to clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netns.analysis.effect import changed, unchanged, unfelt
from netns.analysis.rehearsal import Rehearsal
from netns.record.recording import Change, Deploy, Fact, Recording, Touch
from tests import recordings
from tests.unit.netns.analysis import story

WELL = tuple(
    Change(0.0, server, fact, True)
    for server in recordings.SERVERS
    for fact in (Fact.HEALTH_FILE, Fact.LISTENING, Fact.VIP)
)


DEPLOYS = (Deploy("", ("./deploy.sh",), 3.0, 9.0, 0, ""),)


def rehearsed(run: Recording) -> Rehearsal:
    return Rehearsal(run, DEPLOYS, (), (), (), (), story.PLACES, {})


def failed(server: str) -> dict[str, Any]:
    return {"kind": "probe", "server": server, "outcome": "bad_status", "at": 4.0, "virtual_server": "web"}


def test_what_held_at_the_first_look_is_no_change() -> None:
    quiet = replace(recordings.quiet(), changes=WELL)
    assert not any(changed(rehearsed(quiet), server) for server in recordings.SERVERS)
    ill = (*WELL[1:], Change(0.0, "rs1", Fact.HEALTH_FILE, False))
    assert not changed(rehearsed(replace(quiet, changes=ill)), "rs1")


@pytest.mark.parametrize(
    "seen",
    [
        {"changes": (*WELL, Change(4.0, "rs1", Fact.LISTENING, False))},
        {"touches": (Touch(4.0, "rs1", "processes"),)},
        {"events": (failed("rs1"),)},
    ],
)
def test_a_fact_a_process_or_a_check_that_changes_is_a_change_of_its_server(seen: dict[str, Any]) -> None:
    run = replace(recordings.quiet(), **{"changes": WELL, **seen})
    assert changed(rehearsed(run), "rs1")
    assert unchanged(rehearsed(run), ["rs1", "rs2"], whole=False) == ("rs2",)


@pytest.mark.parametrize(
    "seen",
    [
        {"touches": (Touch(2.0, "rs1", "files"),)},
        {
            "changes": (
                *WELL,
                Change(2.0, "rs1", Fact.LISTENING, False),
                Change(2.5, "rs1", Fact.LISTENING, True),
            )
        },
        {"events": ({**failed("rs1"), "at": 2.0},)},
        {"events": ({**failed("rs1"), "outcome": "miss"},)},
    ],
)
def test_what_came_before_the_deploy_and_a_check_that_timed_out_are_no_changes(seen: dict[str, Any]) -> None:
    run = replace(recordings.quiet(), **{"changes": WELL, **seen})
    assert not changed(rehearsed(run), "rs1")


def test_one_command_for_all_may_leave_some_as_they_are_but_not_all() -> None:
    run = replace(recordings.quiet(), changes=WELL, touches=(Touch(4.0, "rs1", "files"),))
    assert unchanged(rehearsed(run), recordings.SERVERS, whole=True) == ()
    still = replace(run, touches=())
    assert unchanged(rehearsed(still), recordings.SERVERS, whole=True) == recordings.SERVERS


def test_a_server_that_changed_and_that_no_request_reached_was_not_felt() -> None:
    base = recordings.quiet()
    run = replace(
        base,
        changes=(*WELL, Change(4.0, "rs1", Fact.LISTENING, False), Change(4.0, "rs2", Fact.LISTENING, False)),
        requests=tuple(one for one in base.requests if one.server != "rs1"),
    )
    found = rehearsed(run)
    assert unfelt(found, ["rs1", "rs2"]) == ("rs1",)
    assert unfelt(found, ["rs3"]) == ()
