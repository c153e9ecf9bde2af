"""What became of a request on the wire: its attempts, and how each ended, by the captures of a run.

A request is found by its id, which is in its request line, so a client that retries by itself hides nothing.
One that never got as far as that is found by the SYN that was to carry it. Pure; times are the run's.

The box sees nothing that goes from server to client. So a segment from a VIP that was captured at the box was
sent by the box: its resets are told from the servers' by that.

What comes after a client gave a request up, by its own FIN or RST or by its own word, tells nothing of why.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Final

from netns.analysis.attempt import Attempt, Fate
from netns.record.segments import ACK, SYN, Segment, Unreachable, port

Matches = Callable[[Segment], bool]
_M32: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000


@dataclass(frozen=True, slots=True)
class Actors:
    """Who is who in the captures."""

    clients: frozenset[str]
    """Nodes."""
    box: str
    """The box's node."""
    checker: str
    """The address that its health checks come from."""
    servers: Mapping[str, str]
    """Node by address."""
    services: Mapping[str, str]
    """Name of the virtual server by its "192.0.2.10:80"."""
    vips: Mapping[tuple[str, int], str]
    """The VIP that is meant by a server's address and a DSCP."""

    def ends(self, segment: Segment | Unreachable) -> tuple[str, str] | None:
        """Client's end and virtual server of a segment, wherever it was seen; None when it is no client's."""
        if segment.source in self.services:
            client, service = segment.destination, segment.source
        elif segment.destination in self.services:
            client, service = segment.source, segment.destination
        else:
            address, _, port = segment.destination.rpartition(":")
            vip = self.vips.get((address, segment.dscp))
            if vip is None:
                return None
            client, service = segment.source, f"{vip}:{port}"
            if service not in self.services:
                return None
        return None if client.rpartition(":")[0] == self.checker else (client, service)


@dataclass(slots=True)
class Flow:
    """A TCP connection, or the try of one: its segments at all points, in the order of time."""

    client: str
    service: str
    began: float
    segments: list[Segment] = field(default_factory=list)
    unreachable: list[Unreachable] = field(default_factory=list)
    """The servers' ICMP about it."""
    astray: list[Segment] = field(default_factory=list)
    """What the server sent to the client from its own address: it did not take the packets for the VIP's."""

    def at(self, points: Collection[str]) -> Iterator[Segment]:
        return (segment for segment in self.segments if segment.point in points)


