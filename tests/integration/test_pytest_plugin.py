"""The plugin, as a team's own repository uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netns import labs
from netns.lab import state

pytest_plugins = "pytester"
pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin under test is in no worker of xdist, whatever these tests are in."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    yield
    labs.down("pytest")
    labs.down("pytest-sweep")


def run(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *words, timeout=240)


def test_a_deploy_that_loses_nothing_passes_and_one_that_does_fails_with_its_evidence(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        f"""
        CLIENTS = "curl:6,curl-new:6"

        def test_careful(l4lab):
            result = l4lab.rehearse(["{EXAMPLES}/careful.sh", "{{server}}"], servers=["rs2"], clients=CLIENTS)
            assert result.passed, result.judgement

        def test_trap(l4lab):
            result = l4lab.rehearse(["{EXAMPLES}/trap.sh", "{{server}}"], servers=["rs2"], clients=CLIENTS)
            assert result.passed, result.advice[0].text

        def test_nothing_of_the_one_before(l4lab):
            deploy = ["sh", "-c", "echo new >$L4LAB_ROOT/release.txt; : {{server}}"]
            result = l4lab.rehearse(deploy, servers=["rs2"], clients=CLIENTS)
            assert result.passed, result.judgement
            assert min(one.started for one in result.recording.requests) >= 0
        """
    )
    found = run(pytester)
    found.assert_outcomes(passed=2, failed=1)
    found.stdout.fnmatch_lines(["*rs2 stopped * after its health file went away*", "*kept in *"])
    (kept,) = (pytester.path / "l4lab-failures").iterdir()
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*")}
    assert {
        "box.log",
        "box.json",
        "rules-rs2.txt",
        "rehearsal-1/report.html",
        "rehearsal-1/rs2.pcapng",
    } <= names
    assert "l4box_pytest" in (kept / "rules-box.txt").read_text()
    assert state.read("pytest") is None


def test_one_lab_serves_all_tests_and_is_whole_before_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_breaks_much(l4lab, l4box):
            l4lab.lab.health_off("rs1")
            l4lab.lab.stop("rs2")
            l4lab.lab.vip_down("rs3")
            l4lab.lab.stop_box()

        def test_finds_all_well(l4lab, l4box):
            assert [row["state"] for row in l4box.servers()] == ["ACTIVE"] * 3
            assert l4lab.lab.running("web rs2")
        """
    )
    found = run(pytester, "-s")
    found.assert_outcomes(passed=2)
    assert sum(line.endswith("making 6 namespaces pytest-…") for line in found.outlines) == 1


@pytest.mark.alone  # at speed 20 a health check has 50 ms
def test_a_sweep_takes_place_in_a_lab_of_its_own_and_leaves_its_reports(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import json

        DEPLOY = ["sh", "-c", '"$L4LAB_WEB" stop && "$L4LAB_SLEEP" 20 && "$L4LAB_WEB" start; : {server}']

        def test_abrupt(l4lab):
            found = l4lab.sweep(DEPLOY, count=2, servers=["rs2"], clients="curl-new:10")
            assert not found.passed, found.text
            assert l4lab.lab.name == "pytest"
            report = l4lab.directory / "sweep-1"
            assert json.loads((report / "result.json").read_text())["text"] == found.text
            assert (report / "run-02" / "rs2.pcapng").exists()
            assert [row["state"] for row in l4lab.lab.box.servers()] == ["ACTIVE"] * 3
        """
    )
    found = run(pytester, "-s", "--l4lab-speed", "20")
    found.assert_outcomes(passed=1)
    assert sum(line.endswith("making 6 namespaces pytest-sweep-…") for line in found.outlines) == 1
    assert state.read("pytest-sweep") is None


def test_clients_and_captures_for_a_test_of_ones_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_traffic(l4lab, l4box, keepalive_clients, capture):
            running = capture("rs1", expression="tcp port 80")
            fleet = keepalive_clients("curl:6")
            fleet.wait_until_all_answered()
            assert len(fleet.requests) >= 6
            assert fleet.lost == []
            assert {row["server"] for row in l4box.sessions()} == {"rs1", "rs2", "rs3"}
            assert running.stop().stat().st_size > 500
        """
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.alone  # at speed 40 it has 25 ms
def test_a_marked_test_has_a_lab_of_its_own_settings_and_the_mark_leaves_labs_out(
    pytester: pytest.Pytester,
) -> None:
    (pytester.path / "lab.toml").write_text('[[server]]\nname = "alpha"\n')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.l4lab(speed=40, config="lab.toml")
        def test_other(l4lab):
            assert [node.name for node in l4lab.lab.plan.servers] == ["alpha"]
            assert l4lab.lab.config.speed == 40

        def test_default(l4lab):
            assert len(l4lab.lab.plan.servers) == 3
            assert l4lab.lab.config.speed == 1

        def test_without():
            pass
        """
    )
    run(pytester, "--strict-markers").assert_outcomes(passed=3)
    run(pytester, "-m", "not l4lab").assert_outcomes(passed=1, deselected=2)


def test_a_mistake_in_the_settings_is_an_error_and_not_a_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.l4lab(clients=99)
        def test_it(l4lab):
            pass
        """
    )
    found = run(pytester)
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*clients = 99*"])
