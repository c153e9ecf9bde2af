"""Plays every ending to every kind of client, on this kernel, and tells what each client's caller saw.

All kinds are measured at once, in a lab of their own. A client for each method and ending makes requests that
are answered, its connection dies, it makes another; one more shows whether it has recovered. Attempts are
counted on the wire at the client, by the request's name in their first bytes. Times are real seconds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lb.config import parse
from netns import labs
from netns.clients.kinds import ClientKind
from netns.clients.spec import MAX_TIME_S
from netns.errors import LabError
from netns.lab.interface import Say
from netns.measure.deaths import BYSTANDER, Ending, ending_of
from netns.measure.driven import Driven, Failing
from netns.namespaces.lab import NamespaceLab
from netns.observe import kernels
from netns.plan import speeds
from netns.plan.config import LabConfig
from netns.record import segments
from netns.record.recording import Outcome
from netns.record.segments import Segment

STEP_S = 60.0
"""Real seconds within which a step must be done, on a busy machine."""
POLL_S = 0.02

PATIENCE_S = 10.0
"""Real seconds for which a client that nobody sets a time is waited for in the black hole."""

NAME = "clients"
"""Of the lab."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a client of a kind did when its connection died under it."""

    kind: str
    version: str
    method: str
    ending: Ending
    outcome: Outcome
    """Of the request that met the end, as its caller saw it."""
    error: str
    attempts: int
    """Times that the request was on the wire."""
    received: int
    """Times that a server's program had it whole."""
    new_connection: bool
    """The last attempt was on another connection than the one that died."""
    took_s: float
    next: Outcome
    """Of the client's next request."""


