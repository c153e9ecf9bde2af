"""What this machine did to a run: how late its clients, the box and its checks were. Pure; times are real.

A run on a machine that has no time for it loses requests, or makes too few of them, for no fault of the
deploy's. So it is measured, by what should have happened when.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

from netns.analysis.findings import lacks
from netns.record.recording import Recording, group_of

PACING_S: Final = 0.5
"""One request in a hundred may leave so late: five times what was measured with both cores at work."""
LOOP_S: Final = 0.5
"""So much may the box's event loop lag, at the 99th percentile."""
NOT_CHECKED: Final = frozenset({"DISABLED", "ENABLED", "SHUTDOWN"})
"""States in which the box makes no checks, or none yet."""

CHECK_S: Final = 1.0
"""So late may a health check begin."""


@dataclass(frozen=True, slots=True)
class Busy:
    """None where there is nothing to tell it by."""

    pacing_s: float | None = None
    """By how much clients' requests left late, 99th percentile."""
    loop_s: float | None = None
    """By how much the box's event loop was late, 99th percentile."""
    check_s: float | None = None
    """By how much the latest health check was."""
    missed: int = 0
    """Checks that timed out though the server lacked nothing, and answered clients meanwhile."""
    cpu_pressure: float | None = None
    """Share of the run in which some task waited for a CPU (/proc/pressure/cpu)."""

    @property
    def words(self) -> str:
        """What was over its limit, with the figures; "" for nothing."""
        found = []
        if self.pacing_s is not None and self.pacing_s > PACING_S:
            found.append(f"1 request in 100 left {self.pacing_s:.2f} s late or more")
        if self.loop_s is not None and self.loop_s > LOOP_S:
            found.append(f"the box's event loop was {self.loop_s:.2f} s late in 1 of 100 turns")
        if self.check_s is not None and self.check_s > CHECK_S:
            found.append(f"a health check began {self.check_s:.2f} s late")
        if self.missed and found:  # alone it is an app whose health page hangs
            found.append(f"{self.missed} health checks timed out of servers that answered their clients")
        if found and self.cpu_pressure is not None:
            found.append(f"tasks waited for a CPU {self.cpu_pressure:.0%} of the time")
        return ", ".join(found)

    def figures(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure(
    recording: Recording,
    loop: tuple[Mapping[str, Any], Mapping[str, Any]],
    cpu_before_s: float | None,
    cpu_after_s: float | None,
) -> Busy:
    """`loop`: the box's `loop_lag` (docs/json.md) at the run's begin and at its end; `cpu_…_s`: for how long
    tasks had waited for a CPU by then."""
    real_s = recording.ended / recording.speed
    waited = None if cpu_before_s is None or cpu_after_s is None else cpu_after_s - cpu_before_s
    checks = list(_late_checks(recording))
    return Busy(
        pacing_s=_percentile(sorted(_late_requests(recording)), 0.99),
        loop_s=_loop_s(*loop),
        check_s=max(checks, default=None),
        missed=sum(_missed(recording)),
        cpu_pressure=None if waited is None or not real_s else min(1.0, waited / real_s),
    )


def _late_requests(recording: Recording) -> Iterator[float]:
    """How late each request left, which is due a period after the one before, or when that has ended."""
    rates = {group.name: group.rate for group in recording.groups if group.paced}
    of = defaultdict(list)
    for one in recording.requests:
        if group_of(one.client) in rates:
            of[one.client].append(one)
    for client, requests in of.items():
        period = recording.speed / rates[group_of(client)]
        for before, one in pairwise(requests):
            due = max(before.started + period, before.ended)
            yield max(0.0, one.started - due) / recording.speed


def _late_checks(recording: Recording) -> Iterator[float]:
    """How late each health check began, an interval after the one before."""
    checks = _settings(recording)
    began: dict[tuple[str, str], float] = {}
    for event in recording.events:
        key = event.get("virtual_server", ""), event.get("server", "")
        if event["kind"] == "server_state" and event["new"] in NOT_CHECKED:
            began.pop(key, None)
        elif event["kind"] == "probe" and key[0] in checks:
            if key in began:
                late = _began(event) - began[key] - checks[key[0]]["interval_s"]
                yield max(0.0, late) / recording.speed
            began[key] = _began(event)


def _missed(recording: Recording) -> Iterator[bool]:
    """Whether each check that timed out did so while its server answered others, and lacked nothing."""
    checks = _settings(recording)
    for event in recording.events:
        if event["kind"] != "probe" or event["outcome"] != "miss" or event["virtual_server"] not in checks:
            continue
        began, ended, server = _began(event), event["at"], event["server"]
        lacked = any(lack.began <= ended and began <= lack.ended for lack in lacks(recording, server))
        if not lacked and ended - began >= checks[event["virtual_server"]]["timeout_s"]:
            yield any(
                one.server == server and began < one.started and one.ended < ended
                for one in recording.requests
            )


def _settings(recording: Recording) -> dict[str, Mapping[str, Any]]:
    """The health check's settings of each virtual server."""
    return {one["name"]: one["health_check"] for one in recording.settings["virtual_server"]}


def _began(probe: Mapping[str, Any]) -> float:
    """When a check began, in the run's time: the event has that in the box's."""
    return float(probe["at"] - (probe["box_time"] - probe["began"]))


def _loop_s(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """The upper bound of the bucket with the 99th percentile of what came between; None for no reading.

    Each reading counts the beats up to each bound, and all of them.
    """
    if not before or not after or after["beats"] <= before["beats"]:
        return None
    enough = 0.99 * (after["beats"] - before["beats"])
    for bound, early, late in zip(after["upper_bounds_s"], before["counts"], after["counts"], strict=True):
        if late - early >= enough:
            return float(bound)
    return float(after["worst_s"])


def _percentile(values: Sequence[float], share: float) -> float | None:
    return values[min(len(values) - 1, int(share * len(values)))] if values else None
