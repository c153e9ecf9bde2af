"""Why an attempt of a request failed, or took long: its fate on the wire, joined with what its server and the
box were then.

What can't be told is UNEXPLAINED, and that is a defect of ours. Pure; times are the run's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from netns.analysis.attempt import Attempt, Fate
from netns.analysis.findings import Lack
from netns.analysis.history import History
from netns.record.recording import Fact, Outcome, Request

SLOW_S: Final = 0.5
"""Real seconds after which an answer is slow: below the first retransmission of a SYN (1 s, RFC 6298 §2),
above that of data (0.2 s, Linux)."""


UNREAD_S: Final = 0.02
"""Real seconds that a request may wait in a server's socket before the server has read it. A RST sooner after
its arrival means that the request crossed the close, on a server that was closing idle connections."""


UNSEEN_S: Final = 0.05
"""Real seconds that a client may take to see what its kernel has been told."""


RETRANSMITTED_S: Final = 0.1
"""Real seconds after which what arrives is a retransmission (Linux: 0.2 s at least)."""


JUST_S: Final = 0.005
"""What is shorter is printed as no time at all."""


class Cause(Enum):
    """Why a request was lost or slow, in the order of how much a deploy can do about it."""

    STUCK_SESSION = "session stuck on a server already stopped"
    HEALTH_WINDOW = "sent to a stopped server before the box noticed"
    VIP_DOWN = "VIP down"
    FILTERED = "server's own packet filter refused or dropped it or the answer"
    NO_DSR_RULE = "server without its DSCP rule"
    UNREACHABLE = "server off the network"
    STOPPED_IN_HAND = "server closed after it had the request, without a whole answer"
    CLOSED_UNDER_WAY = "server closed while the request was on the wire"
    BOX_RESET = "reset by the box"
    NO_SERVER = "no server bound"
    BOX_DOWN = "box down"
    SERVER_ERROR = "answered with an error by a server in service"
    SERVER_HUNG = "server hung: it did not answer what reached it"
    SERVER_SLOW = "server in service answered late"
    PATH_SLOW = "slow on the way"
    CLIENT_SLOW = "slow in the client itself"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Explained:
    """A request that was lost or slow, and why."""

    request: Request
    lost: bool
    cause: Cause
    server: str
    """The server concerned; "" for none."""
    text: str
    """What happened, in a sentence."""
    attempts: int
    """On the wire."""
    at: float
    """When the attempt that decided it was sent."""


def is_slow(request: Request, speed: float) -> bool:
    return request.outcome is Outcome.OK and request.ended - request.started > SLOW_S * speed


def cause(request: Request, attempt: Attempt, lost: bool, history: History) -> tuple[Cause, str]:
    """Why an attempt of a request failed, or took long, and that in a sentence."""
    match attempt.fate:
        case Fate.ANSWERED if lost:
            return _error(request, attempt, history)
        case Fate.ANSWERED:
            return _slow(request, attempt, history)
        case Fate.REFUSED:
            return _refused(attempt, history)
        case Fate.REJECTED:
            return _filtered(attempt, history, "refused it by ICMP")
        case Fate.RESET | Fate.CLOSED:
            return _ended_by_server(attempt, history)
        case Fate.UNKNOWN_THERE:
            return _unknown_there(attempt, history)
        case Fate.BOX_REFUSED:
            if history.none_bound(attempt.sent, attempt.virtual_server):
                return Cause.NO_SERVER, "no server was bound, and the box refused the connection"
            return Cause.UNEXPLAINED, "the box refused the connection though servers were bound"
        case Fate.BOX_RESET:
            return Cause.BOX_RESET, f"the box reset its connection to {attempt.server or 'a server'}"
        case Fate.FROM_OWN_ADDRESS:
            return _no_dsr_rule(attempt, history, "answered from its own address, which the client ignores")
        case Fate.TAKEN:
            return _taken(request, attempt, history)
        case Fate.IGNORED:
            return _ignored(attempt, history)
        case Fate.STOPPED_AT_BOX | Fate.LOST:
            return _not_forwarded(attempt, history)


def _what(attempt: Attempt) -> str:
    return "a new connection" if attempt.new else "a kept connection"


_LACKED: Final = {
    Fact.LISTENING: "nothing listened there",
    Fact.VIP: "its VIP was down",
    Fact.HEALTH_FILE: "its health file was gone",
    Fact.CONTAINER: "its container was gone, and its network with it",
    Fact.FILTER: "that rule was there",
    Fact.DSR_RULE: "its DSCP rule was gone",
    Fact.ROUTE: "it had no route to the clients",
}
"""What a server lacked, in a sentence about the past."""


def _began(attempt: Attempt) -> float:
    """When the attempt was first sent."""
    return attempt.began if attempt.opens else attempt.sent


def _lack(history: History, attempt: Attempt, *facts: Fact) -> str:
    """What the server lacked when the attempt was first sent, and since when; "" when it lacked nothing."""
    time = _began(attempt)
    found = [lack for fact in facts if (lack := history.lack(attempt.server, fact, time))]
    return ", ".join(f"{_LACKED[lack.fact]} {_since(lack, time, history)}" for lack in found)


def _by(span: float, history: History) -> str:
    """A distance in time, before "before" or "after"."""
    return "just" if span < JUST_S else history.seconds(span)


def _since(lack: Lack, time: float, history: History) -> str:
    """How long it had lasted by then."""
    if time - lack.began < JUST_S:
        return "from that moment on"
    return f"for {history.seconds(time - lack.began)} already"


def _window(attempt: Attempt, history: History) -> str:
    """How long the box went on giving the server new connections, for one of those; "" for a kept one."""
    out = history.unbound_after(attempt.server, attempt.sent, attempt.virtual_server)
    if not attempt.new or out is None or out - attempt.sent < JUST_S:
        return ""
    return f", and the box still bound it, for {history.seconds(out - attempt.sent)} more"


def _gone(attempt: Attempt, history: History) -> tuple[Cause, str] | None:
    """It led to a container that had ended: nothing is left there that could say a word."""
    why = _lack(history, attempt, Fact.CONTAINER)
    if not why:
        return None
    text = f"{_what(attempt)} led to {attempt.server}: {why}{_window(attempt, history)}"
    return (Cause.HEALTH_WINDOW if attempt.new else Cause.STUCK_SESSION), text


def _no_dsr_rule(attempt: Attempt, history: History, did: str) -> tuple[Cause, str]:
    why = _lack(history, attempt, Fact.DSR_RULE)
    text = f"{_what(attempt)} led to {attempt.server}, which {did}{f': {why}' if why else ''}"
    return Cause.NO_DSR_RULE, text + _window(attempt, history)


def _filtered(attempt: Attempt, history: History, did: str) -> tuple[Cause, str]:
    """The server's packet filter did that to it; since when is known where the filter could be watched."""
    why = _lack(history, attempt, Fact.FILTER)
    text = f"{_what(attempt)} led to {attempt.server}, whose packet filter {did}{f': {why}' if why else ''}"
    return Cause.FILTERED, text + _window(attempt, history)