@dataclass(frozen=True, slots=True)
class OwnTime:
    """How long a client waits in a black hole when nobody sets it a time."""

    kind: str
    method: str
    outcome: Outcome | None
    """None when it was still waiting after PATIENCE_S."""
    error: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A client whose connection dies."""

    driven: Driven
    number: int

    @property
    def ending(self) -> Ending:
        return ending_of(self.number)

    @property
    def method(self) -> str:
        """The endings come with the kind's first method, then with its next."""
        return self.driven.kind.methods[max(0, self.number - BYSTANDER - 1) // len(Ending)]


Ids = dict[Subject, str]
"""The names of requests, one a client."""


def measure(kinds: Sequence[ClientKind], *, name: str = NAME, say: Say) -> tuple[list[Row], list[OwnTime]]:
    """Measure those kinds, which are installed; LabError when the lab fails or a client says nothing."""
    with _lab(name, say) as lab, TemporaryDirectory(prefix="l4lab-") as directory:
        servers = Failing(lab)
        lab.wait_until_bound(say)
        capture = lab.capture(["client"], Path(directory) / "client.pcapng", expression="tcp")
        say(f"{', '.join(kind.name for kind in kinds)} start")
        with capture, _subjects(lab, kinds, MAX_TIME_S) as subjects:
            before, met, after = _play(lab, servers, subjects, say)
        if any(counted.dropped for counted in capture.counted):
            raise LabError("packets came too fast to be captured: attempts can't be counted")
        attempts = _attempts(capture.path)
        rows = [
            _row(one, servers, before[one], met[one], after[one], attempts.get(met[one], []))
            for one in subjects
        ]
        say(f"a black hole, and nobody sets a longest time: {PATIENCE_S:g} s")
        with _subjects(lab, kinds, 0) as subjects:
            return rows, _own_times(lab, _with(subjects, Ending.BLACK_HOLE))


@contextmanager
def _lab(name: str, say: Say) -> Iterator[NamespaceLab]:
    """A lab of three servers. A check may take ten seconds of the box's, for a busy machine's sake."""
    service = {
        "name": "web",
        "address": "192.0.2.10",
        "port": 80,
        "dscp": 10,
        "health_check": {"timeout_s": 10},
    }
    document = {"name": name, "speed": speeds.SCENARIO, "offload": False, "virtual_server": [service]}
    with labs.own(parse(LabConfig, document, "the lab to measure clients in"), say=say) as lab:
        yield lab


@contextmanager
def _subjects(lab: NamespaceLab, kinds: Iterable[ClientKind], max_time_s: float) -> Iterator[list[Subject]]:
    """The subjects of all kinds, each of which has been answered."""
    with ExitStack() as held:
        subjects = []
        for kind in kinds:
            driven = Driven(lab, kind, max_time_s)
            held.callback(driven.end)
            last = BYSTANDER + len(kind.methods) * len(Ending)
            subjects += [Subject(driven, number) for number in range(BYSTANDER + 1, last + 1)]
        for one, asked in _ask(subjects).items():
            answer = one.driven.answers[asked]
            if answer.outcome is not Outcome.OK:
                raise LabError(f"{asked} is not answered before anything is done to it: {answer.error}")
        yield subjects


def _play(lab: NamespaceLab, servers: Failing, subjects: Sequence[Subject], say: Say) -> tuple[Ids, Ids, Ids]:
    """The requests before each subject's connection died, those that met the end, and the next ones."""
    idle = _with(subjects, Ending.RST_IDLE, Ending.FIN_IDLE)
    busy = _with(subjects, Ending.RST_BUSY, Ending.FIN_BUSY)

    say("connections end while idle, and with a request in flight")
    before = _ask(subjects)  # as all have started by now: no library's limit of idle time is near
    servers.end_connections()
    _wait("every server knows that connections are to end", servers.told)
    ports = {servers.received(before[one])[-1].port for one in idle}
    _wait("every idle connection has ended in the clients' kernel", lambda: not ports & _open_ports(lab))
    # A client that has an event loop is told by it: when that has had another's answer, it has told.
    _ask([Subject(driven, BYSTANDER) for driven in {one.driven: None for one in subjects}])
    met = _ask([*idle, *busy])
    after = _ask([*idle, *busy])

    left = _with(subjects, Ending.BLACK_HOLE)
    while left:
        before |= _ask(left)  # httpx closes a connection that was idle for 5 s meanwhile
        at = {one: servers.received(before[one])[-1].server for one in left}
        down = sorted(set(at.values()))[: len(lab.plan.servers) - 1]
        there = [one for one in left if at[one] in down]
        say(f"a black hole: lo:0 of {', '.join(down)} is down, new connections go elsewhere")
        with _black_hole(lab, down):
            met |= _ask(there)
            after |= _ask(there)
        left = [one for one in left if one not in there]
    return before, met, after


def _own_times(lab: NamespaceLab, holed: Sequence[Subject]) -> list[OwnTime]:
    _ask(holed)
    for node in lab.plan.servers:
        lab.vip_down(node.name)
    deadline = time.monotonic() + PATIENCE_S
    met = _tell(holed)
    while time.monotonic() < deadline and not _ended(met):
        time.sleep(POLL_S)
    return [_own_time(one, asked) for one, asked in met.items()]


def _own_time(one: Subject, asked: str) -> OwnTime:
    answer = one.driven.answers.get(asked)
    if answer is None:
        return OwnTime(one.driven.kind.name, one.method, None, "", PATIENCE_S)
    took_s = round(answer.ended - answer.started, 3)
    return OwnTime(one.driven.kind.name, one.method, answer.outcome, answer.error, took_s)


@contextmanager
def _black_hole(lab: NamespaceLab, servers: Sequence[str]) -> Iterator[None]:
    """The box gives those servers no new connections, and what comes over those that they have vanishes."""
    for server in servers:
        lab.box.disable(server)
    for server in servers:
        lab.vip_down(server)
    yield
    for server in servers:
        lab.vip_up(server)
        lab.box.enable(server)
    lab.wait_until_bound()


def _with(subjects: Iterable[Subject], *endings: Ending) -> list[Subject]:
    return [one for one in subjects if one.ending in endings]


def _ask(subjects: Iterable[Subject]) -> Ids:
    """Have each make a request, and wait until all have ended."""
    asked = _tell(subjects)
    _wait("every client's request has ended", lambda: _ended(asked))
    return asked


def _tell(subjects: Iterable[Subject]) -> Ids:
    return {one: one.driven.ask(one.number, one.method) for one in subjects}


def _ended(asked: Ids) -> bool:
    for one in asked:
        one.driven.check()
    return all(request in one.driven.answers for one, request in asked.items())


def _wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STEP_S
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"not within {STEP_S:g} s: {what}")
        time.sleep(POLL_S)


def _open_ports(lab: NamespaceLab) -> set[int]:
    """The local ports of the clients' established connections, by their kernel."""
    return {segments.port(one.local) for one in kernels.sockets(lab, "client") if one.state == "ESTAB"}


def _attempts(path: Path) -> Mapping[str, list[Segment]]:
    """The segments that begin a request, by its id; a retransmission is none."""
    found: dict[str, dict[tuple[str, int], Segment]] = defaultdict(dict)
    for segment in segments.segments(path, float):
        if segment.is_request and segment.request_id:
            found[segment.request_id].setdefault((segment.source, segment.seq), segment)
    return {request: list(segments.values()) for request, segments in found.items()}


def _row(
    one: Subject, servers: Failing, before: str, met: str, after: str, attempts: Sequence[Segment]
) -> Row:
    answers, kind = one.driven.answers, one.driven.kind
    died = servers.received(before)[-1].port
    return Row(
        kind=kind.name,
        version=kind.version(),
        method=one.method,
        ending=one.ending,
        outcome=answers[met].outcome,
        error=answers[met].error,
        attempts=len(attempts),
        received=len(servers.received(met)),
        new_connection=bool(attempts) and segments.port(attempts[-1].source) != died,
        took_s=round(answers[met].ended - answers[met].started, 3),
        next=answers[after].outcome,
    )
