"""Scenarios: a deploy, or an accident, played in a lab of its own, and what must be seen of it.

A scenario is a file of the folder `netns/scenarios`, or any other Python file:

    '''Title in one line.

    The intent: what it shows.
    '''
    SETTINGS = {"stop": ("graceful", "abrupt", "kill"), "watch_s": 30.0}  # choices, first the default
    CLIENTS = "curl:20"  # netns/clients/kinds.py
    CAPTURE = "tcp or icmp"  # pcap-filter(7)

    def lab(settings): return {"virtual_server": [web(aging_s=120)]} # lab.toml as a dict; may be left out
    def play(run): …                                                 # netns/play/run.py

Its name is the file's, with dashes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lb.config import parse
from netns import labs
from netns.clients.kinds import missing, parse_clients
from netns.errors import LabError, MissingError
from netns.lab import state
from netns.lab.interface import Say
from netns.plan import speeds
from netns.plan.config import LabConfig
from netns.play.run import GaveUp, Run, begin
from netns.record.recording import Recording

FOLDER = Path(__file__).parents[1] / "scenarios"

Choices = tuple[str, ...]
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario, as its file defines it."""

    name: str
    title: str
    intent: str
    settings: Mapping[str, Choices | float]
    """Choices, of which the first is the default, or a number."""
    clients: str
    capture: str
    """What is captured at every node, a pcap-filter(7)."""
    lab: Callable[[Settings], dict[str, Any]]
    play: Callable[[Run], None]

    def defaults(self) -> dict[str, Any]:
        return {key: value[0] if isinstance(value, tuple) else value for key, value in self.settings.items()}

    def chosen(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The settings with those given put over the defaults; ValueError with what is allowed."""
        settings = self.defaults()
        for key, text in given.items():
            if key not in self.settings:
                allowed = ", ".join(self.settings) or "it has none"
                raise ValueError(f"{self.name} has no setting {key!r}: {allowed}")
            settings[key] = _value(key, text, self.settings[key])
        return settings


def web(**changes: Any) -> dict[str, Any]:
    """The virtual server of most scenarios: the article's settings but for `changes`."""
    return {"name": "web", "address": "192.0.2.10", "port": 80, "dscp": 10, **changes}


def discover(folder: Path = FOLDER) -> dict[str, Scenario]:
    """The scenarios of a folder, by name."""
    files = sorted(folder.glob("[a-z]*.py"))
    return {scenario.name: scenario for scenario in map(load, files)}


def load(path: Path) -> Scenario:
    """The scenario of a file; LabError when it is none."""
    name = path.stem.replace("_", "-")
    spec = importlib.util.spec_from_file_location(f"netns.scenarios.{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LabError(f"{path} is no scenario: a Python file is")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    if not module.__doc__ or not hasattr(module, "play"):
        raise LabError(f"{path} is no scenario: it needs a docstring and play(run)")
    title, _, intent = module.__doc__.strip().partition("\n")
    return Scenario(
        name=name,
        title=title.rstrip("."),
        intent=intent.strip(),
        settings=getattr(module, "SETTINGS", {}),
        clients=getattr(module, "CLIENTS", "curl:20"),
        capture=getattr(module, "CAPTURE", "tcp or icmp"),
        lab=getattr(module, "lab", lambda _: {}),
        play=module.play,
    )


def play(
    scenario: Scenario,
    *,
    speed: float = speeds.SCENARIO,
    clients: str | None = None,
    given: Mapping[str, str] | None = None,
    seed: int,
    report: Path | None = None,
    lab_name: str | None = None,
    on: str = state.NAMESPACES,
    say: Say,
) -> Recording:
    """Play a scenario in a lab of its own, which is down again at the end, whatever happens.

    `on`: what its nodes are, NAMESPACES or CONTAINERS of netns/lab/state.py.

    ValueError or ConfigError for what it can't be played with; LabError when the lab fails. With `report`,
    the captures are left there.
    """
    settings = scenario.chosen(given or {})
    wanted = parse_clients(clients or scenario.clients)
    name = lab_name or f"scenario-{scenario.name}"
    # Without offload the captures show packets as on a wire, and libpcap's buffer holds more of them.
    document = {"name": name, "speed": speed, "offload": False, **scenario.lab(settings)}
    config = parse(LabConfig, document, f"the scenario {scenario.name!r}")
    for text in missing(wanted).values():
        raise MissingError(text)
    with ExitStack() as held:
        directory = report or Path(held.enter_context(TemporaryDirectory(prefix="l4lab-")))
        directory.mkdir(parents=True, exist_ok=True)
        say(f"{scenario.name}: {scenario.title} (seed {seed})")
        say(speeds.in_words(speed))
        lab = held.enter_context(labs.own(config, on=on, say=say))
        captures = lab.captures(directory, scenario.capture, router=report is not None)
        with (
            begin(lab, settings, clients=wanted, say=say, seed=seed, captures=captures) as run,
            suppress(GaveUp),  # the expectation that failed says why
        ):
            scenario.play(run)
        return run.recording(
            name=scenario.name,
            title=scenario.title,
            intent=scenario.intent,
            settings={**config.model_dump(mode="json"), "scenario": settings},
            captures=report is not None,
        )


def _value(key: str, text: str, allowed: Choices | float) -> str | float:
    if isinstance(allowed, tuple):
        if text not in allowed:
            raise ValueError(f"{key} = {text!r}: {', '.join(allowed)} is allowed")
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{key} = {text!r}: a number is allowed") from None
