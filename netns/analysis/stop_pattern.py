"""What a web server did to its clients when it was stopped, by the wire and the clients' own word. Pure.

It does not matter who stopped it or how: `told` is when it was told to, or the first sign that it was.
Moments are given in the run's time, box seconds; how long something took is in real seconds, as a web server
knows nothing of the box's speed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from netns.record.recording import Outcome, Request
from netns.record.segments import SYN, Segment, port

UNDECIDED_S: Final = 0.2
"""Real seconds before the end of looking in which a request that came may yet be answered. Such a request is
left out, and an answered one too: the next server may have answered it. One that the server ended counts."""

IDLE_S: Final = 0.05
"""Real seconds without payload after which an end is not the end of an answer."""


@dataclass(frozen=True, slots=True)
class Ends:
    """How connections ended."""

    fin: int
    """The server closed them."""
    rst: int
    """It reset them."""
    client: int
    """Their clients were first, be it because the last answer told them to (Connection: close)."""
    kept: int
    """They were open as long as was looked."""

    @property
    def total(self) -> int:
        return self.fin + self.rst + self.client + self.kept


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of requests."""

    finished: int
    fin: int
    """The server closed the connection before the answer, or in the middle of it."""
    rst: int
    """It reset the connection."""
    refused: int
    """Nothing listened: the kernel reset the SYN."""
    hanging: int
    """Neither an answer nor an end of the connection came before the client gave up, or while was looked."""

    @property
    def total(self) -> int:
        return self.finished + self.fin + self.rst + self.refused + self.hanging


@dataclass(frozen=True, slots=True)
class StopPattern:
    """One stop of one server."""

    server: str
    idle: Ends
    """The connections that it had, with no request in hand, when it was told."""
    idle_ended_s: float | None
    """When it had ended the last of those that it ended."""
    in_hand: Fates
    """The requests that it had taken, or was being sent, when it was told."""
    later: Fates
    """Those that came after it was told, over the connections that it had."""
    new: Fates
    """Connections opened after it was told, each with its first request."""
    listener_gone_s: float | None
    """None: it listened as long as was looked."""
    ended_s: float | None
    """When the last of its processes ended; None: one ran as long as was looked."""
    answered_s: float | None
    """When it last answered a request that came after it was told; None: it answered none."""
    still_answers: bool | None
    """At the end of looking it answers what comes over new connections, or over one that it has kept; None:
    nothing came after it was told."""


class _Fate(Enum):
    FINISHED = "finished"
    FIN = "fin"
    RST = "rst"
    REFUSED = "refused"
    HANGING = "hanging"


@dataclass(slots=True)
class _Asked:
    """A request that arrived at the server, or the SYN of a connection that none came over."""

    arrived: float
    answered: float = inf
    """When the first of an answer left."""
    left: float = -inf
    """When the last of it left."""


@dataclass(slots=True, eq=False)
class _Flow:
    """A connection, as the server's interface saw it."""

    port: int
    """The client's."""
    began: float
    seq: int
    """The SYN's sequence number."""
    accepted: bool = False
    """A SYN-ACK was sent."""
    asked: list[_Asked] = field(default_factory=list)
    fin: float = inf
    """When the server's first FIN left; so the RST."""
    rst: float = inf
    client_ended: float = inf
    active: float = 0.0
    """When the last payload before its end passed."""
    seen: int = -1
    """The sequence number of the last request that arrived: a segment may come twice."""

    @property
    def ended(self) -> float:
        """When the first of the two sides ended it."""
        return min(self.fin, self.rst, self.client_ended)

    @property
    def end(self) -> _Fate:
        """How the server ended it; HANGING if it did not, or only once the client had."""
        server_ended = min(self.fin, self.rst)
        if server_ended == inf or server_ended > self.client_ended:
            return _Fate.HANGING
        if self.fin < self.rst:
            return _Fate.FIN
        return _Fate.RST if self.accepted else _Fate.REFUSED


def stop_pattern(
    server: str,
    requests: Iterable[Request],
    captured: Iterable[Segment],
    *,
    told: float,
    until: float,
    speed: float,
    listener_gone: float | None,
    ended: float | None,
) -> StopPattern:
    """The pattern of a stop.

    `requests` are the clients', and `captured` is what the server's interface saw, without the box's health
    checks, from before the connections were opened. `until` is the last moment that counts: the end of the
    run, or when the server was started again. `ended` is when the last of its processes was gone.
    """
    flows = _flows(captured, until)
    had = [flow for flow in flows if flow.began <= told < flow.ended]
    spanning = _spanning(requests, told)
    taken = {flow for flow in had if flow.port in spanning or _is_under_way(flow, told)}
    idle = [flow for flow in had if flow not in taken]
    decided = until - UNDECIDED_S * speed

    def counts(flow: _Flow, asked: _Asked, came: float) -> bool:
        ended = _fate(flow, asked) not in (_Fate.FINISHED, _Fate.HANGING)
        return told < came and (came <= decided or ended)

    later = [(flow, asked) for flow in had for asked in flow.asked if counts(flow, asked, asked.arrived)]
    opened = [(flow, flow.asked[0] if flow.asked else _Asked(flow.began)) for flow in flows]
    new = [(flow, asked) for flow, asked in opened if counts(flow, asked, flow.began)]

    def after(moment: float | None) -> float | None:
        return None if moment is None or moment > until else max(0.0, moment - told) / speed

    ended_idle = [flow.ended for flow in idle if flow.end is not _Fate.HANGING]
    answers = [asked.answered for _, asked in (*later, *new) if asked.answered < inf]
    return StopPattern(
        server=server,
        idle=Ends(
            fin=sum(flow.end is _Fate.FIN for flow in idle),
            rst=sum(flow.end is _Fate.RST for flow in idle),
            client=sum(flow.end is _Fate.HANGING and flow.ended < inf for flow in idle),
            kept=sum(flow.ended == inf for flow in idle),
        ),
        idle_ended_s=after(max(ended_idle, default=None)),
        in_hand=_count(_taken_fate(flow, spanning.get(flow.port), told, speed) for flow in taken),
        later=_count(_fate(flow, asked) for flow, asked in later),
        new=_count(_fate(flow, asked) for flow, asked in new),
        listener_gone_s=after(listener_gone),
        ended_s=after(ended),
        answered_s=after(max(answers, default=None)),
        still_answers=_still_answers(later, new),
    )


