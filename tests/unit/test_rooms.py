"""scripts/rooms: what `make check` says of imports between rooms."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "rooms"


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    spec = spec_from_loader("rooms", SourceFileLoader("rooms", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LEVELS = {"lb.cli": 0, "lb.daemon": 1, "lb.core": 2, "netns.labs": 0}


def test_an_import_of_a_higher_room_leads_upwards_and_one_of_a_lower_does_not(rooms: ModuleType) -> None:
    imports = {"lb.core.box": {"lb.daemon", "lb.core.session"}, "lb.daemon": {"lb.core.box"}}
    assert rooms.upwards(imports, LEVELS) == ["lb.core.box imports lb.daemon"]


def test_another_packages_room_and_one_that_no_contract_names_are_not_above(rooms: ModuleType) -> None:
    assert rooms.upwards({"lb.core.box": {"netns.labs", "lb.clock"}}, LEVELS) == []


def test_a_circle_is_found_by_module_and_by_room(rooms: ModuleType) -> None:
    imports = {"lb.core.box": {"lb.linux.queue"}, "lb.linux.probe": {"lb.core.health"}}
    assert rooms.circle(imports) == ""
    assert rooms.circle(rooms.by_room(imports)) in (
        "lb.core imports lb.linux imports lb.core",
        "lb.linux imports lb.core imports lb.linux",
    )


def test_levels_are_those_of_the_contracts(rooms: ModuleType) -> None:
    level = rooms.levels()
    assert level["lb.cli"] < level["lb.daemon"] < level["lb.core"]
    assert level["lb.api"] == level["lb.linux"]
    assert level["netns.namespaces"] == level["netns.docker"]
