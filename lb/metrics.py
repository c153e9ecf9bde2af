"""What the box counts, in Prometheus' text format. Each metric is described in docs/metrics.md.

Labels are virtual servers, real servers and closed sets of words; never a client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily as Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from lb.core.box import Box
from lb.core.events import ResetReason
from lb.core.health import Outcome, ServerState
from lb.core.packet import Drop
from lb.core.session_resets import Outcome as ResetOutcome
from lb.lag import LoopLag

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

ANSWERED: Final = (Drop.NO_ENTRY, Drop.NO_SERVER, Drop.TABLE_FULL)
"""Why a packet can have been answered with a RST."""

FOLLOWED: Final = (ResetReason.PORT_FAIL, ResetReason.ADMINISTRATOR, ResetReason.DRAIN)
"""Why a session can have been reset on either side and followed up; one that aged out is only told of."""

_SERVER = ("virtual_server", "server")


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Packets between the kernel and the box, since the daemon started."""

    waiting: int = 0
    """In the netfilter queue now."""
    dropped_full: int = 0
    """Dropped by the kernel, because the queue was full."""
    dropped_user: int = 0
    """Dropped by the kernel, because the daemon's socket had no room."""
    received: int = 0
    batches: int = 0
    """Times the queue was drained; `received / batches` is the mean batch."""
    injected: int = 0
    """Packets of the box's own that were sent."""
    injection_failures: Mapping[str, int] = field(default_factory=dict)
    """Packets of the box's own that could not be sent, by the error's name, as in errno(3)."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one scrape looks at.

    `checks`: health checks ended, by virtual server, server and outcome. `checks_not_made`: those that the
    box could not make, by the error's name, as in errno(3). `resetting`: sessions that are still to be reset,
    by virtual server and server.
    """

    box: Box
    queue: QueueStatistics
    lag: LoopLag
    checks: Mapping[tuple[str, str, str], int]
    checks_not_made: Mapping[str, int]
    resetting: Mapping[tuple[str, str], int]
    speed: float
    started: float
    """Unix seconds."""
    version: str


def exposition(readings: Readings) -> bytes:
    """The text of a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(readings))
    return generate_latest(registry)


class _Scrape(Collector):
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        yield from _daemon(self._readings)
        yield from _packets(self._readings.box)
        yield from _resets(self._readings.box)
        yield from _servers(self._readings)
        yield from _queue(self._readings.queue)

    def describe(self) -> list[Metric]:
        return []


def _daemon(readings: Readings) -> Iterator[Metric]:
    build = Gauge("l4box_build_info", "The version that runs; always 1.", labels=("version",))
    build.add_metric((readings.version,), 1)
    yield build
    yield Gauge("l4box_start_time_seconds", "When the daemon started, Unix time.", readings.started)
    yield Gauge("l4box_speed_ratio", "Box seconds per real second.", readings.speed)
    lag = readings.lag
    bounds = [*map(floatToGoString, lag.upper_bounds_s), "+Inf"]
    yield Histogram(
        "l4box_loop_lag_seconds",
        "How late the event loop runs what is due, real seconds.",
        buckets=list(zip(bounds, [*lag.counts, lag.beats], strict=True)),
        sum_value=lag.sum_s,
    )


def _packets(box: Box) -> Iterator[Metric]:
    yield Counter("l4box_packets_forwarded", "Packets sent on to a real server.", box.forwarded)
    dropped = Counter("l4box_packets_dropped", "Packets not forwarded.", labels=("reason",))
    for reason in Drop:
        dropped.add_metric((reason.value,), box.dropped[reason])
    yield dropped
    yield Gauge("l4box_sessions", "Sessions in the table.", len(box.table))
    yield Gauge("l4box_sessions_limit", "Sessions the table takes.", box.table.limit)


def _resets(box: Box) -> Iterator[Metric]:
    resets = Counter("l4box_resets", "RSTs sent.", labels=("reason", "side"))
    for answered in ANSWERED:
        resets.add_metric((answered.value, "client"), box.resets[answered])
    for reason in ResetReason:
        for side in ("client", "server") if reason in FOLLOWED else ("client",):
            resets.add_metric((reason.value, side), box.session_resets.sent[reason, side])
    yield resets
    outcomes = Counter(
        "l4box_reset_outcomes", "What became of resets that were followed up.", labels=("reason", "outcome")
    )
    for reason in FOLLOWED:
        for outcome in ResetOutcome:
            outcomes.add_metric((reason.value, outcome.value), box.session_resets.outcomes[reason, outcome])
    yield outcomes
    yield Counter("l4box_syn_probes", "SYNs sent to draw a challenge ACK.", box.session_resets.probes)
    yield Gauge("l4box_tombstones", "Sessions that were reset and are remembered.", box.table.tombstones)


def _servers(readings: Readings) -> Iterator[Metric]:
    sessions = Gauge("l4box_server_sessions", "Sessions of a real server.", labels=_SERVER)
    resetting = Gauge(
        "l4box_server_sessions_resetting", "Sessions of a real server still to be reset.", labels=_SERVER
    )
    flows = Counter("l4box_server_flows", "New flows given to a real server.", labels=_SERVER)
    bound = Gauge("l4box_server_bound", "1 while a real server gets new flows.", labels=_SERVER)
    state = Gauge(
        "l4box_server_state",
        "1 for the state a real server is in, 0 for the others.",
        labels=(*_SERVER, "state"),
    )
    checks = Counter("l4box_health_checks", "Health checks ended.", labels=(*_SERVER, "outcome"))
    for server in readings.box.services.servers.values():
        names = (server.service.name, server.name)
        sessions.add_metric(names, server.sessions)
        resetting.add_metric(names, readings.resetting.get(names, 0))
        flows.add_metric(names, server.flows)
        bound.add_metric(names, server.bound)
        for each in ServerState:
            state.add_metric((*names, each.value), server.state is each)
        for outcome in Outcome:
            checks.add_metric((*names, outcome.value), readings.checks.get((*names, outcome.value), 0))
    not_made = Counter(
        "l4box_health_checks_not_made", "Health checks that the box could not make.", labels=("error",)
    )
    for error, number in sorted(readings.checks_not_made.items()):
        not_made.add_metric((error,), number)
    yield from (sessions, resetting, flows, bound, state, checks, not_made)


def _queue(queue: QueueStatistics) -> Iterator[Metric]:
    yield Gauge("l4box_queue_waiting_packets", "Packets in the netfilter queue.", queue.waiting)
    yield Counter("l4box_queue_received_packets", "Packets taken from the netfilter queue.", queue.received)
    yield Counter("l4box_queue_batches", "Times the netfilter queue was drained.", queue.batches)
    dropped = Counter(
        "l4box_queue_dropped_packets",
        "Packets the kernel dropped at the netfilter queue.",
        labels=("reason",),
    )
    dropped.add_metric(("full",), queue.dropped_full)
    dropped.add_metric(("no_buffer",), queue.dropped_user)
    yield dropped
    yield Counter("l4box_injected_packets", "Packets of the box's own that were sent.", queue.injected)
    failed = Counter(
        "l4box_injection_failures", "Packets of the box's own that could not be sent.", labels=("error",)
    )
    for error, number in sorted(queue.injection_failures.items()):
        failed.add_metric((error,), number)
    yield failed