class Flows:
    """The flows of a run that matter."""

    def __init__(
        self, places: Actors, captures: Iterable[Segment], unreachable: Iterable[Unreachable] = ()
    ) -> None:
        """`captures`: the segments of all points, of whole flows, in any order; `unreachable`: the ICMP that
        was seen at the servers."""
        self.places = places
        self._flows: dict[tuple[str, str], list[Flow]] = defaultdict(list)
        self._asked: dict[str, list[tuple[Flow, Segment]]] = defaultdict(list)
        self._sent_to: dict[tuple[str, str], Flow] = {}
        """The flow whose packets the box last sent there, by the client's end and the server's own."""
        self._by_client: dict[str, dict[int, Flow]] = defaultdict(dict)
        for segment in sorted(captures, key=lambda one: one.time):
            self._add(segment)
        for icmp in sorted(unreachable, key=lambda one: one.time):
            ends = places.ends(icmp)
            if ends is not None and ends in self._flows:
                self._flow(ends, icmp.time).unreachable.append(icmp)

    def attempts(self, request_id: str, lost: bool, until: float = inf) -> list[Attempt]:
        """The attempts of a request that got as far as being sent, in order.

        `lost`: its client got no whole answer, so a part of one is none; `until`: when it ended, by the
        client's word.
        """
        found: dict[int, tuple[Flow, Segment]] = {}
        for flow, segment in self._asked.get(request_id, ()):
            found.setdefault(id(flow), (flow, segment))
        return [self._asking(flow, segment, lost, until) for flow, segment in found.values()]

    def unasked(self, since: float, until: float, ports: Collection[int] = ()) -> list[Attempt]:
        """Connections begun in that time that never carried a request; if ports are given, from those."""
        found = self._unasked
        first = bisect_left(found, since, key=lambda one: one.began)
        last = bisect_right(found, until, key=lambda one: one.began)
        return [one for one in found[first:last] if not ports or port(one.client) in ports]

    def until(self, unasked: Attempt, until: float) -> Attempt:
        """One of those connections, as far as it had come by then: when the client says that it gave up."""
        flows = self._flows[unasked.client, unasked.service]
        return self._opening(next(flow for flow in flows if flow.began == unasked.began), until)

    @cached_property
    def _unasked(self) -> list[Attempt]:
        """Every connection that never carried a request, in the order of time."""
        flows = (flow for held in self._flows.values() for flow in held)
        clients = self.places.clients
        silent = (flow for flow in flows if not any(one.is_request for one in flow.at(clients)))
        return sorted((self._opening(flow, inf) for flow in silent), key=lambda one: one.began)

    def on_port(self, local_port: int, started: float, ended: float, lost: bool) -> list[Attempt]:
        """The requests sent from a client's port in that time, for clients that do not name them."""
        return [
            self._asking(flow, segment, lost, ended)
            for held in self._flows.values()
            for flow in held
            if port(flow.client) == local_port
            for segment in flow.at(self.places.clients)
            if segment.is_request and started <= segment.time <= ended
        ]

    def closed_idle(self, client: str, since: float, until: float) -> Attempt | None:
        """The connection that the server, or the box, ended in that time with no request of the client on it.

        `client` is its name, so it must have named an earlier request on that connection.
        """
        clients = self.places.clients
        for flow in self._by_client[client].values():
            answers = filter(self._from_service, flow.at(clients))
            closing = next((one for one in answers if one.rst or one.fin), None)
            if closing is None or not since <= closing.time <= until:
                continue
            if not any(one.is_request and one.time >= closing.time for one in flow.at(clients)):
                return self._idle(flow, closing, until)
        return None

    def _flow(self, ends: tuple[str, str], time: float) -> Flow:
        """The one between those ends that there was at that time: a port comes back."""
        held = self._flows[ends]
        return held[max(0, bisect_right(held, time, key=lambda one: one.began) - 1)]

    def _add(self, segment: Segment) -> None:
        ends = self.places.ends(segment)
        if ends is None:
            if flow := self._sent_to.get((segment.destination, segment.source)):
                flow.astray.append(segment)
            return
        held = self._flows[ends]
        if segment.point in self.places.clients and segment.opens:
            known = any(one.opens and one.seq == segment.seq for one in held[-1].segments) if held else False
            if not known:
                held.append(Flow(*ends, began=segment.time))
        if not held:
            held.append(Flow(*ends, began=segment.time))  # it was there before the capture
        flow = self._flow(ends, segment.time)
        flow.segments.append(segment)
        if segment.destination.rpartition(":")[0] in self.places.servers:
            self._sent_to[segment.source, segment.destination] = flow
        if segment.is_request and segment.point in self.places.clients:
            self._asked[segment.request_id].append((flow, segment))
            self._by_client[segment.request_id.rpartition(".")[0]][id(flow)] = flow

    def _asking(self, flow: Flow, request: Segment, lost: bool, until: float) -> Attempt:
        clients = self.places.clients
        until = max(request.time, min(until, self._left(flow, request.time)))
        end = request.seq + request.length & _M32
        tries = [
            one for one in flow.at(clients) if one.is_request and one.seq == request.seq and one.time <= until
        ]
        before = any(one.is_request and one.time < request.time for one in flow.at(clients))
        arrived, server = self._arrival(flow, lambda one: one.seq == request.seq and one.length > 0, until)
        answers = [one for one in flow.at(clients) if self._from_service(one) and one.time <= until]
        closing = next((one for one in answers if one.rst or one.fin), None)
        answered = next((one for one in answers if one.length and one.time >= request.time), None)
        if answered is not None and not (lost and (closing is not None)):
            fate, ended = (Fate.TAKEN if lost else Fate.ANSWERED), answered.time
        elif closing is not None:
            fate, ended = self._ending(flow, closing), max(closing.time, request.time)
        else:
            fate, ended = self._silence(flow, server, arrived, end, until), tries[-1].time
        left, _ = self._closing(flow, server, until)
        return replace(
            self._attempt(flow, server, until, sent=request.time, fate=fate, ended=ended),
            new=not before,
            asked=True,
            opens=0 if before else sum(one.opens for one in flow.at(clients)),
            reached=self._arrival(flow, lambda one: one.opens, until)[0],
            arrived=arrived,
            tries=len(tries),
            answered=self._answer(flow, server, arrived, until),
            read=left is not None and not left.rst and _acknowledges(left, end),
        )

    def _opening(self, flow: Flow, until: float) -> Attempt:
        clients = self.places.clients
        until = max(flow.began, min(until, self._left(flow, flow.began)))
        tries = [one for one in flow.at(clients) if one.opens and one.time <= until]
        arrived, server = self._arrival(flow, lambda one: one.opens, until)
        answers = [one for one in flow.at(clients) if self._from_service(one) and one.time <= until]
        closing = next((one for one in answers if one.rst or one.fin), None)
        opened = any(
            one.source == flow.client and one.flags & (SYN | ACK) == ACK and not one.rst
            for one in flow.at(clients)
            if one.time <= until
        )
        if closing is not None:
            fate, ended = self._ending(flow, closing), closing.time
            if closing.refuses or not any(one.opens or (one.flags & ACK and not one.rst) for one in answers):
                fate = Fate.BOX_REFUSED if fate is Fate.BOX_RESET else Fate.REFUSED
        elif answers and opened:
            fate, ended = Fate.TAKEN, answers[-1].time
        else:  # a SYN-ACK that came too late draws a RST from the client
            fate = self._silence(flow, server, arrived, None, until)
            ended = tries[-1].time if tries else flow.began
        return replace(
            self._attempt(flow, server, until, sent=flow.began, fate=fate, ended=ended),
            new=True,
            opens=len(tries),
            reached=arrived,
            arrived=arrived,
            tries=len(tries),
        )

    def _idle(self, flow: Flow, closing: Segment, until: float) -> Attempt:
        """A connection that ended before a request was written to it."""
        _, server = self._arrival(flow, lambda one: one.is_request, until)
        fate = self._ending(flow, closing)
        return self._attempt(flow, server, until, sent=closing.time, fate=fate, ended=closing.time)

    def _attempt(
        self, flow: Flow, server: str, until: float, *, sent: float, fate: Fate, ended: float
    ) -> Attempt:
        """One over a connection that was there, of which nothing was sent."""
        left, told = self._closing(flow, server, until)
        return Attempt(
            client=flow.client,
            service=flow.service,
            virtual_server=self.places.services[flow.service],
            server=server,
            new=False,
            asked=False,
            began=flow.began,
            opens=0,
            reached=None,
            sent=sent,
            arrived=None,
            tries=0,
            answered=None,
            fate=fate,
            ended=ended,
            closed=left.time if left else None,
            told=told.time if told else None,
            read=False,
            until=until,
        )

    def _left(self, flow: Flow, since: float) -> float:
        """When the client's own first FIN or RST left it; infinity for never.

        A RST before its last SYN ends nothing: it answers the ACK of an older connection from the same port
        (RFC 9293 §3.10.7.3), and the client's kernel tries again.
        """
        sent = [one for one in flow.at(self.places.clients) if one.source == flow.client]
        since = max([since, *(one.time for one in sent if one.opens)])
        return next((one.time for one in sent if one.time >= since and (one.fin or one.rst)), inf)

    def _answer(self, flow: Flow, server: str, arrived: float | None, until: float) -> float | None:
        if arrived is None:
            return None
        sent = filter(self._from_service, flow.at((server,)))
        return next((one.time for one in sent if one.length and arrived <= one.time <= until), None)

    def _arrival(self, flow: Flow, matches: Matches, until: float) -> tuple[float | None, str]:
        """When what matches first reached a server, None if not in that time, and which server the box sent
        it to; "" for none."""
        nodes = frozenset(self.places.servers.values())
        for one in flow.at(nodes):
            if one.source == flow.client and matches(one):
                return (one.time if one.time <= until else None), one.point
        for one in flow.at((self.places.box,)):
            address = one.destination.rpartition(":")[0]
            if one.source == flow.client and address in self.places.servers and matches(one):
                return None, self.places.servers[address]
        return None, ""

    def _ending(self, flow: Flow, closing: Segment) -> Fate:
        if closing.rst:
            mine = any(
                self._from_service(one) and one.seq == closing.seq for one in flow.at((self.places.box,))
            )
            if mine:
                return Fate.BOX_RESET
            # A socket that its process closes sends RST+ACK; a bare RST answers a packet that has no socket.
            known = closing.flags & ACK or any(
                self._from_service(one) and one.fin and one.time < closing.time for one in flow.segments
            )
            return Fate.RESET if known else Fate.UNKNOWN_THERE
        return Fate.CLOSED

    def _silence(self, flow: Flow, server: str, arrived: float | None, end: int | None, until: float) -> Fate:
        """Nothing came back: how far it got. `end` is the sequence number after the request."""
        if arrived is not None:
            if end is not None and any(
                self._from_service(one) and _acknowledges(one, end)
                for one in flow.at((server,))
                if arrived <= one.time <= until
            ):
                return Fate.TAKEN
            if any(arrived <= one.time <= until for one in flow.astray):
                return Fate.FROM_OWN_ADDRESS
            if any(arrived <= one.time <= until for one in flow.unreachable):
                return Fate.REJECTED
            return Fate.IGNORED
        if server:
            return Fate.LOST
        seen = any(one.source == flow.client for one in flow.at((self.places.box,)))
        return Fate.STOPPED_AT_BOX if seen else Fate.LOST

    def _closing(self, flow: Flow, server: str, until: float) -> tuple[Segment | None, Segment | None]:
        """The server's first FIN or RST as it left it, and as it reached the client that still waited."""

        def first(points: Collection[str]) -> Segment | None:
            sent = filter(self._from_service, flow.at(points))
            return next((one for one in sent if one.time <= until and (one.rst or one.fin)), None)

        told = first(self.places.clients)
        return first((server,)) or told, told

    def _from_service(self, segment: Segment) -> bool:
        return segment.source in self.places.services


def _acknowledges(segment: Segment, end: int) -> bool:
    """Whether it acknowledges what its receiver has sent up to that sequence number."""
    return bool(segment.flags & ACK) and segment.ack - end & _M32 < _HALF
