"""An independent opinion on a rehearsal: what the clients' own logs and tshark say of each lost request.

The product counts lost requests and names a cause for each. This judge counts again from the drivers' logs
(netns/clients/log.py) and reads the captures with tshark, not with the product's parser. For each cause,
`PROOFS` says what the captures must show. The judge can't know why a server was silent; that is the author's
part, in expect.toml. Times are seconds of Unix time, real.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Final

CLOCKS_S: Final = 0.05
"""By how much a client's clock reading and the capture's may differ, and the time a client needs to react."""

REPORT_S: Final = 0.25
"""A client has logged a lost request so long after it got the server's FIN or RST."""

UNREAD_S: Final = 0.02
"""A request may wait so long in a server's socket before the server reads it (docs/rehearsals.md)."""

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


# What the clients say


@dataclass(frozen=True, slots=True)
class Logged:
    """A request by its client's own log."""

    id: str
    started: float
    ended: float
    ok: bool


def logged(programs: Path) -> list[Logged]:
    """Every request in the logs of a lab's clients; `programs` is the directory of these logs.

    Drivers log CLOCK_MONOTONIC, which is turned into Unix time by this machine's clocks as they are now.
    """
    offset = time.time() - time.monotonic()
    lines = (line for log in programs.glob("clients-*.log") for line in log.read_text().splitlines())
    rows = (json.loads(line) for line in lines if line.startswith("{"))
    return [
        Logged(row["id"], row["started"] + offset, row["ended"] + offset, row["outcome"] == "ok")
        for row in rows
        if "outcome" in row
    ]


# What tshark says


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of a client's connection, as tshark prints it."""

    time: float
    point: str
    """The node at whose interface it was seen."""
    source: str
    destination: str
    """Addresses, without ports."""
    client: str
    """The client's end, "10.80.4.2:40000"."""
    port: int
    """The service's port."""
    from_client: bool
    flags: int = 0
    length: int = 0
    """Bytes of TCP payload."""
    request: str = ""
    """The id in the request line that it carries."""
    status: int = 0
    """The status of the response that begins in it."""
    promised: int = 0
    """Bytes of the body of that response, by its Content-Length."""
    icmp: bool = False

    @property
    def opens(self) -> bool:
        return self.flags & (SYN | ACK) == SYN

    @property
    def ends(self) -> bool:
        return bool(self.flags & (FIN | RST))


_FIELDS: Final = (
    "frame.time_epoch",
    "frame.interface_name",
    "ip.src",
    "ip.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.len",
    "http.request.uri",
    "http.response.code",
    "http.content_length",
    "icmp.type",
)
# A request line counts from its own segment on, so tshark must not wait for the body.
_ALONE: Final = ("tcp.desegment_tcp_streams", "http.desegment_headers", "http.desegment_body")


