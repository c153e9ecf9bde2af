"""A test for a repository that has a deploy script: `pip install l4box`, then `sudo pytest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def test_a_careful_deploy_loses_nothing_that_is_repeated(l4lab: Any) -> None:
    deploy = [str(HERE / "careful.sh"), "{server}"]
    result = l4lab.rehearse(deploy, clients="curl:10,curl-new:5", allow=["closed_under_way"])
    assert result.passed, (result.judgement, result.advice)


@pytest.mark.xfail(reason="the trap: the box needs up to 20 s to notice", strict=True)
def test_the_trap_loses_requests(l4lab: Any) -> None:
    result = l4lab.rehearse([str(HERE / "trap.sh"), "{server}"], clients="curl:10,curl-new:5")
    assert result.passed, (result.judgement, result.advice)
