"""A run told in the terminal: what was done, what the box decided, what clients saw, what servers held.

The run is cut at its moments. Of each stretch it is said what groups of clients saw, unless that is what was
said of the stretch before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from netns.analysis.findings import LOSSES, absences, by_client
from netns.analysis.wording import plural, seconds
from netns.plan import speeds
from netns.record.recording import Outcome, Recording, Request, ServerSample
from netns.report.headline import headline
from netns.report.moments import TOGETHER, Actor, Moment, moments

GROUPS: Final = 6
"""Groups of clients told of one stretch; the rest are counted."""

Act = tuple[str, str]
"""What a client saw, one of LOSSES' texts or of _SAW's names; and the server that it was, or ""."""

_KEPT, _NEW, _EACH, _HIDDEN, _WAITING = "kept", "new", "each", "hidden", "waiting"
_SAW: Final = {
    _KEPT: "answered by {server} over their old connections",
    _NEW: "answered by {server} over a new connection",
    _EACH: "answered by {server}, a new connection for each request",
    _HIDDEN: "answered by {server}",
    _WAITING: "waiting for an answer that does not come",
}
_OVER: Final = {True: _KEPT, False: _NEW, None: _HIDDEN}


@dataclass(frozen=True, slots=True)
class Group:
    """Clients that saw the same."""

    clients: int
    text: str
    style: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is told of the time from some moments to the next ones."""

    moments: tuple[Moment, ...]
    groups: tuple[Group, ...]
    requests: Counter[str]
    """Ended in it, by "" for answered and by how they were lost."""
    held: dict[str, str]
    """What servers held at its end, in words."""


def render(recording: Recording, console: Console) -> None:
    """The story, its sum, and the verdict of each expectation."""
    total = len(by_client(recording))
    table = Table.grid(padding=(0, 1))
    for justify in ("right", "left", "left"):
        table.add_column(justify=justify, overflow="fold", no_wrap=justify == "right")
    table.columns[1].no_wrap = True
    told: dict[str, str] = {}
    speed = recording.speed
    for stretch in merged(stretches(recording)):
        for moment in stretch.moments:
            done = moment.actor is Actor.PEOPLE
            who = Text(moment.actor.value, "bold" if done else "bold yellow")
            table.add_row(seconds(moment.time, speed), who, Text(moment.text, "bold" if done else ""))
        if not stretch.moments:
            table.add_row(seconds(0, speed), "", Text("the run begins", "dim"))
        for group in stretch.groups:
            share = f"{group.clients} of {total}" if group.clients < total else f"all {total}"
            table.add_row("", Text("clients", "dim"), Text(f"{share}: {group.text}", group.style))
        if counted := _counts(stretch.requests):
            table.add_row("", "", Text(counted, "dim"))
        for server, text in stretch.held.items():
            if told.get(server) != text:
                table.add_row("", Text("server", "dim"), Text(f"{server}: {text}"))
                told[server] = text
    table.add_row(seconds(recording.ended, speed), "", Text("the run ends", "dim"))
    console.print(Text(f"{recording.title} ({recording.name})", "bold"))
    console.print(Text(speeds.in_words(speed), "dim"))
    console.print(table)
    for sentence in headline(recording):
        console.print(Text(sentence))
    verdicts = Table.grid(padding=(0, 1))
    for expectation in recording.expectations:
        verdict = Text("met", "green") if expectation.passed else Text("NOT MET", "bold red")
        verdicts.add_row(verdict, Text(f"{expectation.text}: {expectation.measured}"))
    console.print(verdicts)
    console.print(Text("passed", "bold green") if recording.passed else Text("FAILED", "bold red"))


def stretches(recording: Recording) -> Iterator[Stretch]:
    """From the begin of the run, each until the next moments; moments close together begin one."""
    groups: list[list[Moment]] = []
    for moment in moments(recording):
        if groups and moment.time - groups[-1][-1].time <= TOGETHER * recording.ended:
            groups[-1].append(moment)
        else:
            groups.append([moment])
    if not groups or groups[0][0].time > 0:
        groups.insert(0, [])
    starts = [0.0, *(group[0].time for group in groups[1:]), float("inf")]
    out = {server: absences(recording, server) for server in recording.servers}
    clients = by_client(recording)
    watched = {subject for moment in moments(recording) for subject in moment.subjects}
    watched |= {sample.server for sample in recording.samples if sample.zombies}
    for group, (start, end) in zip(groups, pairwise(starts), strict=True):
        ended = [request for request in recording.requests if start <= request.ended < end]
        seen = {client: _acts(requests, start, end) for client, requests in clients.items()}
        settled = group[-1].time if group else start
        away = {server for server in out if any(band.holds(settled) for band in out[server])}
        yield Stretch(
            tuple(group),
            tuple(_groups(seen, away)),
            Counter(LOSSES.get(request.outcome, "") for request in ended),
            dict(_held(recording, watched, start, end)),
        )


