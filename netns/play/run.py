"""A scenario being played: what its `play(run)` can do, wait for, look at and expect.

Times are box seconds since the run began. Nothing here sleeps on a guess: `wait_until` has a condition and a
deadline, and `watch_for_s` lets box time pass where letting it pass is the step.
"""

from __future__ import annotations

import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from netns.analysis.wording import seconds, unit
from netns.clients.group import Clients, start_clients
from netns.clients.kinds import KINDS, Wanted
from netns.clients.log import Ended, Volume
from netns.clients.order import MAX_TIME_S, POST_EVERY, RATE, Order
from netns.errors import LabError
from netns.lab.interface import Lab, Recorder, Say
from netns.observe import kernels
from netns.observe.box import Watch
from netns.observe.kernels import Served
from netns.plan.config import LabVirtualServer
from netns.plan.topology import Role
from netns.play.clock import RunClock
from netns.record import segments
from netns.record.recording import (
    HAS_ENDED,
    TOLD_TO_STOP,
    Change,
    ClientGroup,
    Expectation,
    Outcome,
    Recording,
    Request,
    Step,
    Touch,
    group_of,
)
from netns.record.segments import Segment
from netns.web import StopSignal

POLL_S = 0.01
GRACE_S = 5.0
"""Real seconds that a wait is given beyond its box time: for this machine, not for the box."""

SLACK_S = 0.05
"""Real seconds by which a measured time may be off: a check's and a process's own, on a busy machine."""


Span = tuple[float, float]
"""When something that was done began and ended, in the run's time."""


class GaveUp(Exception):
    """What was waited for did not come; the expectation that says so is recorded."""