_SILENT: Final = frozenset({Fate.TAKEN, Fate.IGNORED})
"""The client waited until it gave up."""


def _may_filter(attempt: Attempt, history: History) -> bool:
    """Whether the server's filter may have stopped packets meanwhile: it did, or nobody could watch it."""
    if not history.watched(attempt.server, Fact.FILTER):
        return True
    waited = attempt.fate in _SILENT and attempt.until < inf
    until = attempt.until if waited else attempt.ended
    return history.lack_during(attempt.server, Fact.FILTER, _began(attempt), until) is not None


def _refused(attempt: Attempt, history: History) -> tuple[Cause, str]:
    server, window = attempt.server, _window(attempt, history)
    if why := _lack(history, attempt, Fact.LISTENING):
        return Cause.HEALTH_WINDOW, f"a new connection went to {server}: {why}{window}"
    if _may_filter(attempt, history):
        return _filtered(attempt, history, "refused it with a TCP reset")
    text = f"{server} refused a new connection: for a moment, too short to be seen, nothing listened there"
    return Cause.HEALTH_WINDOW, text + window


def _unknown_there(attempt: Attempt, history: History) -> tuple[Cause, str]:
    """The kernel reset it and had never closed it: a filter's reset, or its socket went without a word."""
    server = attempt.server
    stopped = history.lack_during(server, Fact.LISTENING, attempt.began, attempt.ended)
    if not stopped and _may_filter(attempt, history):
        return _filtered(attempt, history, "refused it with a TCP reset")
    if stopped and not attempt.new:
        text = f"{server} had stopped since the connection began, and did not know it any more"
        return Cause.STUCK_SESSION, text
    return _ended_by_server(attempt, history)