def first_sign(captured: Iterable[Segment], listener_gone: float, *, since: float, speed: float) -> float:
    """When a server began to stop, for who does not know when it was told: at `since` or later, the first end
    that it put to a connection which was idle, or the moment its listener was gone.

    Not the end of a connection that has just been answered: its client may have asked for it. A server that
    closes idle connections after a time of its own does so while it is in service, too.
    """
    return min(
        (
            flow.ended
            for flow in _flows(captured, listener_gone)
            if flow.end is not _Fate.HANGING and flow.ended >= max(since, flow.active + IDLE_S * speed)
        ),
        default=listener_gone,
    )


def _flows(captured: Iterable[Segment], until: float) -> list[_Flow]:
    """The connections of a capture, in the order of their SYNs; one begun before the capture is none."""
    current: dict[str, _Flow] = {}
    found = []
    for segment in sorted(captured, key=lambda one: one.time):
        if segment.time > until:
            break
        flow = current.get(segment.source)
        if segment.opens:
            if flow is None or flow.seq != segment.seq:
                flow = _Flow(port(segment.source), segment.time, segment.seq)
                current[segment.source] = flow
                found.append(flow)
            elif not flow.accepted:
                # The client's RST answered the ACK of an older connection from its port (RFC 9293 §3.10.7.3).
                flow.client_ended = inf
            continue
        from_client = flow is not None
        flow = flow or current.get(segment.destination)
        if flow is None:
            continue
        if segment.length and flow.ended == inf:
            flow.active = segment.time
        if from_client:
            _from_client(flow, segment)
        else:
            _from_server(flow, segment)
    return found


def _from_client(flow: _Flow, segment: Segment) -> None:
    if segment.is_request and segment.seq != flow.seen:
        flow.seen = segment.seq
        flow.asked.append(_Asked(segment.time))
    if segment.fin or segment.rst:
        flow.client_ended = min(flow.client_ended, segment.time)


def _from_server(flow: _Flow, segment: Segment) -> None:
    if segment.length and flow.asked:
        flow.asked[-1].answered = min(flow.asked[-1].answered, segment.time)
        flow.asked[-1].left = segment.time
    flow.accepted |= bool(segment.flags & SYN)
    if segment.rst:
        flow.rst = min(flow.rst, segment.time)
    if segment.fin:
        flow.fin = min(flow.fin, segment.time)


def _spanning(requests: Iterable[Request], told: float) -> dict[int, Request]:
    """By client's port, the request that was under way when the server was told, as its client has it."""
    return {one.local_port: one for one in requests if one.local_port and one.started <= told < one.ended}


def _is_under_way(flow: _Flow, told: float) -> bool:
    """Whether, by the wire, a request had arrived by then, and its answer had not left whole."""
    before = [asked for asked in flow.asked if asked.arrived <= told]
    return bool(before) and (before[-1].answered > told or before[-1].left > told)


def _taken_fate(flow: _Flow, request: Request | None, told: float, speed: float) -> _Fate:
    """The client's word first. One that tries again elsewhere by itself reports another connection's port."""
    if request is not None:
        return _Fate.FINISHED if request.outcome is Outcome.OK else flow.end
    asked = [asked for asked in flow.asked if asked.arrived <= told][-1]
    if asked.answered > told:
        return _fate(flow, asked)
    # The answer had begun, and nobody says that it was whole: it was if the connection was then idle.
    whole = asked is not flow.asked[-1] or asked.left + IDLE_S * speed < flow.ended < inf
    return _Fate.FINISHED if whole else flow.end


def _fate(flow: _Flow, asked: _Asked) -> _Fate:
    return _Fate.FINISHED if asked.answered < inf else flow.end


def _still_answers(later: Sequence[tuple[_Flow, _Asked]], new: Sequence[tuple[_Flow, _Asked]]) -> bool | None:
    if not later and not new:
        return None
    kept = {flow: asked for flow, asked in later if flow.ended == inf}  # the last request of each
    newest = [asked for _, asked in new[-1:]]
    return any(asked.answered < inf for asked in (*kept.values(), *newest))


def _count(fates: Iterable[_Fate]) -> Fates:
    counted: dict[_Fate, int] = defaultdict(int)
    for fate in fates:
        counted[fate] += 1
    return Fates(**{fate.value: counted[fate] for fate in _Fate})
