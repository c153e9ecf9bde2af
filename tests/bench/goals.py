"""What we want of the box, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import work
from tests.bench.contenders import HAPROXY, KERNEL, NONE, REFERENCE, SCAPY
from tests.bench.results import Run

Value = Callable[[Run], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    limit: float
    at_least: bool
    """Else at most."""
    unit: str
    value: Value

    def met(self, run: Run) -> bool | None:
        """None when it was not measured."""
        found = self.value(run)
        if found is None:
            return None
        return found >= self.limit if self.at_least else found <= self.limit


def _ratio(name: str, to: str) -> Value:
    figure = next(one.figure for one in work.ALL if one.name == name)

    def value(run: Run) -> float | None:
        found = run.ratio(name, KERNEL.name, to, figure)
        return found.median if found else None

    return value


def _alone(name: str, figure: str) -> Value:
    def value(run: Run) -> float | None:
        found = run.alone(name, figure)
        return found.median if found else None

    return value


def _quotient(name: str, above: str, below: str) -> Value:
    def value(run: Run) -> float | None:
        one, other = run.alone(name, above), run.alone(name, below)
        return one.median / other.median if one and other and other.median > 0 else None

    return value


def _faster(what: str, name: str, limit: float, to: str) -> Goal:
    titles = {
        HAPROXY.name: "HAProxy",
        NONE.name: "no box",
        REFERENCE.name: "C reference",
        SCAPY.name: "scapy",
    }
    return Goal(f"{what}, against {titles[to]}", limit, True, "×", _ratio(name, to))


def _pause(phase: str) -> Goal:
    return Goal(
        f"longest pause with a full table: {phase}", 20, False, "ms", _alone("full", f"pause_{phase}_ms")
    )


ALL = (
    _faster("keep-alive requests, 64 connections", "keep-alive 64", 1.0, HAPROXY.name),
    _faster("keep-alive requests, 64 connections", "keep-alive 64", 0.85, NONE.name),
    _faster("keep-alive requests, 1 connection", "keep-alive 1", 1.0, HAPROXY.name),
    _faster("keep-alive requests, 1 connection", "keep-alive 1", 0.85, NONE.name),
    _faster("new connections", "connections", 1.5, HAPROXY.name),
    _faster("new connections", "connections", 0.8, NONE.name),
    _faster("download", "download", 1.7, HAPROXY.name),
    _faster("download", "download", 0.95, NONE.name),
    _faster("upload", "upload", 2.4, HAPROXY.name),
    _faster("upload", "upload", 0.8, NONE.name),
    Goal("p99 latency at half load, against HAProxy", 1.0, False, "×", _ratio("latency", HAPROXY.name)),
    _faster("40-byte packets, 1,000 flows", "packets 1000", 0.85, REFERENCE.name),
    _faster("40-byte packets, 100,000 flows", "packets 100000", 0.85, REFERENCE.name),
    _faster("40-byte packets, 1,000 flows", "packets 1000", 15, SCAPY.name),
    Goal("memory of a session, daemon", 250, False, "bytes", _alone("full", "daemon_bytes_per_session")),
    *map(_pause, ("insert", "packets", "api", "reload", "aging")),
    Goal("RSTs a second in a burst", 100_000, True, "/s", _alone("storm burst", "per_s")),
    Goal(
        "paced storm: another VIP's p99, against its quiet p99",
        1.5,
        False,
        "×",
        _quotient("storm paced", "storm_p99_us", "quiet_p99_us"),
    ),
    Goal("l4box run until it answers", 1.0, False, "s", _alone("starts", "box_s")),
    Goal("l4lab up, 5 nodes", 3.0, False, "s", _alone("starts", "lab_s")),
    Goal("l4box --help", 0.3, False, "s", _alone("starts", "help_s")),
    Goal(
        "packets/s with a full table, against 1,000 sessions",
        0.8,
        True,
        "×",
        _quotient("full", "many_per_s", "few_per_s"),
    ),
)
