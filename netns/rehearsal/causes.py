"""Why each request was lost, or slow: its attempts on the wire, joined with what servers and box were then.

A request's cause is that of the attempt its client gave up with; a slow one's is that of the first attempt
that went wrong, or of where the time went. What can't be told is UNEXPLAINED, and that is a defect of ours.
Pure; times are the run's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from netns.findings import LOSSES, seconds
from netns.recording import Fact, Outcome, Request
from netns.rehearsal.flows import Attempt, Fate, Wire
from netns.rehearsal.history import History

SLOW_S: Final = 0.5
"""Real seconds after which an answer is slow: below the first retransmission of a SYN (1 s, RFC 6298 §2),
above that of data (0.2 s, Linux)."""


UNREAD_S: Final = 0.02
"""Real seconds that a request may wait in a server's socket before the server has read it. What is closed
sooner after its arrival crossed the close, on a server that was closing idle connections."""


UNSEEN_S: Final = 0.05
"""Real seconds that a client may take to see what its kernel has been told."""


RETRANSMITTED_S: Final = 0.1
"""Real seconds after which what arrives is a retransmission (Linux: 0.2 s at least)."""


class Cause(Enum):
    """Why a request was lost or slow, in the order of how much a deploy can do about it."""

    STUCK_SESSION = "session stuck on a server already stopped"
    HEALTH_WINDOW = "new flow in the health window"
    VIP_DOWN = "VIP down"
    FILTERED = "refused or dropped by the server's own packet filter"
    NO_DSR_RULE = "server without its DSCP rule"
    UNREACHABLE = "server off the network"
    STOPPED_IN_HAND = "server stopped with the request in hand"
    CLOSED_UNDER_WAY = "server closed while the request was on the wire"
    BOX_RESET = "reset by the box"
    NO_SERVER = "no server bound"
    BOX_DOWN = "box down"
    SERVER_ERROR = "answered with an error by a server in service"
    SERVER_HUNG = "server hung: it took the request and did not answer"
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


def explain(
    requests: Iterable[Request], wire: Wire, history: History, *, slack_s: float
) -> tuple[Explained, ...]:
    """Every request of those that was lost or slow, in the order of time.

    `slack_s`: by how much a client's word on when it began may be off, box seconds.
    """
    suffered = [one for one in requests if one.outcome is not Outcome.OK or is_slow(one, history.speed)]
    attempts = {number: _asked(request, wire, slack_s) for number, request in enumerate(suffered)}
    for number, opened in _opened(suffered, attempts, wire, slack_s).items():
        attempts[number] = sorted([*attempts[number], *opened], key=lambda one: one.sent)
    found = [_explained(request, attempts[number], history) for number, request in enumerate(suffered)]
    return tuple(sorted(found, key=lambda one: one.request.started))


def _asked(request: Request, wire: Wire, slack_s: float) -> list[Attempt]:
    """The attempts that got as far as being sent."""
    cut = request.outcome not in (Outcome.OK, Outcome.HTTP_ERROR)
    if request.id:
        return wire.attempts(request.id, cut)
    if request.local_port:
        return wire.on_port(request.local_port, request.started - slack_s, request.ended + slack_s, cut)
    return []


def _opened(
    suffered: Sequence[Request], asked: Mapping[int, Sequence[Attempt]], wire: Wire, slack_s: float
) -> dict[int, list[Attempt]]:
    """The connections that came to nothing, by the number of the request that they were for.

    Many clients do not say their port then. Each connection is of one request only: those of which nothing
    else is on the wire choose first, and of these the pair nearest in time is made first.
    """
    pairs = []
    for number, request in enumerate(suffered):
        done = asked[number]
        if done and (done[-1].fate is Fate.ANSWERED or request.outcome in (Outcome.RESET, Outcome.CLOSED)):
            continue  # its end is that of an attempt that was made
        ports = {request.local_port} if request.local_port and not done else ()
        opened = wire.unasked(request.started - slack_s, request.ended + slack_s, ports)
        pairs += [(bool(done), _distance(request, one), number, one) for one in opened]
    found: dict[int, list[Attempt]] = {}
    taken: set[tuple[str, float]] = set()
    for _, _, number, attempt in sorted(pairs, key=lambda pair: pair[:3]):
        if number not in found and (attempt.client, attempt.began) not in taken:
            found[number] = [attempt]
            taken.add((attempt.client, attempt.began))
    return found


def _distance(request: Request, attempt: Attempt) -> float:
    """How far in time a connection that came to nothing is from the word of a client that hides its port."""
    if attempt.fate in (Fate.REFUSED, Fate.BOX_REFUSED, Fate.RESET, Fate.BOX_RESET):
        return abs(request.ended - attempt.ended)
    return abs(request.started - attempt.began)


def _explained(request: Request, attempts: Sequence[Attempt], history: History) -> Explained:
    lost = request.outcome is not Outcome.OK
    if not attempts:
        cause = Cause.BOX_DOWN if history.box_is_down(request.started) else Cause.UNEXPLAINED
        server, text, at = (
            "",
            f"nothing of it was on the wire: {request.error or 'no error said'}",
            request.started,
        )
    else:
        wrong = [one for one in attempts if one.fate is not Fate.ANSWERED or one.opens > 1 or one.tries > 1]
        decisive = attempts[-1] if lost else (wrong or attempts)[0]
        cause, text = _cause(request, decisive, lost, history)
        server, at = decisive.server, decisive.sent
    way = f"{LOSSES[request.outcome]}: " if lost else f"took {seconds(request.ended - request.started)}: "
    return Explained(request, lost, cause, server, way + text, len(attempts), at)


def _cause(request: Request, attempt: Attempt, lost: bool, history: History) -> tuple[Cause, str]:
    match attempt.fate:
        case Fate.ANSWERED if lost:
            return _error(request, attempt, history)
        case Fate.ANSWERED:
            return _slow(request, attempt, history)
        case Fate.REFUSED:
            return _refused(attempt, history)
        case Fate.RESET | Fate.CLOSED:
            return _ended_by_server(attempt, history)
        case Fate.BOX_REFUSED:
            if not history.any_bound(attempt.sent):
                return Cause.NO_SERVER, "no server was bound, and the box refused the connection"
            return Cause.UNEXPLAINED, "the box refused the connection though servers were bound"
        case Fate.BOX_RESET:
            return Cause.BOX_RESET, f"the box reset its connection to {attempt.server or 'a server'}"
        case Fate.TAKEN | Fate.IGNORED:
            return _silent(attempt, history)
        case Fate.STOPPED_AT_BOX | Fate.LOST:
            return _not_forwarded(attempt, history)


def _what(attempt: Attempt) -> str:
    return "a new connection" if attempt.new else "a connection that it had"


def _lack(history: History, attempt: Attempt, *facts: Fact) -> str:
    """What the server lacked when the attempt was first sent, and since when; "" when it lacked nothing."""
    time = attempt.began if attempt.opens else attempt.sent
    words = {
        Fact.LISTENING: "nothing listened there",
        Fact.VIP: "its VIP was down",
        Fact.HEALTH_FILE: "its health file was gone",
        Fact.CONTAINER: "its container was gone, and its network with it",
    }
    found = [lack for fact in facts if (lack := history.lack(attempt.server, fact, time))]
    return ", ".join(
        f"{words[lack.fact]} for {seconds(max(0.0, time - lack.began))} already" for lack in found
    )


def _window(attempt: Attempt, history: History) -> str:
    out = history.unbound_after(attempt.server, attempt.sent)
    return f", and the box still bound it, for {seconds(out - attempt.sent)} more" if out is not None else ""


def _gone(attempt: Attempt, history: History) -> tuple[Cause, str] | None:
    """It led to a container that had ended: nothing is left there that could say a word."""
    why = _lack(history, attempt, Fact.CONTAINER)
    if not why:
        return None
    text = f"{_what(attempt)} led to {attempt.server}: {why}"
    if attempt.new:
        return Cause.HEALTH_WINDOW, text + _window(attempt, history)
    return Cause.STUCK_SESSION, text


def _refused(attempt: Attempt, history: History) -> tuple[Cause, str]:
    why = _lack(history, attempt, Fact.LISTENING)
    if not why:
        return Cause.UNEXPLAINED, f"{attempt.server} refused a new connection though it listened"
    return Cause.HEALTH_WINDOW, f"a new connection went to {attempt.server}: {why}{_window(attempt, history)}"


def _ended_by_server(attempt: Attempt, history: History) -> tuple[Cause, str]:
    server, arrived, closed, told = attempt.server, attempt.arrived, attempt.closed, attempt.told
    how = "reset" if attempt.fate is Fate.RESET else "closed"
    if told is not None and 0 < attempt.sent - told < UNSEEN_S * history.speed:
        text = f"{server} {how} the connection {seconds(attempt.sent - told)} before the request left"
        return Cause.CLOSED_UNDER_WAY, f"{text}, too late for the client to see"
    if told is not None and told < attempt.sent:
        text = f"sent over a connection that {server} had closed {seconds(attempt.sent - told)} before"
        return Cause.STUCK_SESSION, text
    if attempt.new and closed is not None and history.lack(server, Fact.LISTENING, closed):
        return (
            Cause.HEALTH_WINDOW,
            f"a new connection went to {server} as it stopped{_window(attempt, history)}",
        )
    if closed is not None and arrived is not None and arrived <= closed:
        text = f"{server} {how} {_what(attempt)} {seconds(closed - arrived)} after the request had arrived"
        if closed - arrived < UNREAD_S * history.speed:
            return Cause.CLOSED_UNDER_WAY, f"{text}, before it was read"
        return Cause.STOPPED_IN_HAND, text
    if closed is not None:
        when = f"{seconds(attempt.sent - closed)} before" if closed < attempt.sent else "while"
        text = f"{server} {how} the connection {when} the request left, and the client could not know"
        return Cause.CLOSED_UNDER_WAY, text
    why = _lack(history, attempt, *Fact)
    if why:
        return Cause.STUCK_SESSION, f"sent over {_what(attempt)} to {server}: {why}"
    return Cause.UNEXPLAINED, f"{how} on {_what(attempt)}, and {server or 'no server'} was not seen to do it"


def _silent(attempt: Attempt, history: History) -> tuple[Cause, str]:
    if gone := _gone(attempt, history):
        return gone
    server = attempt.server
    late = attempt.arrived - attempt.sent if attempt.arrived is not None else 0.0
    if attempt.tries > 1 and late > RETRANSMITTED_S * history.speed:
        text = f"{_what(attempt)} led to {server}, and nothing of it arrived there for {seconds(late)}"
        return Cause.UNREACHABLE, text
    if why := _lack(history, attempt, Fact.VIP):
        extra = _window(attempt, history) if attempt.new else ""
        return Cause.VIP_DOWN, f"{_what(attempt)} led to {server} and nothing came back: {why}{extra}"
    if attempt.fate is Fate.IGNORED:
        text = (
            f"{server}'s kernel got it over {_what(attempt)} and said nothing, with its VIP up: no DSCP rule?"
        )
        return Cause.UNEXPLAINED, text
    why = _lack(history, attempt, Fact.LISTENING, Fact.HEALTH_FILE)
    if why and not attempt.new:
        return (
            Cause.STUCK_SESSION,
            f"{server} took it over a connection that it had and did not answer: {why}",
        )
    if why:
        text = f"{server} took a new connection and did not answer: {why}{_window(attempt, history)}"
        return Cause.HEALTH_WINDOW, text
    return Cause.SERVER_HUNG, f"{server} took it over {_what(attempt)} and did not answer"


def _not_forwarded(attempt: Attempt, history: History) -> tuple[Cause, str]:
    if history.box_is_down(attempt.sent) or history.box_is_down(attempt.ended):
        return Cause.BOX_DOWN, "the box's daemon had ended: what came to it was dropped"
    if gone := _gone(attempt, history):
        return gone
    if attempt.fate is Fate.LOST and attempt.server:
        extra = _window(attempt, history) if attempt.new else ""
        text = f"{_what(attempt)} led to {attempt.server}, and nothing of it arrived there{extra}"
        return Cause.UNREACHABLE, text
    if attempt.fate is Fate.STOPPED_AT_BOX and attempt.new and not history.any_bound(attempt.sent):
        return Cause.NO_SERVER, "no server was bound, and the box dropped it"
    place = "the box did not forward it" if attempt.fate is Fate.STOPPED_AT_BOX else "it was lost on the way"
    return Cause.UNEXPLAINED, f"over {_what(attempt)}: {place}"


def _error(request: Request, attempt: Attempt, history: History) -> tuple[Cause, str]:
    answer = f"{attempt.server} answered {request.status} over {_what(attempt)}"
    out = history.out_of_service(attempt.server, attempt.sent)
    if out is None and history.bound(attempt.server, attempt.sent):
        return Cause.SERVER_ERROR, answer
    since = (
        f": it was being taken out for {seconds(max(0.0, attempt.sent - out.began))} already" if out else ""
    )
    if attempt.new and history.bound(attempt.server, attempt.sent):
        return Cause.HEALTH_WINDOW, f"{answer}{since}{_window(attempt, history)}"
    return Cause.STUCK_SESSION, answer + since


def _slow(request: Request, attempt: Attempt, history: History) -> tuple[Cause, str]:
    """It was answered, late: where the time went."""
    if attempt.opens > 1 or attempt.tries > 1:
        if gone := _gone(attempt, history):
            return gone
        if why := _lack(history, attempt, Fact.VIP):
            return Cause.VIP_DOWN, f"{attempt.server} did not take it at first: {why}"
        if history.box_is_down(attempt.began):
            return Cause.BOX_DOWN, "the box's daemon had ended"
        return Cause.PATH_SLOW, f"sent {max(attempt.opens, attempt.tries)} times until it got through"
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
    if cause is Cause.SERVER_SLOW and (out := history.out_of_service(attempt.server, attempt.sent)):
        cause = Cause.HEALTH_WINDOW if attempt.new else Cause.STUCK_SESSION
        text = f"{attempt.server} answered {seconds(answered - arrived)} after it had it, "
        return cause, text + f"being taken out for {seconds(max(0.0, attempt.sent - out.began))} already"
    where = {
        Cause.CLIENT_SLOW: "the client was busy with itself",
        Cause.PATH_SLOW: "it was on the way",
        Cause.SERVER_SLOW: f"{attempt.server} had it",
    }
    return cause, f"{where[cause]} for {seconds(parts[cause])} of them"
