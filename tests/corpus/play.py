"""Plays a deploy of the corpus: a lab of its own, one rehearsal, and what clients and captures said of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netns.lab import state
from tests.corpus import judge
from tests.corpus.expect import VERDICTS, Expect, load

HERE: Final = Path(__file__).parent
SCRIPT_S: Final = 90.0
"""For a deploy's script: a corpus that waits for one that hangs plays nothing."""

TIMEOUT_S: Final = 240.0
"""For a whole rehearsal."""

L4LAB: Final = (sys.executable, "-m", "netns.cli")


def deploys() -> list[Path]:
    """The corpus: a directory each."""
    return sorted(path.parent for path in HERE.glob("*/expect.toml"))


@dataclass(frozen=True, slots=True)
class Played:
    """A deploy as it was rehearsed."""

    deploy: Path
    expect: Expect
    exit_code: int
    said: str
    """What `l4lab rehearse` wrote for people."""
    result: dict[str, Any]
    """Its JSON document; {} when there is none."""
    seconds: float
    logs: list[judge.Logged]
    wire: judge.Wire | None
    """None without a result."""

    @property
    def lost(self) -> int:
        """By the clients and the wire."""
        return len(judge.lost(self.logs, self.wire)) if self.wire else 0

    @property
    def objections(self) -> list[str]:
        """All that is wrong with the verdict, a sentence each."""
        found = self.expect.objections(self.exit_code, self.lost, self.result)
        if self.wire is None:
            return [*found, "there is no result"]
        if VERDICTS.get(self.exit_code) == "ill":  # nothing is explained then, and nothing is to be
            return found
        return found + judge.objections(self.result, self.logs, self.wire)

    @property
    def row(self) -> tuple[str, ...]:
        """A line of the table: name, verdict, requests, lost, causes, unexplained, seconds."""
        causes = ", ".join(f"{count} × {name}" for name, count in self.result.get("causes", {}).items())
        return (
            self.deploy.name,
            VERDICTS.get(self.exit_code, f"exit {self.exit_code}"),
            f"{len(self.logs):,}",
            f"{self.lost:,}",
            causes,
            str(self.result.get("unexplained", "")),
            f"{self.seconds:.0f}",
        )


def play(deploy: Path, report: Path) -> Played:
    """Rehearse it; `report` gets the captures."""
    expect = load(deploy / "expect.toml")
    lab = deploy / "lab.toml"
    where = ["-f", str(lab if lab.exists() else HERE / "lab.toml"), "--name", deploy.name]
    words = ["--clients", expect.clients, "--report", str(report), "--json"]
    words += ["--timeout", f"{SCRIPT_S:g}", *expect.options]
    words += ["--servers", expect.servers] if expect.servers else []
    with _up(deploy.name, where) as directory:
        began = time.monotonic()
        done = _run([*L4LAB, "rehearse", *where, *words, "--", *expect.command], cwd=deploy)
        seconds = time.monotonic() - began
        logs = judge.logged(directory / "programs")
    result = json.loads(done.stdout) if done.stdout else {}
    wire = judge.read(report, result["settings"]) if result else None
    logs = judge.of_run(logs, result) if result else logs
    return Played(deploy, expect, done.returncode, done.stderr, result, seconds, logs, wire)


@contextmanager
def _up(name: str, where: list[str]) -> Iterator[Path]:
    """The lab's directory. The logs are read while the lab is up: they go with it."""
    up = _run([*L4LAB, "up", *where])
    try:
        if up.returncode:
            raise RuntimeError(f"{name}: no lab: {up.stderr}")
        made = state.read(name)
        assert made is not None
        yield made.directory
    finally:
        made = state.read(name)
        for namespace in made.namespaces if made else ():
            _end_all_in(namespace)
        _run([*L4LAB, "down", "--name", name])


def _end_all_in(namespace: str) -> None:
    """End what a deploy started on a node by its own means: it is not in the state, so `down` leaves it."""
    pids = _run(["ip", "netns", "pids", namespace]).stdout.split()
    if pids:
        _run(["kill", "-KILL", *pids])


def _run(argv: list[str], cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    env = {name: text for name, text in os.environ.items() if not name.startswith("L4LAB_")}
    env["PYTHONPATH"] = str(HERE.parents[1])
    return subprocess.run(
        argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