class Run:
    """The lab, its clients, and all that is recorded of them."""

    def __init__(
        self,
        lab: Lab,
        settings: Mapping[str, Any],
        *,
        clients: Sequence[Wanted],
        say: Say,
        seed: int,
        captures: Mapping[str, Recorder],
    ) -> None:
        """`captures` are by node, and are not yet running."""
        self.lab = lab
        self.settings = settings
        self.random = random.Random(seed)  # noqa: S311 - of a moment, not of a secret
        self.steps: list[Step] = []
        self.requests: list[Request] = []
        self.ends: list[Ended] = []
        self.expectations: list[Expectation] = []
        self.figures: dict[str, Any] = {"seed": seed}
        self.captures = captures
        self._wanted = clients
        self._say = say
        self._groups: list[Clients] = []
        self.groups: list[ClientGroup] = []
        self._held = ExitStack()
        self._segments: dict[str, list[Segment]] = {}
        self._ended = 0.0
        self._servers = {node.name for node in lab.plan.servers}

    def begin(self) -> None:
        """Start the captures, the clock and the watch."""
        for capture in self.captures.values():
            self._held.enter_context(capture)
        self._started_at = datetime.now(UTC)
        self._versions = {
            "l4box": self.lab.box.stats()["version"],
            "Linux": platform.release(),
            "Python": platform.python_version(),
            **self.lab.versions,
        }
        self.clock = RunClock.start(self.lab)
        self._before = {
            node.name: kernels.counters(self.lab, node.name)
            for node in self.lab.plan.nodes
            if node.role is not Role.ROUTER
        }
        since = self.lab.box.stats()["last_event"]
        self._watch = Watch(self.lab, self.clock.monotonic, since=since)
        self._held.callback(self._watch.stop)
        self._watch.start()

    def finish(self) -> None:
        """End the clients, the watch and the captures: what is recorded is all there is. Twice is fine."""
        if hasattr(self, "clock") and not self._ended:
            self._ended = self.now()
        for group in self._groups:
            group.stop()
        if hasattr(self, "_watch"):
            if not self._watch.failed:
                self._watch.catch_up(self.lab.box.stats()["last_event"])
            self._read_clients()
        self._groups.clear()
        self._held.close()

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
        self.finish()
        return Recording(
            name=name,
            title=title,
            intent=intent,
            started_at=self._started_at.isoformat(timespec="seconds"),
            speed=self.speed,
            ended=round(self._ended, 3),
            servers=tuple(node.name for node in self.lab.plan.servers),
            settings=settings,
            steps=tuple(self.steps),
            groups=tuple(self.groups),
            events=tuple(self.events()),
            requests=tuple(sorted(self.requests, key=lambda request: request.started)),
            samples=tuple(self.samples),
            expectations=tuple(self.expectations),
            figures=self.figures,
            versions=self._versions,
            changes=changes,
            touches=touches,
            captures=tuple(one.path.name for one in self.captures.values()) if captures else (),
        )

    @property
    def samples(self) -> list[Any]:
        return self._watch.samples

    @property
    def speed(self) -> float:
        return self.clock.speed

    @property
    def slack_s(self) -> float:
        """SLACK_S in box seconds."""
        return SLACK_S * self.speed

    def now(self) -> float:
        return self.clock.now()

    @property
    def unit(self) -> str:
        """Of the run's times, for texts: "s" at speed 1, else "box s"."""
        return unit(self.speed)

    def seconds(self, time_s: float) -> str:
        """A time of the run in words, with its unit."""
        return seconds(time_s, self.speed)

    def tell(self, text: str, at: float | None = None) -> None:
        """Say what happens, with its time in the run: now, unless told otherwise."""
        time_s = self.now() if at is None else at
        self._say(f"{time_s:8.1f} {self.unit}  {text}")

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
        self._step(f"{count} {order.client} clients {'connect' if kind == 'idle' else 'start'}", "client")
        started = start_clients(self.lab, "client", KINDS[kind], order, options)
        self._groups.append(started)
        self.groups.append(
            ClientGroup(order.client, kind, asked.name, count, rate, max_time_s, paced=KINDS[kind].asks_on)
        )
        return started

    def ask(self, group: Clients, within_s: float = 60) -> list[Request]:
        """Have each idle client make another request; those requests, when all of them have ended."""
        before = len(self._of(group))
        self._step(f"every {group.name} client makes a request", "client")
        group.ask()
        self.wait_until(
            f"every {group.name} client's request has ended",
            lambda: len(self._of(group)) >= before + len(group.names),
            within_s,
        )
        return self._of(group)[before:]

    def vanish(self, group: Clients) -> None:
        """Have the clients be gone without a word."""
        self._step(f"the {group.name} clients vanish without a FIN or a RST", "client")
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
            name for group in self._groups if group.kind.asks_on and not group.stopped for name in group.names
        }

        def settled() -> bool:
            waiting.difference_update(
                one.client for one in self.requests if one.started >= since and one.outcome is Outcome.OK
            )
            return not waiting

        self.wait_until("every client is answered again", settled, within_s)

    def wait_until_all_answered(self, within_s: float = 120) -> None:
        """Return when each client has had an answer, the downloads' apart: theirs never ends."""
        waiting = {name for group in self._groups if group.kind.answered for name in group.names}
        seen = 0

        def all_answered() -> bool:
            nonlocal seen
            waiting.difference_update(request.client for request in self.requests[seen:])
            seen = len(self.requests)
            return not waiting

        self.wait_until("every client has had an answer", all_answered, within_s)

    def silent(self) -> set[str]:
        """The clients that log answers and have logged none."""
        expected = {name for group in self._groups if group.kind.answered for name in group.names}
        return expected - {request.client for request in self.requests}

    def wait_until_connected(self, within_s: float = 120) -> None:
        """Return when each client that keeps its connection has one."""
        keep = {name for group in self._groups if group.kind.keeps for name in group.names}
        self.wait_until(
            "every client has its connection", lambda: len(self.open_ends()) >= len(keep), within_s
        )

    def _of(self, group: Clients) -> list[Request]:
        return self.requests_of(group.name)

    def _service(self, name: str | None) -> LabVirtualServer:
        services = self.lab.config.virtual_server
        return services[0] if name is None else next(one for one in services if one.name == name)

    def _place(self, service: str | None) -> tuple[str, int]:
        chosen = self._service(service)
        return str(chosen.vip), chosen.port

    # What is done: each act says when it began and ended, as it takes effect somewhere between the two

    def health_off(self, server: str) -> Span:
        """Rename the server's health file."""
        return self._act("health file renamed", server, self.lab.health_off)

    def health_on(self, server: str) -> Span:
        return self._act("health file put back", server, self.lab.health_on)

    def vip_down(self, server: str) -> Span:
        """Take the VIP off the server's lo."""
        return self._act("lo:0 taken down", server, self.lab.vip_down)

    def vip_up(self, server: str) -> Span:
        return self._act("lo:0 put up", server, self.lab.vip_up)

    def stop(self, server: str, how: str | None = None) -> Span:
        """Stop the web server, as the setting `stop` says unless told how."""
        stop = StopSignal(how or self.settings.get("stop", "graceful"))
        number = self.lab.kind(server).signal(stop)
        began = self._step(f"{TOLD_TO_STOP} ({stop.value}: {number.name})", server)
        self.lab.stop(server, stop)
        left = self.lab.running(f"web {server}")
        ended = f"main process of the web server has ended, {len(left)} run on" if left else HAS_ENDED
        return began, self._step(ended, server)

    def start(self, server: str) -> Span:
        """Start the web server; it listens when that has ended."""
        began = self.now()
        self.lab.start(server)
        return began, self._step("web server started", server)

    def deploy(self, server: str) -> Span:
        """Change what the server serves, as a deploy does."""
        page = f"{server}\nthe new release\n"
        return self._act("new release deployed", server, lambda server: self.lab.put_page(server, page))

    def _act(self, text: str, server: str, act: Callable[[str], object]) -> Span:
        """The step has the time when it began: nothing that comes of it is earlier."""
        began = self.now()
        act(server)
        ended = self.now()
        self._step(text, server, began)
        return began, ended

    def note(self, text: str, node: str = "") -> float:
        """Record that something was done; now."""
        return self._step(text, node)

    def _step(self, text: str, node: str = "", at: float | None = None) -> float:
        time_s = self.now() if at is None else at
        self.steps.append(Step(time_s, text, node))
        self.tell(f"{f'{node}: ' if node else ''}{text}", time_s)
        return time_s

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
            found = self.events("server_state", server=server, virtual_server=virtual_server, new=state)
            return [event["at"] for event in found if event["at"] >= since]

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
        self._step(f"no client has a session of {server} any more", "box")
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
        for group in self._groups:
            if not group.stopped and not group.running:
                raise LabError(
                    f"the {group.name} clients have ended; they say:\n" + "\n".join(group.unread[-9:])
                )

    def look(self) -> None:
        """Take in what has come of the clients; LabError when the lab can't be watched any more."""
        self._watch.check()
        self._read_clients()

    def _read_clients(self) -> None:
        for group in self._groups:
            for found in group.read():
                match found:
                    case Request():
                        started = self.clock.monotonic(found.started)
                        ended = self.clock.monotonic(found.ended)
                        # An image that is not the lab's need not say who answers: the wire knows.
                        server = found.server if found.server in self._servers else ""
                        self.requests.append(replace(found, started=started, ended=ended, server=server))
                    case Ended():
                        self.ends.append(replace(found, time=self.clock.monotonic(found.time)))
                    case Volume():
                        self.figures[found.client] = asdict(found)

    # Looking

    def events(self, kind: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The box's events of that kind with those values, each with `at`, its time in the run."""
        return [
            {**event, "at": self.clock.box(event["box_time"])}
            for event in list(self._watch.events)
            if kind in (None, event["kind"])
            and all(event.get(name) == value for name, value in fields.items())
        ]

    def sockets(self, node: str) -> list[kernels.Socket]:
        """The node's TCP sockets, now, by its own kernel."""
        return kernels.sockets(self.lab, node)

    def table(self, server: str, service: str | None = None) -> list[dict[str, Any]]:
        """The box's sessions of the server, now."""
        return list(self.lab.box.sessions(server=server, virtual_server=service))

    def requests_of(self, name: str) -> list[Request]:
        """The requests of the clients of that name: "curl", "idle" or what they were started as."""
        return [request for request in self.requests if group_of(request.client) == name]

    def lost(self, name: str) -> list[Request]:
        """Of those, the ones that did not end well."""
        return [request for request in self.requests_of(name) if request.outcome is not Outcome.OK]

    def open_ends(self, service: str | None = None) -> set[str]:
        """The clients' ends ("10.80.4.2:40000") of connections to a virtual server, the first by default.

        Those that are established in the clients' kernel, now. Two connections of one client to two VIPs may
        have the same port.
        """
        vip = "{}:{}".format(*self._place(service))
        return {
            socket.local
            for node in self.lab.plan.of(Role.CLIENT)
            for socket in kernels.sockets(self.lab, node.name)
            if socket.state == "ESTAB" and socket.peer == vip
        }

    def connections(self, server: str, service: str | None = None) -> set[str]:
        """Those of them that are established in the server's kernel, too."""
        vip = "{}:{}".format(*self._place(service))
        return self.open_ends(service) & {
            socket.peer
            for socket in kernels.clients_sockets(self.lab, server)
            if socket.state == "ESTAB" and socket.local == vip
        }

    def server_sockets(self, server: str) -> Counter[str]:
        """The server's TCP connections with clients by state, now, by its own kernel."""
        return Counter(socket.state for socket in kernels.clients_sockets(self.lab, server))

    def counted(self, node: str) -> Counter[str]:
        """What the node's kernel has counted since the run began, by nstat's names."""
        now = kernels.counters(self.lab, node)
        return Counter({name: now[name] - self._before[node][name] for name in now})

    def served(self, server: str) -> list[Served]:
        """What the server has answered to clients, by its access log, in the run's time."""
        rows = [replace(row, time=self.clock.unix(row.time)) for row in kernels.served(self.lab, server)]
        return [row for row in rows if row.time >= 0]  # its log may be older than the run

    def segments(self, node: str) -> list[Segment]:
        """The TCP segments seen at the node, but for the box's health checks. The first call ends the run."""
        self.finish()
        if node not in self._segments:
            dropped = sum(seen.dropped for seen in self.captures[node].counted)
            if dropped:
                self.expect(f"the capture at {node} is whole", False, f"{dropped} packets came too fast")
            box = str(self.lab.plan.box.address)
            self._segments[node] = [
                segment
                for segment in segments.read(self.captures[node].path, self.clock.unix)
                if box not in (segment.source.partition(":")[0], segment.destination.partition(":")[0])
            ]
        return self._segments[node]

    # Expecting

    def expect(self, text: str, passed: object, measured: object) -> None:
        """Record whether what must be so was, and the figure that shows it."""
        expectation = Expectation(text, bool(passed), str(measured))
        self.expectations.append(expectation)
        self.tell(f"{'ok    ' if expectation.passed else 'FAILED'} {text}: {measured}")

    def expect_between(
        self, text: str, value_s: float, low_s: float, high_s: float, remark: str = ""
    ) -> None:
        """A time lies between two others, give or take what this machine needs."""
        self._expect_time(text, value_s, value_s, low_s, high_s, remark)

    def expect_found(
        self, server: str, state: str, after: str, act: Span, found: float, low_s: float, high_s: float
    ) -> None:
        """The box gave the server that state in time; with what its health checks said meanwhile.

        Not sooner than `low_s` after the act began, nor later than `high_s` after it ended.
        """
        began, ended = act
        checks = [
            event["detail"]
            for event in self.events("probe", server=server)
            if began < event["at"] < found + self.slack_s
        ]
        remark = f" (checks: {', '.join(checks)})"
        if ended - began > self.slack_s:
            remark += f", of which the act itself took {self.seconds(ended - began)}"
        text = f"{server} is {state} after {after}"
        self._expect_time(text, found - began, max(found - ended, 0.0), low_s, high_s, remark)

    def _expect_time(
        self, text: str, most_s: float, least_s: float, low_s: float, high_s: float, remark: str
    ) -> None:
        """A time of which only two bounds are known, `least_s` and `most_s`, may be one that is allowed."""
        passed = low_s - self.slack_s <= most_s and least_s <= high_s + self.slack_s
        allowed = f"{low_s:g}–{high_s:g}" if low_s != high_s else f"{low_s:g}"
        slack = f"±{self.slack_s:.2g} {self.unit} for {SLACK_S * 1000:.0f} ms of this machine's"
        self.expect(text, passed, f"{most_s:.1f} {self.unit}{remark}; allowed {allowed} {self.unit}, {slack}")

    def expect_none(self, text: str, found: Collection[object]) -> None:
        """There is nothing of the kind; else how many there are, and the first."""
        first = f", the first: {next(iter(found))}" if found else ""
        self.expect(text, not found, f"{len(found)} found{first}")

    def expect_equal(self, text: str, found: object, wanted: object) -> None:
        """A number, or another value, is what it must be."""
        self.expect(text, found == wanted, f"{found}, expected {wanted}")
