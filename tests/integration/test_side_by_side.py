"""Workers of `pytest -n` do not see each other's labs: tests/conftest.py gives each a /run of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = "pytester"
pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

WORKERS = """
import os, subprocess, time
from pathlib import Path
import pytest

NAME = "side-by-side"

@pytest.mark.parametrize("number", [0, 1])
def test_the_name_is_free(number):
    assert not Path("/run/netns").exists()
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    seen = subprocess.run(["cat", f"/proc/{os.getpid()}/mounts"], capture_output=True, text=True).stdout
    assert f"/run/netns/{NAME}" in seen
    (Path.cwd() / f"{number}.made").touch()
    end = time.monotonic() + 200
    while not (Path.cwd() / f"{1 - number}.made").exists():
        assert time.monotonic() < end, "the other worker has not made its own"
        time.sleep(0.01)
    subprocess.run(["ip", "netns", "del", NAME], check=True)
"""


def test_two_workers_make_a_namespace_of_the_same_name_at_the_same_time(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("from tests.conftest import pytest_configure  # noqa: F401")
    pytester.makepyfile(WORKERS)
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", timeout=280)
    run.assert_outcomes(passed=2)
    assert not Path("/run/netns/side-by-side").exists()


def test_a_fixture_of_a_module_is_made_once_whatever_the_number_of_workers(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("from tests.conftest import pytest_xdist_make_scheduler  # noqa: F401")
    pytester.makepyfile(
        test_one_lab="""
        from pathlib import Path
        import pytest

        @pytest.fixture(scope="module")
        def lab():
            (Path(__file__).parent / "made").touch(exist_ok=False)

        @pytest.mark.parametrize("number", range(4))
        def test_shares(lab, number):
            pass
        """,
        test_many_labs="""
        from pathlib import Path
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_has_its_own(number, worker_id):
            (Path(__file__).parent / worker_id).touch()
        """,
    )
    words = ("-p", "no:cacheprovider", "-n", "2", "--dist", "loadscope")
    pytester.runpytest_subprocess(*words, timeout=280).assert_outcomes(passed=12)
    assert {path.name for path in pytester.path.glob("gw*")} == {"gw0", "gw1"}
