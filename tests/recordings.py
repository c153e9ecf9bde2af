"""Made-up runs, as a lab with three servers would record them: the same at every call."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from netns.record.recording import Expectation, Outcome, Recording, Request, ServerSample, Step

SERVERS = ("rs1", "rs2", "rs3")
RENAMED = 12.0
SUSPECT, FAILED = 16.2, 26.2
"""The checks after the file of rs2 is renamed."""


@dataclass
class Run:
    """Keep-alive clients that ask at a steady rate, a binding list, servers that answer or do not."""

    clients: int = 20
    rate: float = 1.0
    ended: float = 60.0
    bound: Callable[[str, float], bool] = lambda server, time: True
    stopped: Callable[[str, float], bool] = lambda server, time: False
    """Connections get a FIN and new ones are refused."""
    silent: Callable[[str, float], bool] = lambda server, time: False
    resets: dict[str, float] = field(default_factory=dict)
    """When the box resets a server's sessions."""
    patience: float = 5.0
    requests: list[Request] = field(default_factory=list)
    held: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    """Each client's connection: server, local port, since when."""

    def play(self) -> Run:
        chance = random.Random(7)
        for index in range(self.clients):
            self._client(f"curl-{index + 1}", index, chance)
        return self

    def _client(self, client: str, turn: int, chance: random.Random) -> None:
        port, server, opened = 40000 + 100 * turn, "", 0.0
        time = 0.3 + chance.random() / self.rate
        while time < self.ended - self.patience:
            reset = self.resets.get(server, -1.0)
            if server and (self.stopped(server, time) or opened < reset <= time):
                server = ""
            reused = bool(server)
            if not reused:
                ready = [one for one in SERVERS if self.bound(one, time)]
                server, opened = ready[turn % len(ready)], time
                port, turn = port + 1, turn + 1
            took = 0.004 + chance.random() / 100
            if self.silent(server, time):
                took, outcome, error = (
                    self.patience,
                    Outcome.TIMEOUT,
                    "Operation timed out after 5000 milliseconds",
                )
            elif not reused and self.stopped(server, time):
                outcome, error = Outcome.REFUSED, "Failed to connect to 198.51.100.10 port 80"
            else:
                outcome, error = Outcome.OK, ""
            answered = outcome is Outcome.OK
            self.requests.append(
                Request(
                    client,
                    round(time, 4),
                    round(time + took, 4),
                    outcome,
                    200 if answered else 0,
                    server if answered else "",
                    reused,
                    port,
                    error,
                )
            )
            server = server if answered else ""
            time += max(took, (0.9 + chance.random() / 5) / self.rate)

    def sessions(self, server: str, time: float) -> int:
        """Clients whose latest request before was on this server."""
        reset = self.resets.get(server)
        latest: dict[str, str] = {}
        for request in self.requests:
            if request.started <= time and request.server:
                latest[request.client] = request.server
        count = sum(one == server for one in latest.values())
        return 0 if (reset is not None and time >= reset) or self.stopped(server, time) else count


def recording(
    name: str,
    title: str,
    intent: str,
    run: Run,
    steps: tuple[Step, ...],
    states: tuple[tuple[float, str, str, str], ...],
    *,
    expectations: tuple[Expectation, ...] = (),
    more_events: tuple[dict[str, Any], ...] = (),
    zombies: tuple[float, int] | None = None,
    figures: dict[str, Any] | None = None,
    speed: float = 10.0,
) -> Recording:
    """`states` are rs2's changes: (time, old, new, reason)."""

    def state(server: str, time: float) -> tuple[str, bool]:
        past = [new for at, _, new, _ in states if at <= time]
        now = past[-1] if past and server == "rs2" else "ACTIVE"
        return now, now in {"ACTIVE", "SUSPECT"}

    events = [
        event(
            time,
            "server_state",
            virtual_server="web",
            server="rs2",
            old=old,
            new=new,
            bound=new in {"ACTIVE", "SUSPECT"},
            reason=reason,
            sessions=run.sessions("rs2", time - 0.01),
        )
        for time, old, new, reason in states
    ]
    moments = [second * 0.5 for second in range(int(run.ended * 2) + 1)]
    samples = []
    for time in moments:
        for server in SERVERS:
            count = run.sessions(server, time)
            left = zombies[1] if zombies and server == "rs2" and time >= zombies[0] else 0
            sockets = {"ESTAB": count + left} if count + left else {}
            samples.append(ServerSample(time, server, *state(server, time), count, sockets, left))
    return Recording(
        name=name,
        title=title,
        intent=intent,
        started_at="2026-03-01T04:31:07.250000Z",
        unix_s=1_772_339_467.25,
        speed=speed,
        ended=run.ended,
        servers=SERVERS,
        settings={
            "lab": {"servers": list(SERVERS), "clients": 1},
            "virtual_server": [{"name": "web", "aging_s": 600}],
        },
        steps=steps,
        events=tuple(sorted([*events, *more_events], key=lambda one: float(one["at"]))),
        requests=tuple(run.requests),
        samples=tuple(samples),
        expectations=expectations,
        figures=figures or {},
        captures=("client.pcapng", "box.pcapng", "rs2.pcapng"),
        versions={"l4lab": "0.1.0", "Linux": "6.1.0", "nginx": "1.22.1", "curl": "7.88.1"},
    )