def merged(found: Iterable[Stretch]) -> Iterator[Stretch]:
    """Clients that go on as they did are not told again: their requests count where it was told."""
    for _, equal in groupby(found, key=lambda stretch: stretch.groups):
        first, *rest = equal
        requests = sum((stretch.requests for stretch in rest), first.requests)
        yield replace(first, requests=requests)
        for stretch in rest:
            yield replace(stretch, groups=(), requests=Counter())


def _acts(requests: Sequence[Request], start: float, end: float) -> tuple[Act, ...]:
    """What a client saw in a stretch, in order; what it saw again is told once."""
    acts: list[Act] = []
    for request in requests:
        if start <= request.ended < end:
            if request.outcome is not Outcome.OK:
                act = (LOSSES[request.outcome], "")
            else:
                act = (_OVER[request.reused], request.server)
            opened = act[0] == _KEPT and acts and acts[-1] == (_NEW, act[1])
            if not opened and act not in acts[-1:]:
                acts.append(act)
        elif request.outcome is Outcome.TIMEOUT and request.started < end <= request.ended:
            acts.append((_WAITING, ""))
    news = [server for kind, server in acts if kind == _NEW]
    if len(news) > 2 and len(news) == len(acts):
        return ((_EACH, " and ".join(sorted(set(news)))),)
    return tuple(acts) if len(acts) <= 4 else (*acts[:3], acts[-1])


def _groups(seen: Mapping[str, tuple[Act, ...]], out: set[str]) -> Iterator[Group]:
    """Those that lost something first, then those on servers that are out. Servers that are in are one to the
    eye: clients that differ only in which of them answered are one group."""
    shapes: dict[tuple[Act, ...], Counter[tuple[str, ...]]] = defaultdict(Counter)
    for acts in seen.values():
        if acts:
            shape = tuple((kind, server if server in out or kind == _EACH else "") for kind, server in acts)
            shapes[shape][tuple(server for _, server in acts)] += 1
    found = []
    for shape, named in shapes.items():
        parts = []
        for place, (kind, _) in enumerate(shape):
            servers = sorted({servers[place] for servers in named})
            name = ", ".join(f"{one}, out of the binding list," if one in out else one for one in servers)
            parts.append(_SAW[kind].format(server=name) if kind in _SAW else kind)
        lost = any(kind not in _SAW or kind == _WAITING for kind, _ in shape)
        away = any(server in out for _, server in shape)
        text = ", then ".join(parts)
        clients = named.total()
        if clients == 1:
            text = text.replace("their old connections", "its old connection")
        style = "red" if lost else "yellow" if away else ""
        found.append(((not lost, not away, -clients, text), Group(clients, text, style)))
    groups = [group for _, group in sorted(found, key=lambda one: one[0])]
    yield from groups[:GROUPS]
    if rest := groups[GROUPS:]:
        yield Group(sum(group.clients for group in rest), f"in {len(rest)} other ways", "dim")


def _held(recording: Recording, watched: set[str], start: float, end: float) -> Iterator[tuple[str, str]]:
    latest: dict[str, ServerSample] = {}
    for one in recording.samples:
        if one.server in watched and start <= one.time < end:
            latest[one.server] = one
    for server in recording.servers:
        if server in latest:
            sample = latest[server]
            sockets = ", ".join(f"{count} {state}" for state, count in sample.sockets.items())
            text = f"{plural(sample.sessions, 'session')} in the box's table; "
            text += f"in its kernel {sockets or 'no connection'}"
            if sample.zombies:
                text += f", {sample.zombies} of them zombies"
            yield server, text


def _counts(requests: Counter[str]) -> str:
    lost = requests.total() - requests[""]
    if not requests:
        return ""
    ways = ", ".join(f"{requests[way]:,} {way}" for way in LOSSES.values() if requests[way])
    return f"{plural(requests.total(), 'request')}, {f'{lost:,} lost: {ways}' if lost else 'none lost'}"