def packets(capture: Path, ports: Iterable[int]) -> list[Packet]:
    """The packets of a capture from or to these service ports, ICMP about them included; oldest first."""
    argv = ["tshark", "-n", "-r", str(capture), "-T", "fields", "-E", "occurrence=f"]
    argv += [word for name in _FIELDS for word in ("-e", name)]
    argv += [word for name in _ALONE for word in ("-o", f"{name}:FALSE")]
    argv += [word for port in ports for word in ("-d", f"tcp.port=={port},http")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    found = (_packet(line.split("\t"), frozenset(ports)) for line in done.stdout.splitlines())
    return sorted((one for one in found if one is not None), key=lambda one: one.time)


def _packet(row: Sequence[str], ports: frozenset[int]) -> Packet | None:
    when, point, source, destination, sport, dport, flags, length, uri, status, promised, icmp = row
    if not sport or ports.isdisjoint((int(sport), int(dport))):
        return None
    to_service = int(dport) in ports
    # An ICMP error quotes the packet that it is about, so its addresses are turned around, its ports are not.
    from_client = to_service and not icmp
    address = source if from_client else destination
    return Packet(
        time=float(when),
        point=point,
        source=source,
        destination=destination,
        client=f"{address}:{sport if to_service else dport}",
        port=int(dport if to_service else sport),
        from_client=from_client,
        flags=int(flags or "0", 16),
        length=int(length or 0),
        request=uri.partition("?")[2],
        status=int(status or 0),
        promised=int(promised or 0) if status else 0,
        icmp=bool(icmp),
    )


@dataclass(slots=True)
class Connection:
    """A TCP connection of a client, or the try of one: its packets at all points, in the order of time."""

    opened: float
    """When its first SYN left the client."""
    packets: list[Packet] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request over a connection, or a SYN that came to no request; what the captures show of it."""

    connection: Connection
    sent: float
    """When the request line, or the SYN, left the client."""
    asked: bool
    """The request line left the client."""
    until: float = inf
    """When the client gave the request up, by its log: what comes later is of no account."""

    def _seen(self, at: str, *, from_client: bool, since: float = 0.0) -> Iterator[Packet]:
        """Packets at the client, at the box, or at a server ("server")."""
        return (
            one
            for one in self.connection.packets
            if one.from_client is from_client
            and since <= one.time <= self.until
            and (one.point == at or (at == "server" and one.point not in ("client", "box")))
        )

    @property
    def vip(self) -> str:
        """A segment from any other address is not of the connection, to the client."""
        return self.connection.packets[0].destination

    @property
    def new(self) -> bool:
        """It is the first request of its connection."""
        return not any(one.request and one.time < self.sent for one in self._seen("client", from_client=True))

    @property
    def forwarded(self) -> bool:
        """The box sent it on: its copy that leaves the box is for a server's address, not for the VIP."""
        return any(one.destination != self.vip for one in self._sent_at("box"))

    @property
    def at_box(self) -> bool:
        return any(self._sent_at("box"))

    @property
    def arrived(self) -> float:
        """When it came to a server's interface."""
        return _time(self._sent_at("server"))

    def _sent_at(self, at: str) -> Iterator[Packet]:
        found = self._seen(at, from_client=True, since=self.sent)
        return (one for one in found if (one.length if self.asked else one.opens))

    @property
    def replies(self) -> list[Packet]:
        """What the server sent since, until the client gave the connection up."""
        found = self._seen("server", from_client=False, since=self.sent)
        return [one for one in found if one.time <= self.given_up]

    @property
    def closed(self) -> float:
        """When the server's first FIN or RST left it."""
        return _time(
            one for one in self._seen("server", from_client=False) if one.ends and one.source == self.vip
        )

    @property
    def told(self) -> float:
        """When the client got the first FIN or RST, of the server or of the box."""
        return _time(
            one for one in self._seen("client", from_client=False) if one.ends and one.source == self.vip
        )

    @property
    def given_up(self) -> float:
        """When the client's first FIN or RST left it."""
        return _time(one for one in self._seen("client", from_client=True) if one.ends)

    @property
    def box_reset(self) -> bool:
        """A server's packets never pass the box, so a RST to the client that is seen there is the box's."""
        return any(one.flags & RST for one in self._seen("box", from_client=False))

    @property
    def status(self) -> int:
        """Of the response; 0 when none came."""
        answers = self._seen("client", from_client=False, since=self.sent)
        return next((one.status for one in answers if one.status), 0) if self.asked else 0

    @property
    def cut(self) -> bool:
        """The other side closed before the client did, and before a whole response had come."""
        answer = list(self._seen("client", from_client=False, since=self.sent))
        promised = next((one.promised for one in answer if one.status), 0)
        whole = self.status > 0 and sum(one.length for one in answer) > promised
        return self.told < self.given_up and not whole

    @property
    def unanswered(self) -> bool:
        """No response came, or one that says that the server can't."""
        return self.status == 0 or self.status >= 400


def _time(found: Iterable[Packet]) -> float:
    """When the first was seen; inf for never."""
    return next((one.time for one in found), inf)


class Wire:
    """The connections in a rehearsal's captures, and the requests that went over them."""

    def __init__(self, captured: Iterable[Packet]) -> None:
        ordered = sorted(captured, key=lambda one: (one.time, one.point != "client"))
        self._ended = ordered[-1].time if ordered else 0.0
        self.connections: list[Connection] = []
        ends: dict[tuple[str, int], list[Connection]] = defaultdict(list)
        for packet in ordered:
            known = ends[packet.client, packet.port]
            if packet.point == "client" and packet.opens and not _retransmitted(packet, known):
                known.append(Connection(packet.time))
                self.connections.append(known[-1])
            if known:  # else it is a health check, or a client's from before the capture
                known[-1].packets.append(packet)
        self._asked: dict[str, list[Attempt]] = defaultdict(list)
        for connection in self.connections:
            for packet in connection.packets:
                if packet.point == "client" and packet.from_client and packet.request:
                    self._asked[packet.request].append(Attempt(connection, packet.time, asked=True))

    def attempts(self, request: Logged) -> list[Attempt]:
        """Those that may have decided the request's fate.

        The last time that its line was sent, and, as clients retry and do not always name their port, each
        connection that was opened for nothing or closed by the other side while the request was under way.
        """
        first, last = request.started - CLOCKS_S, request.ended + CLOCKS_S

        def came_to_nothing(opened: Attempt) -> bool:
            closed = first <= opened.told < inf
            return closed or (first <= opened.sent <= last and not _carried(opened.connection))

        asked = (replace(one, until=last) for one in self._asked.get(request.id, [])[-1:])
        opened = (Attempt(one, one.opened, asked=False, until=last) for one in self.connections)
        return [*asked, *filter(came_to_nothing, opened)]

    def cut(self, logs: Iterable[Logged]) -> set[str]:
        """Requests with no line in a log that were lost on the wire: the run ended before the client knew.

        Their server closed before the whole response had come, and the client had time to say so.
        """
        known = {one.id for one in logs}
        last = {name: attempts[-1] for name, attempts in self._asked.items() if name not in known}
        return {name for name, one in last.items() if one.cut and one.told + REPORT_S < self._ended}


def _retransmitted(packet: Packet, known: Sequence[Connection]) -> bool:
    """The same SYN again: nothing but SYNs has left the client on that port yet."""
    if not known:
        return False
    return all(one.opens for one in known[-1].packets if one.from_client and one.point == "client")


def _carried(connection: Connection) -> bool:
    return any(one.request for one in connection.packets)


def read(captures: Path, settings: Mapping[str, Any]) -> Wire:
    """The captures of a rehearsal's report; `settings` are those in its result.json."""
    ports = sorted({service["port"] for service in settings["virtual_server"]})
    nodes = ["client", "box", *(server["name"] for server in settings["server"])]
    return Wire(one for node in nodes for one in packets(captures / f"{node}.pcapng", ports))


# What each cause must show


def _stopped_in_hand(one: Attempt) -> bool:
    return one.arrived <= one.closed < inf and one.closed <= one.given_up


def _closed_under_way(one: Attempt) -> bool:
    known = one.asked and one.told < one.sent - CLOCKS_S
    taken = one.asked and one.arrived + UNREAD_S < one.closed
    return one.closed < inf and not known and not taken


def _silent(one: Attempt) -> bool:
    return one.arrived < inf and not one.replies


def _filtered(one: Attempt) -> bool:
    refusals = (reply.icmp or (reply.flags & RST and reply.source == one.vip) for reply in one.replies)
    return _silent(one) or any(refusals)


def _no_dsr_rule(one: Attempt) -> bool:
    return any(reply.source != one.vip for reply in one.replies)


def _server_hung(one: Attempt) -> bool:
    return one.asked and one.arrived < inf and not any(reply.length or reply.ends for reply in one.replies)


PROOFS: Final[Mapping[str, tuple[str, Callable[[Attempt], bool]]]] = {
    "stuck_session": (
        "a later request of a connection, without a good response",
        lambda one: one.asked and not one.new and one.unanswered,
    ),
    "health_window": (
        "the first request of a connection or its SYN, without a good response",
        lambda one: one.new and one.unanswered,
    ),
    "vip_down": ("it came to the server, which sent nothing", _silent),
    "filtered": ("it came to the server, which sent a RST, an ICMP error or nothing", _filtered),
    "no_dsr_rule": ("the server replied from its own address", _no_dsr_rule),
    "unreachable": (
        "the box sent it on, and it did not come to the server or nothing came back",
        lambda one: one.forwarded and not one.replies,
    ),
    "stopped_in_hand": (
        "the server's FIN or RST left after it had come, and before the client's",
        _stopped_in_hand,
    ),
    "closed_under_way": ("the server's FIN or RST and the request crossed", _closed_under_way),
    "box_reset": ("a RST to the client left the box", lambda one: one.box_reset),
    "no_server": (
        "the box sent it to no server, or refused it",
        lambda one: one.at_box and (one.box_reset or not one.forwarded),
    ),
    "box_down": ("it came to the box, which did nothing", lambda one: one.at_box and not one.forwarded),
    "server_error": ("a response with a status of 400 or more", lambda one: one.status >= 400),
    "server_hung": ("it came to the server, which neither responded nor closed", _server_hung),
}
"""What the captures show of at least one attempt of a request that was lost for the cause."""


def of_run(logs: Sequence[Logged], result: Mapping[str, Any]) -> list[Logged]:
    """Without what clients logged after the run: it ends with the last request that the result has."""
    known = {one["id"] for one in result["request_log"]}
    ended = max((one.ended for one in logs if one.id in known), default=0.0)
    return [one for one in logs if one.id in known or one.ended <= ended]


def lost(logs: Sequence[Logged], wire: Wire) -> set[str]:
    """The lost requests by logs and captures."""
    return {one.id for one in logs if not one.ok} | wire.cut(logs)


def objections(result: Mapping[str, Any], logs: Sequence[Logged], wire: Wire) -> list[str]:
    """Where logs or captures contradict the product's result.json, a sentence each."""
    by_id = {one.id: one for one in logs}
    gone = lost(logs, wire)
    said = {one["id"]: one for one in result["explained"] if one["lost"]}
    found = [f"{name}: lost by log or capture, not by the result" for name in sorted(gone - said.keys())]
    found += [f"{name}: lost by the result only" for name in sorted(said.keys() - gone)]
    if result["lost"] != len(gone):
        found.append(f"the result says that {result['lost']} are lost; the clients say {len(gone)}")
    unknown = {one["id"] for one in result["request_log"]} - by_id.keys() - gone
    found += [f"{name}: in the result, in no log" for name in sorted(unknown)]
    for name in sorted(gone & said.keys() & by_id.keys()):
        cause = said[name]["cause"]
        if cause not in PROOFS:
            found.append(f"{name}: lost, {cause}: {said[name]['text']}")
        elif not any(PROOFS[cause][1](one) for one in wire.attempts(by_id[name])):
            found.append(
                f"{name}: {cause} ({said[name]['text']}), but the captures do not show: {PROOFS[cause][0]}"
            )
    return found
