"""What a rehearsal proves, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest

from netns.analysis.causes import Cause
from netns.analysis.terms import Terms, allowed_causes
from netns.analysis.verdict import Circumstances, Judgement, Verdict, conclude
from netns.record.recording import Deploy

WINDOW, CROSSED = Cause.HEALTH_WINDOW, Cause.CLOSED_UNDER_WAY


def deploy(server: str = "rs1", exit_code: int | None = 0, outside_s: float = 0.05) -> Deploy:
    return Deploy(server, ("./deploy.sh", server), 10.0, 40.0, exit_code, "", 30.0, outside_s)


def judged(
    causes: dict[Cause, int] | None = None,
    *deploys: Deploy,
    terms: Terms | None = None,
    speed: float = 1.0,
    **circumstances: Any,
) -> Judgement:
    return conclude(
        2860,
        causes or {},
        deploys or (deploy(),),
        terms or Terms(),
        Circumstances(**circumstances),
        speed=speed,
        step="Wait 20 s between renaming the health file and the stop.",
    )


def test_no_loss_is_ok() -> None:
    assert judged() == Judgement(Verdict.OK, "0 of 2,860 requests lost.")


def test_losses_come_first_and_what_to_do_follows() -> None:
    found = judged({WINDOW: 41})
    assert found.verdict is Verdict.LOST
    assert found.text == (
        "41 of 2,860 requests lost. Wait 20 s between renaming the health file and the stop."
    )


@pytest.mark.parametrize(
    ("terms", "verdict"),
    [
        (Terms(), Verdict.LOST),
        (Terms(causes={CROSSED: None}), Verdict.OK),
        (Terms(causes={CROSSED: 2}), Verdict.OK),
        (Terms(causes={CROSSED: 1}), Verdict.LOST),
        (Terms(causes={WINDOW: None}), Verdict.LOST),
        (Terms(lost=2), Verdict.OK),
        (Terms(lost=1), Verdict.LOST),
        (Terms(lost=1, causes={CROSSED: 1}), Verdict.OK),
    ],
)
def test_what_is_allowed_by_cause_or_number_is_no_reason_to_fail(terms: Terms, verdict: Verdict) -> None:
    assert judged({CROSSED: 2}, terms=terms).verdict is verdict


def test_allowed_losses_are_named_all_the_same() -> None:
    found = judged({CROSSED: 2}, terms=Terms(causes=allowed_causes(["closed_under_way"])))
    assert found.text.startswith("2 of 2,860 requests lost, all of them allowed: 2 × ")


@pytest.mark.parametrize("text", ["closed", "closed_under_way:", "closed_under_way:x", "unexplained", ""])
def test_allowing_what_is_no_cause_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"--allow {text}: "):
        allowed_causes([text])


def test_a_command_that_fails_is_failed_whatever_was_lost() -> None:
    found = judged({WINDOW: 3}, deploy(exit_code=28), not_deployed=("rs2", "rs3"))
    assert found.verdict is Verdict.FAILED
    assert found.text == "rs1's command: exit 28. 3 of 2,860 requests lost."
    assert "Not deployed: rs2, rs3" in found.reasons


def test_a_server_that_does_not_come_back_fails_the_deploy_unless_requests_were_lost() -> None:
    left = "The deploy left rs1 FAILED on web (last check: 404)"
    assert judged(not_back=left).verdict is Verdict.FAILED
    found = judged({Cause.SERVER_ERROR: 9}, not_back=left)
    assert found.verdict is Verdict.LOST
    assert left in found.reasons


def test_a_lab_that_was_ill_before_has_a_verdict_of_its_own() -> None:
    found = judged(ill="12 of 40 requests were lost before the deploy began: 12 on web refused")
    assert found.verdict is Verdict.ILL
    assert found.text.startswith("Nothing was deployed. 12 of 40 requests were lost before")


def test_a_box_that_ended_is_never_ok() -> None:
    assert judged(box_ended=4.1).verdict is Verdict.INCONCLUSIVE
    assert "ended at 4.1 s" in judged(box_ended=4.1).text
    assert judged({Cause.BOX_DOWN: 5}, box_ended=4.1).verdict is Verdict.LOST
    ended_with_it = deploy(exit_code=None)
    assert judged(None, ended_with_it, box_ended=4.1).verdict is Verdict.INCONCLUSIVE
    assert judged(None, deploy(exit_code=1), box_ended=4.1).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("speed", "outside_s", "verdict"),
    [
        (1.0, 30.0, Verdict.OK),
        (10.0, 0.09, Verdict.OK),
        (10.0, 0.11, Verdict.INCONCLUSIVE),
        (20.0, 0.06, Verdict.INCONCLUSIVE),
    ],
)
def test_time_of_the_commands_own_proves_nothing_at_another_speed(
    speed: float, outside_s: float, verdict: Verdict
) -> None:
    assert judged(None, deploy(outside_s=outside_s), speed=speed).verdict is verdict


def test_time_of_the_commands_own_is_told_in_real_and_in_box_seconds() -> None:
    text = judged(None, deploy(outside_s=3.0), speed=10.0).text
    assert "3.0 s of real time" in text
    assert "30.0 box s" in text
    assert "--speed 1" in text


def test_losses_are_losses_at_any_speed() -> None:
    found = judged({WINDOW: 1}, deploy(outside_s=3.0), speed=10.0)
    assert found.verdict is Verdict.LOST
    assert any("outside L4LAB_SLEEP" in reason for reason in found.reasons)


def test_a_busy_machine_is_no_judge_of_losses_nor_of_their_absence() -> None:
    words = "1 request in 100 left 1.20 s late or more"
    for causes in ({}, {WINDOW: 66}):
        found = judged(causes, busy=words)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert words in found.text
    assert "66 of 2,860 requests lost" in judged({WINDOW: 66}, busy=words).text


def test_a_lab_that_broke_during_the_run_is_no_judge() -> None:
    found = judged({Cause.UNEXPLAINED: 78}, broken="The process that delays the clients' packets ended")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "Rehearse again in a new lab" in found.text


@pytest.mark.parametrize("what", ["unfelt", "unchanged", "left_running"])
def test_a_deploy_that_nobody_could_feel_or_see_is_inconclusive(what: str) -> None:
    found = judged(**{what: ("rs1", "rs2")})
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "rs1, rs2" in found.text


def test_requests_under_way_at_the_end_are_told() -> None:
    assert judged(unfinished=2).text == "0 of 2,860 requests lost, 2 more under way when the run ended."


def test_each_verdict_has_its_exit_code() -> None:
    codes = {verdict.value: verdict.exit_code for verdict in Verdict}
    assert codes == {"ok": 0, "lost": 1, "failed": 6, "ill": 7, "inconclusive": 8}
