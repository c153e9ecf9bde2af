"""Health as a stream of check results in, states out: 1 a success, 0 a miss, 4 a bad status."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.core import health as module
from lb.core.health import BOUND, CHECKED, TRANSITIONS, Health, Outcome, ServerState, Signal, diagram

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"
OUTCOMES = {"1": Outcome.SUCCESS, "0": Outcome.MISS, "4": Outcome.BAD_STATUS}


def in_testing(retries: int = 1, *, fail_on_bad_status: bool = False) -> Health:
    health = Health(retries, fail_on_bad_status=fail_on_bad_status)
    health.signal(Signal.CHECK)
    return health


def states(results: str, retries: int = 1, *, fail_on_bad_status: bool = False) -> str:
    """The state after each result, by its first letter."""
    health = in_testing(retries, fail_on_bad_status=fail_on_bad_status)
    letters = ""
    for result in results:
        before = health.state
        assert health.check_ended(OUTCOMES[result]) is (health.state is not before)
        letters += health.state.value[0]
    return letters


@pytest.mark.parametrize(
    ("retries", "results", "after_each"),
    [
        # Retries 1, the default: a miss makes SUSPECT, the second in a row FAILED.
        (1, "1100", "AASF"),
        (1, "10101010", "ASASASAS"),
        (1, "1001", "ASFA"),
        (1, "100000", "ASFFFF"),
        (1, "1044", "ASFF"),
        (1, "14141", "ASASA"),
        # A success restores what misses used up.
        (1, "101001", "ASASFA"),
        (1, "1001001", "ASFASFA"),
        # None: the first miss is the last.
        (0, "1010", "AFAF"),
        # Two: three misses in a row.
        (2, "1000", "ASSF"),
        (2, "100100", "ASSASS"),
        (2, "1001000", "ASSASSF"),
        # A server that never answered is FAILED, not SUSPECT: it is not to be bound.
        (0, "0", "F"),
        (1, "0", "F"),
        (2, "0", "F"),
        (2, "001", "FFA"),
        (1, "4", "F"),
    ],
)
def test_stream_of_results(retries: int, results: str, after_each: str) -> None:
    assert states(results, retries) == after_each


@pytest.mark.parametrize(
    ("retries", "results", "after_each"),
    [(1, "14", "AF"), (2, "14", "AF"), (2, "104", "ASF"), (1, "1001", "ASFA"), (2, "100041", "ASSFFA")],
)
def test_bad_status_fails_the_server_at_once_where_so_set(
    retries: int, results: str, after_each: str
) -> None:
    assert states(results, retries, fail_on_bad_status=True) == after_each


@given(st.integers(0, 4), st.text("01", min_size=1, max_size=30))
def test_state_follows_from_the_misses_since_the_last_success(retries: int, results: str) -> None:
    """The rule in one line, without a state machine."""
    misses = len(results) - len(results.rstrip("0"))
    if misses == 0:
        wanted = "A"
    elif "1" not in results or misses > retries:
        wanted = "F"
    else:
        wanted = "S"

    assert states(results, retries)[-1] == wanted


def test_bound_is_active_or_suspect() -> None:
    assert {state.value for state in BOUND} == {"ACTIVE", "SUSPECT"}


def test_only_what_an_administrator_stopped_is_not_checked() -> None:
    assert {state.value for state in frozenset(ServerState) - CHECKED} == {"DISABLED", "SHUTDOWN"}


def test_every_state_can_be_disabled_and_shut_down() -> None:
    for state in ServerState:
        reached = {TRANSITIONS[state].get(signal, state) for signal in (Signal.DISABLE, Signal.SHUT_DOWN)}
        assert reached == {ServerState.DISABLED, ServerState.SHUTDOWN}


def test_enabling_leads_to_testing_and_changes_nothing_elsewhere() -> None:
    for state, following in TRANSITIONS.items():
        stopped = state in (ServerState.DISABLED, ServerState.SHUTDOWN)
        assert following.get(Signal.ENABLE) is (ServerState.ENABLED if stopped else None)
    assert in_testing().state is ServerState.TESTING


def test_results_mean_nothing_to_a_server_that_is_not_checked() -> None:
    for signal in (Signal.DISABLE, Signal.SHUT_DOWN):
        health = in_testing()
        health.signal(signal)
        before = health.state

        for outcome in Outcome:
            assert not health.check_ended(outcome)
            assert health.state is before


def test_every_state_but_enabled_can_be_reached_from_every_other() -> None:
    for start in ServerState:
        reached, new = {start}, {start}
        while new:
            new = {target for state in new for target in TRANSITIONS[state].values()} - reached
            reached |= new
        assert reached == set(ServerState)


def test_new_settings_leave_the_state_alone() -> None:
    health = in_testing(retries=2)
    for outcome in (Outcome.SUCCESS, Outcome.MISS):
        health.check_ended(outcome)

    health.configure(2, fail_on_bad_status=False)

    assert health.state is ServerState.SUSPECT


def test_new_settings_do_not_give_back_the_retries_that_misses_used() -> None:
    """Else a reload now and then would keep a dead server bound for good."""
    health = in_testing(retries=2)
    for outcome in (Outcome.SUCCESS, Outcome.MISS, Outcome.MISS):
        health.check_ended(outcome)

    health.configure(2, fail_on_bad_status=False)
    health.check_ended(Outcome.MISS)

    assert health.state is ServerState.FAILED


def test_fewer_retries_count_from_the_next_miss_on() -> None:
    health = in_testing(retries=3)
    for outcome in (Outcome.SUCCESS, Outcome.MISS, Outcome.MISS):
        health.check_ended(outcome)

    health.configure(1, fail_on_bad_status=False)
    states_then = [health.state]
    health.check_ended(Outcome.MISS)
    states_then.append(health.state)

    assert states_then == [ServerState.SUSPECT, ServerState.FAILED]


# The diagram


def test_diagram_in_the_documentation_is_the_table_that_the_code_has() -> None:
    begin, end = "<!-- begin: python -m lb.core.health -->\n", "<!-- end -->"
    drawn = ARCHITECTURE.read_text().split(begin)[1].split(end)[0]

    assert drawn == diagram(), "put the output of python -m lb.core.health between the markers"


def test_diagram_has_an_arrow_for_every_transition_and_names_its_signal() -> None:
    arrows = dict(line.strip().split(": ") for line in diagram().splitlines() if ": " in line)
    drawn = {(arrow, signal) for arrow, signals in arrows.items() for signal in signals.split(" or ")}

    assert drawn == {
        (f"{state.value} --> {target.value}", signal.value)
        for state, following in TRANSITIONS.items()
        for signal, target in following.items()
    }


def test_running_the_module_prints_the_diagram(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(module.__file__), run_name="__main__")

    assert capsys.readouterr().out == diagram()
