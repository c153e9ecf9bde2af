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
    end = time.monotonic() + 60
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
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", timeout=120)
    run.assert_outcomes(passed=2)
    assert not Path("/run/netns/side-by-side").exists()


def test_tests_that_share_a_fixture_of_their_module_are_of_one_group_and_others_of_none(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("from tests.conftest import pytest_collection_modifyitems  # noqa: F401")
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def lab():
            return 1

        @pytest.fixture
        def page(lab):
            return lab

        def test_shares(page): pass
        def test_shares_too(lab): pass
        def test_is_alone(tmp_path): pass

        def test_groups(request):
            found = {
                item.name: [mark.args for mark in item.iter_markers("xdist_group")]
                for item in request.session.items
            }
            group = [(request.node.nodeid.partition("::")[0],)]
            assert found == {
                "test_shares": group, "test_shares_too": group, "test_is_alone": [], "test_groups": []
            }
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=120).assert_outcomes(passed=4)
