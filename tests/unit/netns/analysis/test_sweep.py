"""What a sweep makes of its repetitions, and the settings that it varies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lb.config import ConfigError
from netns.analysis.health_window import Sign, Window
from netns.analysis.sweep import Combination, Repetition, Sweep, phases, sentence, variations
from netns.analysis.verdict import Verdict
from netns.plan.config import LabConfig, with_settings


def repetition(phase_s: float, needed_s: float, waited_s: float, *, measured: bool = True) -> Repetition:
    """A server that begins to fail its check at 10."""
    lost = 0 if waited_s >= needed_s else 5
    one = Window(
        server="rs1",
        virtual_server="web",
        failing=10.0,
        sign=Sign.HEALTH_FILE,
        health_off=10.0,
        stopped=10.0 + waited_s,
        unbound=10.0 + needed_s if measured else None,
        restarted=60.0,
        bound=61.0,
        needed_s=needed_s,
        measured=measured,
    )
    return Repetition(
        phase_s, Verdict.LOST if lost else Verdict.OK, 100, lost, {"window": lost} if lost else {}, (one,)
    )


def combination(*repetitions: Repetition) -> Combination:
    return Combination({}, 10.0, 20.0, repetitions)


def test_moments_are_spread_evenly_over_the_interval() -> None:
    assert phases(10.0, 5) == [1.0, 3.0, 5.0, 7.0, 9.0]


def test_smallest_wait_is_the_longest_that_was_needed() -> None:
    one = combination(
        repetition(1, 19.0, 5), repetition(5, 15.0, 16), repetition(9, 11.0, 12, measured=False)
    )
    assert one.smallest_wait_s == 19.0
    assert one.waited_s == (5.0, 16.0)
    assert one.failures == 1
    assert one.causes == {"window": 5}
    assert "A wait of 19.0 s before the stop" in sentence(one, 1.0)
    assert "2 of 3 seen" in sentence(one, 1.0)
    assert one.step_s == pytest.approx(10 / 3)


def test_repetition_that_cannot_tell_is_neither_a_failure_nor_proof() -> None:
    doubtful = replace(repetition(5, 15.0, 16.0), verdict=Verdict.INCONCLUSIVE)
    one = combination(repetition(1, 15.0, 16.0), doubtful)
    assert (one.failures, one.inconclusive) == (0, 1)
    assert Sweep(("true",), 10.0, (one,)).verdict is Verdict.INCONCLUSIVE
    worse = combination(doubtful, repetition(9, 15.0, 5.0))
    swept = Sweep(("true",), 10.0, (one, worse))
    assert swept.verdict is Verdict.LOST
    assert swept.text == "4 rehearsals: 1 lost, 2 inconclusive, 1 ok. 5 requests lost."
    assert (swept.as_json()["verdict"], swept.as_json()["text"]) == ("lost", swept.text)


def test_sweep_at_another_speed_speaks_of_box_seconds() -> None:
    text = sentence(combination(repetition(1, 19.0, 5), repetition(5, 15.0, 16)), 10.0)
    assert "A wait of 19.0 box s before the stop" in text
    assert "the sweep's step of 5 box s" in text
    assert "the script waited 5.0 to 16.0 box s. By its settings the box needs at most 20 box s" in text


def test_server_that_went_out_twice_needed_the_longer_of_its_waits() -> None:
    long, short = repetition(1, 19.0, 5).windows[0], repetition(1, 11.0, 5).windows[0]
    swept = Sweep(("true",), 1.0, (combination(replace(repetition(1, 19.0, 5), windows=(long, short))),))
    (run,) = swept.as_json()["combinations"][0]["runs"]
    assert run["needed_s"] == {"rs1": 19.0}


def test_deploy_that_takes_no_server_out_has_no_wait() -> None:
    one = combination(Repetition(1.0, Verdict.OK, 100, 0, {}, ()))
    assert one.smallest_wait_s is None
    assert "no server went out of service" in sentence(one, 1.0)


# Wilson's score interval; the figures are those of R's prop.test(x, n, correct = FALSE).
@pytest.mark.parametrize(
    ("failures", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (3, 10, 0.1078, 0.6032), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],
)
def test_probability_of_a_failure_has_its_bounds(failures: int, count: int, low: float, high: float) -> None:
    one = combination(*(repetition(n, 20.0, 5 if n < failures else 25) for n in range(count)))
    assert one.failure_interval == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_every_combination_of_what_is_varied() -> None:
    found = list(variations(["retries=1,2", "interval=5,10"]))
    assert found == [
        {"retries": 1, "interval": 5},
        {"retries": 1, "interval": 10},
        {"retries": 2, "interval": 5},
        {"retries": 2, "interval": 10},
    ]
    assert list(variations([])) == [{}]


@pytest.mark.parametrize("text", ["retries", "retries=", "retries=1,many"])
def test_what_cannot_be_varied_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="--vary"):
        list(variations([text]))


def test_settings_are_put_into_every_virtual_server_and_checked() -> None:
    changed = with_settings(
        LabConfig(), {"retries": 2, "interval": 5, "reset": True, "scheduler": "source-hash"}
    )
    (service,) = changed.virtual_server
    assert (service.health_check.retries, service.health_check.interval_s) == (2, 5.0)
    assert (service.reset_on_port_fail.enabled, service.scheduler) == (True, "source-hash")
    with pytest.raises(ConfigError, match="retries"):
        with_settings(LabConfig(), {"retries": 99})
    with pytest.raises(ConfigError, match="unknown key"):
        with_settings(LabConfig(), {"no_such_key": 1})
