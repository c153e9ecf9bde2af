"""Measures what kinds of web servers do to their clients when they are stopped: in a lab, by real clients.

Each kind has a server and two virtual servers of its own, one checked at L7 and one at L4. So they can be
measured side by side, and no client of one is scheduled to another.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lb.config import parse
from netns import labs
from netns.analysis.stop_pattern import StopPattern, stop_pattern
from netns.clients.drivers.curl import LARGE, LARGE_RATE
from netns.errors import LabError
from netns.lab.interface import Say
from netns.namespaces.lab import NamespaceLab
from netns.observe.servers import ServerWatch
from netns.plan import speeds
from netns.plan.config import LabConfig
from netns.play.run import GaveUp, Run, begin
from netns.record.recording import Change, Fact
from netns.web import StopSignal

NAME = "stops"

IDLE, BUSY, NEW, DOWNLOADS = 8, 2, 1, 3
"""Clients of each server: idle connections; busy ones; clients that open one for each request; downloads."""

RATE: Final = 5
"""Requests a second of each client."""

DOWNLOAD_S: Final = 4
"""Real seconds that one lasts, at its limited rate; another follows it over the same connection."""

SENT: Final = "IpExtOutOctets"
"""nstat's name for the bytes that a node has sent."""

SEND_BUFFER: Final = "4096 16384 65536"
"""tcp_wmem of a server: what a download still has to send waits in the program, and not in its kernel."""

POLL_S: Final = 0.02

AFTERWARDS_S: Final = 4.0
"""Real seconds of looking on after the end: two checks that miss make a server FAILED within one of them."""

PATIENCE_S: Final = 45.0
"""Real seconds of looking on at a server that does not end, or at what a killed main process leaves: gunicorn
gives up after 30."""


@dataclass(frozen=True, slots=True)
class HealthAfterStop:
    """What a health check said of a server after it was told to stop."""

    good_s: float | None
    """Real seconds after that until its last success; None: none succeeded any more."""
    state: str
    """The box's word at the end."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One stop of one kind."""

    kind: str
    version: str
    how: str
    """StopSignal's name for it."""
    signal: str
    left: int
    """Processes that were there when its main process had ended."""
    pattern: StopPattern
    l4: HealthAfterStop
    l7: HealthAfterStop


def configuration(kinds: Sequence[str], name: str = NAME) -> LabConfig:
    """A lab with a server of each kind, named after it."""
    services: list[dict[str, Any]] = []
    for number, kind in enumerate(kinds):
        for layer, address in (("l7", f"192.0.2.{10 + number}"), ("l4", f"198.51.100.{10 + number}")):
            services.append(
                {
                    "name": f"{kind}-{layer}",
                    "address": address,
                    "port": 80,
                    "dscp": len(services) + 1,
                    "servers": [kind],
                    # On a busy machine a server in good health must not miss its check.
                    "health_check": {"kind": layer, "timeout_s": 10},
                }
            )
    servers = [{"name": kind, "web": kind} for kind in kinds]
    document = {"name": name, "speed": speeds.SCENARIO, "server": servers, "virtual_server": services}
    return parse(LabConfig, document, "the lab of the measurement")


def measure(kind: str, how: StopSignal, *, say: Say) -> Measured:
    """Measure one stop of one kind, in a lab of its own that is down again at the end, whatever happens."""
    with labs.own(configuration([kind]), say=say) as lab:
        (measured,) = measure_in(lab, how, say=say)
        return measured


def measure_in(
    lab: NamespaceLab, how: StopSignal, *, patience_s: float = PATIENCE_S, say: Say
) -> list[Measured]:
    """Measure a stop of every server of a lab of `configuration` that is up, all at the same time.

    `patience_s`: real seconds of looking on at a server that does not end.
    """
    with ExitStack() as held:
        directory = Path(held.enter_context(TemporaryDirectory(prefix="l4lab-")))
        captures = {
            node.name: lab.capture([node.name], directory / f"{node.name}.pcapng", expression="tcp")
            for node in lab.plan.servers
        }
        run = held.enter_context(begin(lab, {}, clients=(), say=say, seed=0, captures=captures))
        stops = [_Stop(lab, run, server, how, patience_s) for server in captures]
        watch = ServerWatch(lab, run.clock.monotonic)
        held.callback(watch.stop)
        watch.start()
        try:
            _start_clients(run, list(captures))
        except GaveUp as error:
            raise LabError(f"the clients do not get going: {error}") from error
        run.note(f"every server is told to stop: {how.value}")
        for stop in stops:
            stop.start()
            held.callback(stop.finish)
        _look_on(run, stops)
        until = run.now()
        for stop in stops:
            stop.finish()
        run.finish()
        watch.check()
        return [_measured(run, watch.changes, stop, until) for stop in stops]


