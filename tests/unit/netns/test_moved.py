"""Scenario files written for 0.1 import from where things were then."""

from __future__ import annotations

import importlib
import sys

import pytest

from netns import MOVED
from netns.play.run import Run


@pytest.mark.parametrize("old", sorted(MOVED))
def test_old_path_gives_the_module_itself_and_a_warning(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {MOVED[old]} now"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MOVED[old])


def test_module_that_was_moved_keeps_its_own_name() -> None:
    sys.modules.pop("netns.run", None)
    with pytest.warns(DeprecationWarning, match="netns.play.run"):
        old = importlib.import_module("netns.run")
    assert old.Run is Run
    assert importlib.import_module("netns.play.run").__name__ == "netns.play.run"
    assert old.__spec__.name == "netns.play.run"
