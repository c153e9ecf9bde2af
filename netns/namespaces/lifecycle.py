"""A lab of namespaces, from its beginning to its end: `up` makes it, `remove` undoes what its state says."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from netns import web
from netns.errors import LabError, MissingError
from netns.lab import box, processes, state
from netns.lab.interface import Say, quiet
from netns.lab.state import Ledger, State
from netns.linux import process
from netns.linux.programs import installed
from netns.namespaces import delay, network
from netns.namespaces.lab import NamespaceLab
from netns.namespaces.status import look
from netns.plan.config import LabConfig
from netns.plan.topology import plan

PROGRAMS = {"nft": "nftables", "nsenter": "util-linux", "setsid": "util-linux"}
"""What `up` can't do without, and the Debian packages it is in."""


def up(config: LabConfig, *, wait: bool = True, say: Say = quiet) -> NamespaceLab:
    """Make the lab and return it when every server is bound (`wait=False`: when the box answers).

    A running lab of the same configuration is returned as it is. ConfigError, MissingError or LabError when
    it can't be made or is there otherwise; what was made by then is removed again. A lab whose servers do not
    get bound in time stays up, to be looked at.
    """
    began = time.monotonic()
    for program, package in PROGRAMS.items():
        if installed(program) is None:
            raise MissingError(f"{program} is not installed: `apt-get install {package}`")
    box_config = config.box_config()
    decided = web.decide(config)
    with state.lock(config.name, partial(say, f"waiting for another command on the lab {config.name!r}")):
        existing = state.read(config.name)
        if existing is not None:
            return _already(existing, config, say)
        for warning in box_config.warnings():
            say(f"warning: {warning}")
        _make(decided, config, say)
    lab = open_lab(config.name)
    if wait:
        lab.wait_until_bound(say)
    say(f"the lab {config.name!r} is up ({time.monotonic() - began:.1f} s)")
    return lab


def open_lab(name: str) -> NamespaceLab:
    """The running lab of that name; LabError when there is none or it is not whole."""
    existing = state.read(name)
    if existing is None:
        others = [other for other in state.names() if other != name]
        hint = f"there is {', '.join(others)}: --name" if others else f"`l4lab up --name {name}` makes it"
        raise LabError(f"the lab {name!r} is not up ({hint})")
    if existing.on != state.NAMESPACES:
        raise LabError(f"the lab {name!r} is not made of namespaces: {existing.on}; `l4lab down` ends it")
    if not existing.ready:
        raise LabError(
            f"the lab {name!r} is half made: its `up` is still at it, or was killed and "
            f"`l4lab down --name {name}` clears it"
        )
    return NamespaceLab(existing)


def _already(existing: State, asked: LabConfig, say: Say) -> NamespaceLab:
    lab = open_lab(existing.name)
    refuse_contradictions(asked, existing)
    problems = look(existing).problems
    if problems:
        raise LabError(f"the lab {existing.name!r} is up already, but not whole: " + "; ".join(problems))
    say(f"the lab {existing.name!r} is up already")
    return lab


def refuse_contradictions(asked: LabConfig, made: State) -> None:
    """LabError where the lab was made otherwise than is asked for now; what is not asked for is no matter."""
    different = _contradictions(asked.model_dump(mode="json", exclude_unset=True), made.asked)
    if different:
        raise LabError(
            f"the lab {made.name!r} is up with other settings ({'; '.join(different)}): "
            f"`l4lab down --name {made.name}` first, leave these settings out, or choose another --name"
        )


def _contradictions(asked: Any, made: Any, path: str = "") -> list[str]:
    """Where what is asked for is not so, in words: "speed is 10, not 1"."""
    if isinstance(asked, dict) and isinstance(made, dict):
        return [
            text
            for key, value in asked.items()
            for text in _contradictions(value, made.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(asked, list) and isinstance(made, list) and len(asked) == len(made):
        return [
            text
            for number, (one, other) in enumerate(zip(asked, made, strict=True))
            for text in _contradictions(one, other, f"{path}[{number}]")
        ]
    if asked == made:
        return []
    plain = not isinstance(asked, dict | list) and not isinstance(made, dict | list)
    return [f"{path} is {made}, not {asked}" if plain else f"{path} differs"]


def _make(config: LabConfig, asked: LabConfig, say: Say) -> None:
    """Make all of the lab, or nothing. `config` is `asked` with each server's web server decided."""
    planned = plan(config)
    directory = state.RUN / config.name
    if directory.exists():
        raise LabError(f"{directory} is there already, and no lab's state file says whose it is")
    if box.listening(config.name):
        raise LabError(f"a box named {config.name!r} runs already, outside of any lab: choose another --name")
    with ExitStack() as undo:
        ledger = Ledger(
            State(config.name, config=config.model_dump(mode="json"), asked=asked.model_dump(mode="json"))
        )
        undo.callback(remove, ledger, say)
        ledger.ready(False)
        directory.mkdir(mode=0o755)
        say(f"making {len(planned.nodes)} namespaces {config.name}-…")
        network.build(planned, ledger, offload=config.offload)
        if config.delay_ms:
            delay.start(planned, config.delay_ms, directory, partial(ledger.process, delay.ROLE))
        say("starting the web servers and the box")
        servers = []
        for node in planned.servers:
            served = web.of(config, node.name, directory / node.name)
            web.make_files(served)
            record = partial(ledger.process, f"web {node.name}")
            servers.append((served, web.start(served, node.namespace, record)))
        box.write_configuration(config.box_config(), directory / "box.toml")
        box.start(config.name, planned.box.namespace, directory, partial(ledger.process, "box"))
        for served, started in servers:
            web.require_foreground(served, started)
        ledger.ready(True)
        undo.pop_all()


def remove(ledger: Ledger, say: Say) -> None:
    """Undo what the state says; whatever of it is gone already is fine."""
    ledger.ready(False)
    processes.end_all(ledger)
    box.remove_leftovers(ledger.state.name)
    for name, inode in ledger.state.namespaces.items():
        for pid, program in process.in_namespace(inode):
            say(f"left alone: {program} (pid {pid}) runs on in what was {name}")
    for name in network.remove(ledger):
        say(f"left alone: the namespace {name} is not the one this lab made")
    state.forget_all(ledger.state)