def _ended_by_server(attempt: Attempt, history: History) -> tuple[Cause, str]:
    server, arrived, told = attempt.server, attempt.arrived, attempt.told
    closed = attempt.ended if attempt.closed is None else attempt.closed
    who = server or "the server"
    how = "closed" if attempt.fate is Fate.CLOSED else "reset"
    if told is not None and told < attempt.sent:
        before = _by(attempt.sent - told, history)
        unseen = attempt.sent - told < UNSEEN_S * history.speed
        if unseen or not history.out_of_service(server, attempt.sent, told):
            notice = "too late for the client to see" if unseen else "and the client had not noticed"
            text = f"{who} {how} the connection {before} before the request left, {notice}"
            return Cause.CLOSED_UNDER_WAY, text
        return Cause.STUCK_SESSION, f"sent over a connection that {who} had closed {before} before"
    # A listener's end resets what waits for accept(), however long that waited.
    waiting = attempt.fate is not Fate.CLOSED or _is_unread(attempt, closed, history)
    if attempt.new and waiting and not attempt.answered and history.lack(server, Fact.LISTENING, closed):
        text = f"a new connection went to {server} as it stopped{_window(attempt, history)}"
        return Cause.HEALTH_WINDOW, text
    if arrived is not None and arrived <= closed:
        since = f"{_by(closed - arrived, history)} after {'the request' if attempt.asked else 'it'}"
        text = f"{server} {how} {_what(attempt)} {since} had arrived"
        if attempt.answered is not None:
            return Cause.STOPPED_IN_HAND, f"{text}, in the middle of its answer"
        if not attempt.asked:
            return Cause.CLOSED_UNDER_WAY, f"{text}, before a request was sent over it"
        if _is_unread(attempt, closed, history):
            if how == "closed" and history.watched(server, Fact.FILTER) and _may_filter(attempt, history):
                return _filtered(attempt, history, "dropped it until the server closed the connection")
            return Cause.CLOSED_UNDER_WAY, f"{text}, before it was read"
        return Cause.STOPPED_IN_HAND, text
    when = f"{_by(attempt.sent - closed, history)} before" if closed < attempt.sent else "while"
    text = f"{who} {how} the connection {when} the request left, and the client could not know"
    return Cause.CLOSED_UNDER_WAY, text


def _is_unread(attempt: Attempt, closed: float, history: History) -> bool:
    """Whether the server closed the connection before its process had read what the client had sent."""
    if attempt.asked and attempt.fate is Fate.CLOSED:
        return not attempt.read
    return attempt.arrived is None or closed - attempt.arrived < UNREAD_S * history.speed


def _obstacle(attempt: Attempt, history: History) -> tuple[Cause, str] | None:
    """What kept the packets from the server's sockets, by what was seen of the server."""
    if gone := _gone(attempt, history):
        return gone
    late = attempt.arrived - attempt.sent if attempt.arrived is not None else 0.0
    if attempt.tries > 1 and late > RETRANSMITTED_S * history.speed:
        text = f"{_what(attempt)} led to {attempt.server}, and nothing of it arrived there for"
        return Cause.UNREACHABLE, f"{text} {history.seconds(late)}"
    for fact, cause in ((Fact.VIP, Cause.VIP_DOWN), (Fact.ROUTE, Cause.UNREACHABLE)):
        if why := _lack(history, attempt, fact):
            return cause, f"{_what(attempt)} led to {attempt.server}: {why}{_window(attempt, history)}"
    if history.lack(attempt.server, Fact.DSR_RULE, _began(attempt)):
        return _no_dsr_rule(attempt, history, "did not take it for the VIP's")
    return None


def _ignored(attempt: Attempt, history: History) -> tuple[Cause, str]:
    if obstacle := _obstacle(attempt, history):
        return obstacle
    if _may_filter(attempt, history):
        return _filtered(attempt, history, "dropped it or the answer")
    server = attempt.server
    if attempt.new:
        return Cause.SERVER_HUNG, f"{server}'s kernel got a new connection and did not answer it"
    text = f"{server}'s kernel got it over {_what(attempt)}, and no word of it left the server"
    return Cause.UNREACHABLE, text


def _taken(request: Request, attempt: Attempt, history: History) -> tuple[Cause, str]:
    if obstacle := _obstacle(attempt, history):
        return obstacle
    server = attempt.server
    if history.lack_during(server, Fact.CONTAINER, attempt.sent, attempt.until):
        return Cause.STOPPED_IN_HAND, f"{server}'s container ended when it had taken {_what(attempt)}"
    if history.lack_during(server, Fact.VIP, attempt.sent, attempt.until):
        return (
            Cause.VIP_DOWN,
            f"{server} took it over {_what(attempt)}, and its VIP went down before it answered",
        )
    if attempt.answered is not None and request.outcome in (Outcome.CLOSED, Outcome.RESET):
        text = f"{server} closed {_what(attempt)} in the middle of its answer"
        return Cause.STOPPED_IN_HAND, text
    rule = history.lack_during(server, Fact.FILTER, _began(attempt), attempt.until)
    if rule and (attempt.tries > 1 or rule.began > attempt.sent):
        return _filtered(attempt, history, "dropped it or the answer")
    did = "did not answer" if attempt.answered is None else "did not end its answer"
    if why := _lack(history, attempt, Fact.LISTENING, Fact.HEALTH_FILE):
        text = f"{server} took {'a new connection' if attempt.new else 'it over a kept connection'}"
        text = f"{text} and {did}: {why}{_window(attempt, history)}"
        return (Cause.HEALTH_WINDOW if attempt.new else Cause.STUCK_SESSION), text
    return Cause.SERVER_HUNG, f"{server} took it over {_what(attempt)} and {did}"


