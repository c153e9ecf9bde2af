"""Property tests draw the same examples on every run, so that a failure on CI is a failure at home.

`--hypothesis-profile=search` draws new ones, and more of them.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", derandomize=True, database=None, deadline=None, max_examples=60, print_blob=False
)
settings.register_profile(
    "search",
    derandomize=False,
    deadline=None,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")


def pytest_report_header(config: pytest.Config) -> str:
    """Which examples the property tests draw; new ones can be drawn again by `--hypothesis-seed`."""
    chosen = config.getoption("--hypothesis-profile") or "default"
    if settings.get_profile(chosen).derandomize:
        return f"property tests: profile {chosen}, the same examples on every run"
    seed = config.getoption("--hypothesis-seed") or "none set: a failure prints its own"
    return f"property tests: profile {chosen}, seed {seed}"
