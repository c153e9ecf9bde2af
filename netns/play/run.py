"""A run: what a scenario's `play(run)` can do, wait for, look at and expect.

Times are box seconds since the run began. Nothing here sleeps on a guess: `wait_until` has a condition and a
deadline, and `watch_for_s` lets box time pass where letting it pass is the step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from netns.clients.group import Clients
from netns.clients.kinds import Wanted
from netns.lab.interface import Lab, Recorder, Say
from netns.plan.topology import Role
from netns.play.acts import Acts
from netns.play.begun import Beginning
from netns.play.clients import ClientsAtWork
from netns.play.expect import Expect
from netns.record.recording import (
    Change,
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
        beginning = Beginning.now(lab, settings, say, captures)
        held.callback(beginning.watch.stop)
        beginning.watch.start()
        run = Run(beginning, clients=clients, seed=seed, held=held)
        try:
            yield run
        finally:
            run.finish()


class Run(Acts, Expect, ClientsAtWork):
    """A run that has begun: all that it can do and wait for, and all that is recorded of it."""

    def __init__(
        self, beginning: Beginning, *, clients: Sequence[Wanted], seed: int, held: ExitStack
    ) -> None:
        """`held` is closed as the run finishes: it ends the watch and the captures."""
        super().__init__(beginning, clients=clients)
        self.random = random.Random(seed)  # noqa: S311 - of a moment, not of a secret
        self.figures["seed"] = seed
        self._started_at = beginning.at
        self._versions = beginning.versions
        self._watch = beginning.watch
        self._held = held
        self._ended: float | None = None

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
        kept = {one.path.name: one.path.stat().st_size for one in self.captures.values()} if captures else {}
        return Recording(
            name=name,
            title=title,
            intent=intent,
            started_at=self._started_at.isoformat(timespec="seconds"),
            unix_s=self.clock.unix_s,
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
            versions=dict(self._versions),
            changes=changes,
            touches=touches,
            captures=tuple(kept),
            capture_bytes=kept,
        )

    @property
    def samples(self) -> Sequence[ServerSample]:
        """Of every server, in the order in which they were taken."""
        return self._watch.samples

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

    def wait_until_connected(self, within_s: float = 120) -> None:
        """Return when each client that keeps its connection has one."""
        keep = {name for group in self._running if group.kind.keeps for name in group.names}
        self.wait_until(
            "every client has its connection", lambda: len(self.open_ends()) >= len(keep), within_s
        )

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

    def look(self) -> None:
        """Take in what has come of the clients; LabError when the lab can't be watched any more."""
        self._watch.check()
        self._read_clients()