def event(at: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "time": "2026-03-01T04:31:08Z", "box_time": at + 31, "kind": kind, "at": at, **fields}


DOWN = (
    (SUSPECT, "ACTIVE", "SUSPECT", "health check: 404"),
    (FAILED, "SUSPECT", "FAILED", "health check: 404"),
)


def quiet() -> Recording:
    """Nothing is done, and nothing happens."""
    return recording("quiet", "Nothing is done", "", Run(ended=20.0).play(), (), (), speed=1.0)


def trap(clients: int = 20, rate: float = 1.0, ended: float = 60.0) -> Recording:
    """health-file-only: rs2 is FAILED, and its keep-alive clients stay with it."""
    run = Run(clients, rate, ended, bound=lambda server, time: server != "rs2" or time < FAILED).play()
    return recording(
        "health-file-only",
        "The trap: only the health file is renamed",
        "Rename health_check.html, wait 20 s, deploy. The box takes the server out of its binding list, and "
        "its keep-alive clients go on using it.",
        run,
        (
            Step(RENAMED, "rename health_check.html", "rs2"),
            Step(RENAMED + 20, "deploy the new version", "rs2"),
        ),
        DOWN,
        expectations=(
            Expectation("rs2 is FAILED within 10–20 s of the rename", True, "after 14.2 s"),
            Expectation("no new connection goes to rs2 after it is FAILED", True, "0"),
            Expectation("its keep-alive clients are still answered by it", True, "7 of 7 clients"),
        ),
    )


def reset_on_port_fail() -> Recording:
    """The same with the option on: rs2's sessions are reset as it fails, and zombies stay in its kernel."""
    run = Run(bound=lambda server, time: server != "rs2" or time < FAILED, resets={"rs2": FAILED}).play()
    held = run.sessions("rs2", FAILED - 0.01)
    resets = {"virtual_server": "web", "server": "rs2", "reason": "port_fail", "sessions": held}
    return recording(
        "reset-on-port-fail",
        "Reset On Port Fail",
        "The same as the trap, with the option on.",
        run,
        (Step(RENAMED, "rename health_check.html", "rs2"),),
        DOWN,
        more_events=(
            event(FAILED, "reset_started", **resets),
            event(FAILED + 0.06, "reset_ended", **resets, resets=held, took_s=0.06),
        ),
        zombies=(FAILED, held),
        expectations=(Expectation("every client of rs2 gets one accepted RST", True, f"{held} of {held}"),),
        figures={
            "resets": {"per_second": 1166.7, "accepted": held},
            "latency_s": {"p50": 0.0091, "p99": 0.0139},
        },
    )


def vip_down() -> Recording:
    """lo:0 of rs2 goes down: its clients hang, new connections too until the box has noticed."""
    run = Run(
        bound=lambda server, time: server != "rs2" or time < FAILED + 1,
        silent=lambda server, time: server == "rs2" and time >= RENAMED,
    ).play()
    return recording(
        "vip-down",
        "Worse: the VIP is taken off lo:0",
        "Take lo:0 down instead. Nobody answers any more, and nobody says so.",
        run,
        (Step(RENAMED, "ip addr del 198.51.100.10/32 dev lo", "rs2"),),
        (
            (SUSPECT + 1, "ACTIVE", "SUSPECT", "health check: timeout"),
            (FAILED + 1, "SUSPECT", "FAILED", "health check: timeout"),
        ),
        expectations=(
            Expectation("clients of rs2 hang until their own timeout", True, "5.0 s"),
            Expectation(
                "no request is lost", False, f"{sum(r.outcome is not Outcome.OK for r in run.requests)} lost"
            ),
        ),
    )


def recommended_l7() -> Recording:
    """Rename, wait until FAILED, stop, deploy, start, put the file back: nothing is lost."""
    run = Run(
        ended=80,
        bound=lambda server, time: server != "rs2" or not FAILED <= time < 52,
        stopped=lambda server, time: server == "rs2" and 33 <= time < 42,
    ).play()
    return recording(
        "recommended-l7",
        "The recommended way, with L7 checks",
        "Take the server out, stop the web server so that its clients leave, deploy, start, put it back.",
        run,
        (
            Step(RENAMED, "rename health_check.html", "rs2"),
            Step(33.0, "nginx -s quit", "rs2"),
            Step(33.1, "deploy the new version", "rs2"),
            Step(42.0, "start nginx", "rs2"),
            Step(44.0, "put health_check.html back", "rs2"),
        ),
        (*DOWN, (52.0, "FAILED", "ACTIVE", "health check: 200")),
        more_events=(event(33.4, "server_drained", virtual_server="web", server="rs2"),),
        expectations=(Expectation("no request is lost", True, "0 of 1,480"),),
    )


Maker = Callable[[], Recording]
MAKERS: tuple[Maker, ...] = (trap, reset_on_port_fail, vip_down, recommended_l7)
