"""A run: what a scenario's `play(run)` can do, wait for, look at and expect.

Times are box seconds since the run began. Nothing here sleeps on a guess: `wait_until` has a condition and a
deadline, and `watch_for_s` lets box time pass where letting it pass is the step.
"""

from __future__ import annotations

import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from netns.clients.group import Clients, start_clients
from netns.clients.kinds import KINDS, Wanted
from netns.clients.log import Ended, Volume
from netns.clients.order import MAX_TIME_S, POST_EVERY, RATE, Order
from netns.errors import LabError
from netns.lab.interface import Lab, Recorder, Say
from netns.observe import kernels
from netns.observe.box import Watch
from netns.plan.topology import Role
from netns.play.acts import Acts
from netns.play.clock import RunClock
from netns.play.expect import Expect
from netns.record.recording import (
    Change,
    ClientGroup,
    Outcome,
    Recording,
    Request,
    ServerSample,
    Touch,
)
from netns.record.segments import Segment

POLL_S = 0.01
GRACE_S = 5.0
"""Real seconds that a wait is given beyond its box time: for this machine, not for the box."""


class GaveUp(Exception):
    """What was waited for did not come; the expectation that says so is recorded."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is fixed as a run begins."""

    at: datetime
    """UTC."""
    versions: Mapping[str, str]
    """Of what takes part, by name."""
    clock: RunClock
    counted: Mapping[str, Counter[str]]
    """The kernels' counters, by node; the router's do not matter."""
    watch: Watch
    """Not yet started."""

    @classmethod
    def now(cls, lab: Lab) -> Self:
        at = datetime.now(UTC)
        versions = {
            "l4box": lab.box.stats()["version"],
            "Linux": platform.release(),
            "Python": platform.python_version(),
            **lab.versions,
        }
        clock = RunClock.start(lab)
        counted = {
            node.name: kernels.counters(lab, node.name)
            for node in lab.plan.nodes
            if node.role is not Role.ROUTER
        }
        watch = Watch(lab, clock.monotonic, since=lab.box.stats()["last_event"])
        return cls(at, versions, clock, counted, watch)


@contextmanager
def begin(
    lab: Lab,
    settings: Mapping[str, Any],
    *,
    clients: Sequence[Wanted],
    say: Say,
    seed: int,
    captures: Mapping[str, Recorder],
) -> Iterator[Run]:
    """A run, begun: its captures, its clock and its watch run until it is finished, on leaving at the latest.

    `captures` are by node, and are not yet running.
    """
    with ExitStack() as held:
        for capture in captures.values():
            held.enter_context(capture)
        beginning = Beginning.now(lab)
        held.callback(beginning.watch.stop)
        beginning.watch.start()
        run = Run(lab, settings, beginning, clients=clients, say=say, seed=seed, captures=captures, held=held)
        try:
            yield run
        finally:
            run.finish()


