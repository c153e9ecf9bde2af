"""Waiting until the servers of a place are in service."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lb.config import parse
from netns.errors import LabError
from netns.lab.interface import Lab, wait_until_bound
from netns.plan.config import LabConfig


def place(*servers: str) -> Lab:
    """A lab with these servers, whose box runs."""
    config = parse(LabConfig, {"name": "shop", "server": [{"name": name} for name in servers]}, "test")
    return cast(Lab, SimpleNamespace(name="shop", config=config, running=lambda _: [1]))


def row(name: str, state: str = "ACTIVE") -> dict[str, Any]:
    return {"name": name, "state": state}


def test_servers_that_are_all_active_are_not_waited_for() -> None:
    said: list[str] = []
    wait_until_bound(place("web1", "web2"), lambda: [row("web1"), row("web2")], said.append, timeout_s=0)
    assert said == []


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([row("web1"), row("web2", "FAILED")], r"web2 \(FAILED\)"),
        ([row("web1"), row("web-2")], r"web2 \(not in the box\)"),
        ([], r"web1 \(not in the box\), web2 \(not in the box\)"),
    ],
)
def test_server_that_is_not_active_or_not_there_is_waited_for_and_named(
    rows: list[dict[str, Any]], missing: str
) -> None:
    said: list[str] = []
    with pytest.raises(LabError, match=f"not ACTIVE in 0 s: {missing}"):
        wait_until_bound(place("web1", "web2"), lambda: rows, said.append, timeout_s=0)
    assert len(said) == 1