def _start_clients(run: Run, servers: Sequence[str]) -> None:
    """Start all clients, and return when each has been answered and the downloads are under way."""
    for server in servers:
        run.lab.run(server, ["sysctl", "-qw", f"net.ipv4.tcp_wmem={SEND_BUFFER}"], check=True)
        with (run.lab.root(server) / LARGE).open("wb") as file:
            file.truncate(DOWNLOAD_S * LARGE_RATE)
        for kind, count in (("idle", IDLE), ("curl", BUSY), ("curl-new", NEW)):
            _start_group(run, server, kind, count)
    run.wait_until_all_answered()
    before = {server: run.counted(server)[SENT] for server in servers}
    for server in servers:
        _start_group(run, server, "curl-download", DOWNLOADS)
    some = DOWNLOADS * LARGE_RATE // 2  # half a second's
    run.wait_until(
        "the downloads are under way",
        lambda: all(run.counted(server)[SENT] > before[server] + some for server in servers),
        60,
    )


def _start_group(run: Run, server: str, kind: str, count: int) -> None:
    run.start_group(kind, count, f"{server}-l7", name=f"{server}-{kind}", rate=RATE)


class _Stop:
    """A server being stopped, in a thread: what ends when is looked at as it happens."""

    def __init__(self, lab: NamespaceLab, run: Run, server: str, how: StopSignal, patience_s: float) -> None:
        self.server = server
        self.told = 0.0
        self.left = 0
        """Processes there when the main one had ended."""
        self.ended: float | None = None
        self.how = how
        self._lab = lab
        self._run = run
        self._patience_s = patience_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"stop {server}")

    def start(self) -> None:
        self._thread.start()

    @property
    def looking(self) -> bool:
        """Something of it runs, and may yet end."""
        return self._thread.is_alive()

    def finish(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        lab, role = self._lab, f"web {self.server}"
        told = lab.tell_to_stop(self.server, self.how)
        self.told = self._run.now() if told is None else self._run.clock.monotonic(told)
        give_up = time.monotonic() + self._patience_s
        try:
            lab.wait_until_stopped(self.server, self.how, timeout_s=self._patience_s)
        except LabError:
            return  # it still runs
        now = self._run.now()
        left = lab.running(role)
        self.left = len(left)
        while left and time.monotonic() < give_up and not self._over.wait(POLL_S):
            now = self._run.now()
            left = lab.running(role)
        self.ended = None if left else now


def _look_on(run: Run, stops: Sequence[_Stop]) -> None:
    """Return when every server has ended, or does not, and clients and box have had time to notice."""
    end = math.inf
    while time.monotonic() < end:
        run.look()
        if end == math.inf and not any(stop.looking for stop in stops):
            end = time.monotonic() + AFTERWARDS_S
            run.note("what was to end has ended, or does not; its clients and its checks are looked at")
        time.sleep(POLL_S)


def _measured(run: Run, changes: Sequence[Change], stop: _Stop, until: float) -> Measured:
    server, kind = stop.server, run.lab.kind(stop.server)
    gone = (
        change.time
        for change in changes
        if change.server == server
        and change.fact is Fact.LISTENING
        and not change.holds
        and change.time >= stop.told
    )
    pattern = stop_pattern(
        server,
        [request for request in run.requests if request.client.startswith(f"{server}-")],
        run.segments(server),
        told=stop.told,
        until=until,
        speed=run.speed,
        listener_gone=next(gone, None),
        ended=stop.ended,
    )
    return Measured(
        kind=kind.name,
        version=kind.version() or "",
        how=stop.how.value,
        signal=kind.signal(stop.how).name,
        left=stop.left,
        pattern=pattern,
        l4=_check(run, f"{server}-l4", stop, until),
        l7=_check(run, f"{server}-l7", stop, until),
    )


def _check(run: Run, service: str, stop: _Stop, until: float) -> HealthAfterStop:
    of = {"virtual_server": service, "server": stop.server}
    probes = run.events("probe", outcome="success", **of)
    good = [event["at"] for event in probes if stop.told < event["at"] <= until]
    states = [event["new"] for event in run.events("server_state", **of) if event["at"] <= until]
    return HealthAfterStop(
        (max(good) - stop.told) / run.speed if good else None, states[-1] if states else "ACTIVE"
    )