class Run(Acts, Expect):
    """A run that has begun: its clients, what is waited for, and all that is recorded."""

    def __init__(
        self,
        lab: Lab,
        settings: Mapping[str, Any],
        beginning: Beginning,
        *,
        clients: Sequence[Wanted],
        say: Say,
        seed: int,
        captures: Mapping[str, Recorder],
        held: ExitStack,
    ) -> None:
        """`held` is closed as the run finishes: it ends the watch and the captures."""
        super().__init__(
            lab,
            settings,
            beginning.clock,
            say,
            events=beginning.watch.events,
            counted=beginning.counted,
            captures=captures,
        )
        self.groups: list[ClientGroup] = []
        self.random = random.Random(seed)  # noqa: S311 - of a moment, not of a secret
        self.figures["seed"] = seed
        self._beginning = beginning
        self._watch = beginning.watch
        self._wanted = clients
        self._running: list[Clients] = []
        self._held = held
        self._ended: float | None = None
        self._servers = {node.name for node in lab.plan.servers}

    def finish(self) -> float:
        """End the clients, the watch and the captures: what is recorded is all there is. Twice is fine.

        When the run ended: at the first call.
        """
        if self._ended is None:
            self._ended = self.now()
        for group in self._running:
            group.stop()
        if not self._watch.failed:
            self._watch.catch_up(self.lab.box.stats()["last_event"])
        self._read_clients()
        self._running.clear()
        self._held.close()
        return self._ended

    def segments(self, node: str) -> list[Segment]:
        """The TCP segments seen at the node, but for the box's health checks. The first call ends the run."""
        self.finish()
        if node not in self._segments:
            dropped = sum(point.dropped for point in self.captures[node].counted)
            if dropped:
                self.expect(f"the capture at {node} is whole", False, f"{dropped} packets came too fast")
        return super().segments(node)

    def recording(
        self,
        *,
        name: str,
        title: str,
        intent: str,
        settings: dict[str, Any],
        captures: bool,
        changes: tuple[Change, ...] = (),
        touches: tuple[Touch, ...] = (),
    ) -> Recording:
        """All that was recorded until now; the run ends with it. `captures`: their files are kept."""
        ended = self.finish()
        return Recording(
            name=name,
            title=title,
            intent=intent,
            started_at=self._beginning.at.isoformat(timespec="seconds"),
            speed=self.speed,
            ended=round(ended, 3),
            servers=tuple(node.name for node in self.lab.plan.servers),
            settings=settings,
            steps=tuple(self.steps),
            groups=tuple(self.groups),
            events=tuple(self.events()),
            requests=tuple(sorted(self.requests, key=lambda request: request.started)),
            samples=tuple(self.samples),
            expectations=tuple(self.expectations),
            figures=self.figures,
            versions=dict(self._beginning.versions),
            changes=changes,
            touches=touches,
            captures=tuple(capture.path.name for capture in self.captures.values()) if captures else (),
        )

    @property
    def samples(self) -> Sequence[ServerSample]:
        """Of every server, in the order in which they were taken."""
        return self._watch.samples

    # Clients

    def start_clients(self, service: str | None = None, *, rate: float = RATE) -> None:
        """Start the clients that the run was asked to have; `rate` is each one's, per real second.

        `service` is the virtual server of those that name none.
        """
        for wanted in self._wanted:
            asked = wanted.service or service
            self.start_group(wanted.kind.name, wanted.count, asked, name=wanted.group, rate=rate)

    def start_group(
        self,
        kind: str,
        count: int,
        service: str | None = None,
        *,
        name: str = "",
        rate: float = RATE,
        max_time_s: float = MAX_TIME_S,
        post_every: int = POST_EVERY,
        options: Sequence[str] = (),
    ) -> Clients:
        """Start clients of a virtual server, the first by default; an idle one has a connection open once it
        has had its first answer. Times are real; `options` are those of the kind's driver."""
        asked = self._service(service)
        host, port = str(asked.vip), asked.port
        order = Order(host, port, name or kind, count, rate, max_time_s, post_every)
        self.note(f"{count} {order.client} clients {'connect' if kind == 'idle' else 'start'}", "client")
        started = start_clients(self.lab, "client", KINDS[kind], order, options)
        self._running.append(started)
        self.groups.append(
            ClientGroup(order.client, kind, asked.name, count, rate, max_time_s, paced=KINDS[kind].asks_on)
        )
        return started

    def ask(self, group: Clients, within_s: float = 60) -> list[Request]:
        """Have each idle client make another request; those requests, when all of them have ended."""
        before = len(self.requests_of(group.name))
        self.note(f"every {group.name} client makes a request", "client")
        group.ask()
        self.wait_until(
            f"every {group.name} client's request has ended",
            lambda: len(self.requests_of(group.name)) >= before + len(group.names),
            within_s,
        )
        return self.requests_of(group.name)[before:]

    def vanish(self, group: Clients) -> None:
        """Have the clients be gone without a word."""
        self.note(f"the {group.name} clients vanish without a FIN or a RST", "client")
        group.vanish()
        self.wait_until(
            f"the {group.name} clients are gone",
            lambda: {end.client for end in self.ends if end.how == "vanished"} >= set(group.names),
            10,
        )

    def wait_until_settled(self, within_s: float) -> None:
        """Return when each client has been answered a request that it makes from now on."""
        since = self.now()
        waiting = {
            name
            for group in self._running
            if group.kind.asks_on and not group.stopped
            for name in group.names
        }

        def settled() -> bool:
            waiting.difference_update(
                request.client
                for request in self.requests
                if request.started >= since and request.outcome is Outcome.OK
            )
            return not waiting

        self.wait_until("every client is answered again", settled, within_s)

    def wait_until_all_answered(self, within_s: float = 120) -> None:
        """Return when each client has had an answer, the downloads' apart: theirs never ends."""
        waiting = {name for group in self._running if group.kind.answered for name in group.names}
        seen = 0

        def all_answered() -> bool:
            nonlocal seen
            waiting.difference_update(request.client for request in self.requests[seen:])
            seen = len(self.requests)
            return not waiting

        self.wait_until("every client has had an answer", all_answered, within_s)

    def silent(self) -> set[str]:
        """The clients that log answers and have logged none."""
        expected = {name for group in self._running if group.kind.answered for name in group.names}
        return expected - {request.client for request in self.requests}

    def wait_until_connected(self, within_s: float = 120) -> None:
        """Return when each client that keeps its connection has one."""
        keep = {name for group in self._running if group.kind.keeps for name in group.names}
        self.wait_until(
            "every client has its connection", lambda: len(self.open_ends()) >= len(keep), within_s
        )

    # Waiting

    def wait_until(self, what: str, condition: Callable[[], object], within_s: float) -> None:
        """Return once `condition` holds; GaveUp, and a failed expectation, when it does not in time."""
        deadline = self.now() + within_s + GRACE_S * self.speed
        self.tell(f"… until {what}")
        while True:
            self.look()
            if condition():
                return
            if self.now() > deadline:
                self._check_clients()
                self.expect(what, False, f"not within {within_s:g} {self.unit}")
                raise GaveUp(what)
            time.sleep(POLL_S)

    def wait_for_state(
        self, server: str, state: str, within_s: float, *, since: float, service: str | None = None
    ) -> float:
        """When the box first gave the server that state, at `since` or later; waits until it does."""
        virtual_server = service or self.lab.config.services_of(server)[0].name

        def changes() -> list[float]:
            events = self.events("server_state", server=server, virtual_server=virtual_server, new=state)
            return [event["at"] for event in events if event["at"] >= since]

        self.wait_until(f"{server} is {state}", changes, within_s)
        self.tell(f"{server}: {state}", changes()[0])
        return changes()[0]

    def wait_until_drained(self, server: str, within_s: float = 30) -> set[str]:
        """Return once no client has a connection that the box has a session of the server for.

        The clients' ends of the sessions that are left: the server's kernel has reset those clients, which
        the box, as it sees no packet from server to client, can't know. They are left until aging.
        """

        def left() -> dict[str, str]:
            return {row["client"]: row["state"] for row in self.table(server)}

        def drained() -> bool:
            sessions = left()
            return "FIN" not in sessions.values() and not sessions.keys() & {
                socket.local
                for node in self.lab.plan.of(Role.CLIENT)
                for socket in self.sockets(node.name)
                if socket.state != "TIME-WAIT"
            }

        self.wait_until(f"no client has a session of {server}", drained, within_s)
        self.note(f"no client has a session of {server} any more", "box")
        return set(left())

    def watch_for_s(self, span_s: float, why: str) -> None:
        """Let that much box time pass."""
        end = self.now() + span_s
        self.tell(f"… {span_s:.1f} {self.unit} to {why}")
        while self.now() < end:
            self.look()
            time.sleep(POLL_S)

    def wait_for_random_phase(self, server: str) -> None:
        """Wait for a moment of the server's health interval that the run's seed picks (SPEC §4)."""
        self.wait_for_phase(server, self.random.uniform(0, self._interval_s(server)))

    def wait_for_phase(self, server: str, phase_s: float) -> None:
        """Wait for the moment that is so long after a health check of the server."""
        interval_s = self._interval_s(server)
        row = next(row for row in self.lab.box.servers() if row["name"] == server)
        wait_s = (phase_s - (interval_s - row["next_check_in_s"])) % interval_s
        self.figures.setdefault("phase after a health check, box s", round(phase_s, 1))
        self.watch_for_s(wait_s, f"be {phase_s:.1f} {self.unit} after a health check of {server}")

    def _interval_s(self, server: str) -> float:
        return self.lab.config.services_of(server)[0].health_check.interval_s

    def _check_clients(self) -> None:
        """LabError with their words when clients have ended by themselves."""
        for group in self._running:
            if not group.stopped and not group.running:
                raise LabError(
                    f"the {group.name} clients have ended; they say:\n" + "\n".join(group.unread[-9:])
                )

    def look(self) -> None:
        """Take in what has come of the clients; LabError when the lab can't be watched any more."""
        self._watch.check()
        self._read_clients()

    def _read_clients(self) -> None:
        for group in self._running:
            for logged in group.read():
                match logged:
                    case Request():
                        started = self.clock.monotonic(logged.started)
                        ended = self.clock.monotonic(logged.ended)
                        # An image that is not the lab's need not say who answers: the wire knows.
                        server = logged.server if logged.server in self._servers else ""
                        self.requests.append(replace(logged, started=started, ended=ended, server=server))
                    case Ended():
                        self.ends.append(replace(logged, time=self.clock.monotonic(logged.time)))
                    case Volume():
                        self.figures[logged.client] = asdict(logged)