def _not_forwarded(attempt: Attempt, history: History) -> tuple[Cause, str]:
    if any(map(history.box_is_down, (attempt.sent, attempt.ended))):
        return Cause.BOX_DOWN, "the box's daemon had ended: what came to it was dropped"
    if gone := _gone(attempt, history):
        return gone
    if attempt.fate is Fate.LOST and attempt.server:
        text = f"{_what(attempt)} led to {attempt.server}, and nothing of it arrived there"
        return Cause.UNREACHABLE, text + _window(attempt, history)
    at_box = attempt.fate is Fate.STOPPED_AT_BOX
    if at_box and attempt.new and history.none_bound(attempt.sent, attempt.virtual_server):
        return Cause.NO_SERVER, "no server was bound, and the box dropped it"
    place = "the box did not forward it" if at_box else "it was lost on the way"
    return Cause.UNEXPLAINED, f"over {_what(attempt)}: {place}"


def _error(request: Request, attempt: Attempt, history: History) -> tuple[Cause, str]:
    answer = f"{attempt.server} answered {request.status} over {_what(attempt)}"
    out = history.out_of_service(attempt.server, attempt.sent)
    bound = history.bound(attempt.server, attempt.sent, attempt.virtual_server)
    if out is None and bound:
        return Cause.SERVER_ERROR, answer
    if out is not None:
        answer = f"{answer}: it was being taken out {_since(out, attempt.sent, history)}"
    if not attempt.new:
        return Cause.STUCK_SESSION, answer
    if out is None:  # the box took it for one in service, whatever it said a moment later
        return Cause.SERVER_ERROR, answer
    return Cause.HEALTH_WINDOW, answer + _window(attempt, history)


def _slow(request: Request, attempt: Attempt, history: History) -> tuple[Cause, str]:
    """It was answered, late: where the time went."""
    if (attempt.opens > 1 or attempt.tries > 1) and (found := _repeated(attempt, history)):
        return found
    arrived, answered = attempt.arrived, attempt.answered
    if arrived is None or answered is None:
        return Cause.UNEXPLAINED, "its way is not whole in the captures"
    began = attempt.began if attempt.new else attempt.sent
    parts = {
        Cause.CLIENT_SLOW: (began - request.started) + (request.ended - attempt.ended),
        Cause.PATH_SLOW: (arrived - began) + (attempt.ended - answered),
        Cause.SERVER_SLOW: answered - arrived,
    }
    cause = max(parts, key=lambda one: parts[one])
    span = history.seconds(min(parts[cause], request.ended - request.started))
    if cause is Cause.SERVER_SLOW and (out := history.out_of_service(attempt.server, attempt.sent)):
        text = f"{attempt.server} answered {span} after it had it, being taken out"
        text = f"{text} {_since(out, attempt.sent, history)}"
        return (Cause.HEALTH_WINDOW if attempt.new else Cause.STUCK_SESSION), text
    where = {
        Cause.CLIENT_SLOW: "the client was busy with itself",
        Cause.PATH_SLOW: "it was on the way",
        Cause.SERVER_SLOW: f"{attempt.server} had it",
    }
    return cause, f"{where[cause]} for {span} of them"


def _repeated(attempt: Attempt, history: History) -> tuple[Cause, str] | None:
    """Its client's kernel had to send it more than once; None where the first had arrived and was taken."""
    if history.box_is_down(_began(attempt)):
        return Cause.BOX_DOWN, "the box's daemon had ended"
    if obstacle := _obstacle(attempt, history):
        return obstacle
    first = attempt.reached if attempt.opens > 1 else attempt.arrived
    if first is None or first - _began(attempt) > RETRANSMITTED_S * history.speed:
        return Cause.PATH_SLOW, f"sent {max(attempt.opens, attempt.tries)} times until it got through"
    if history.watched(attempt.server, Fact.FILTER) and _may_filter(attempt, history):
        return _filtered(attempt, history, "dropped it or the answer at first")
    if attempt.opens > 1:
        return Cause.SERVER_SLOW, f"{attempt.server}'s kernel did not answer a new connection at first"
    return None
