"""Why each request of a run was lost, or slow, by its attempts on the wire.

A request's cause is that of the attempt its client gave up with; a slow one's is that of the first attempt
that went wrong, or of where the time went. Who closed first decides: what a server does to a connection that
its client has given up is no cause. Pure; times are the run's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from netns.analysis import causes
from netns.analysis.attempt import Attempt, Fate
from netns.analysis.attempts import Flows
from netns.analysis.causes import Cause, Explained, is_slow
from netns.analysis.findings import LOSSES
from netns.analysis.history import History
from netns.record.recording import Outcome, Request


def explain(
    requests: Iterable[Request], wire: Flows, history: History, *, slack_s: float
) -> tuple[Explained, ...]:
    """Every request of those that was lost or slow, in the order of time.

    `slack_s`: by how much a client's word on when it began may be off, box seconds.
    """
    suffered = [one for one in requests if one.outcome is not Outcome.OK or is_slow(one, history.speed)]
    attempts = {number: _asked(request, wire, slack_s) for number, request in enumerate(suffered)}
    found = []
    for number in [number for number, asked in attempts.items() if not asked]:
        if never := _never_written(suffered[number], wire, slack_s):
            found.append(never)
            del attempts[number]
    for number, opened in _opened(suffered, attempts, wire, slack_s).items():
        attempts[number] = sorted([*attempts[number], *opened], key=lambda one: one.sent)
    found += [_explained(suffered[number], made, history) for number, made in attempts.items()]
    return tuple(sorted(found, key=lambda one: one.request.started))


def _asked(request: Request, wire: Flows, slack_s: float) -> list[Attempt]:
    """The attempts that got as far as being sent."""
    cut = request.outcome not in (Outcome.OK, Outcome.HTTP_ERROR)
    if request.id:
        return wire.attempts(request.id, cut, request.ended + slack_s)
    if request.local_port:
        return wire.on_port(request.local_port, request.started - slack_s, request.ended + slack_s, cut)
    return []


def _opened(
    suffered: Sequence[Request], asked: Mapping[int, Sequence[Attempt]], wire: Flows, slack_s: float
) -> dict[int, list[Attempt]]:
    """The connections that came to nothing, by the number of the request that they were for.

    Many clients do not say their port then. Each connection is of one request only: those of which nothing
    else is on the wire choose first, and of these the pair nearest in time is made first. A request that is
    left without one gets one all the same if others can change theirs.
    """
    pairs = []
    for number, done in asked.items():
        request = suffered[number]
        if done and (done[-1].fate is Fate.ANSWERED or request.outcome in (Outcome.RESET, Outcome.CLOSED)):
            continue  # its end is that of an attempt that was made
        ports = {request.local_port} if request.local_port and not done else ()
        opened = wire.unasked(request.started - slack_s, request.ended + slack_s, ports)
        pairs += [(bool(done), _distance(request, one), number, one) for one in opened]
    chosen: dict[int, Attempt] = {}
    owners: dict[_Ends, int] = {}
    choices: dict[int, list[Attempt]] = {}
    for _, _, number, attempt in sorted(pairs, key=lambda pair: pair[:3]):
        choices.setdefault(number, []).append(attempt)
        if number not in chosen and _ends(attempt) not in owners:
            chosen[number] = attempt
            owners[_ends(attempt)] = number
    for number in choices:
        if number not in chosen and not asked[number]:
            _make_room(number, choices, chosen, owners)
    return {
        number: [wire.until(attempt, suffered[number].ended + slack_s)] for number, attempt in chosen.items()
    }


_Ends = tuple[str, float]


def _ends(attempt: Attempt) -> _Ends:
    return attempt.client, attempt.began


def _make_room(
    number: int,
    choices: Mapping[int, Sequence[Attempt]],
    chosen: dict[int, Attempt],
    owners: dict[_Ends, int],
) -> None:
    """Have requests change their connections so that this one gets one, if they can: an augmenting path."""
    wanted: dict[_Ends, tuple[int, Attempt]] = {}
    asking = [number]
    for one in asking:
        for attempt in choices[one]:
            ends = _ends(attempt)
            if ends in wanted:
                continue
            wanted[ends] = one, attempt
            if ends in owners:
                asking.append(owners[ends])
                continue
            while True:  # each on the path takes what it wants, and leaves what it had to the one before
                taker, taken = wanted[ends]
                left = chosen.get(taker)
                chosen[taker] = taken
                owners[ends] = taker
                if left is None:
                    return
                ends = _ends(left)


def _distance(request: Request, attempt: Attempt) -> float:
    """How far in time a connection that came to nothing is from the word of a client that hides its port."""
    if attempt.fate in (Fate.REFUSED, Fate.BOX_REFUSED, Fate.REJECTED, Fate.RESET, Fate.BOX_RESET):
        return abs(request.ended - attempt.ended)
    return abs(request.started - attempt.began)


def _never_written(request: Request, wire: Flows, slack_s: float) -> Explained | None:
    """A request that its client gave up when the connection that it was to go over was closed."""
    if request.outcome not in (Outcome.RESET, Outcome.CLOSED, Outcome.OTHER):
        return None
    attempt = wire.closed_idle(request.client, request.started - slack_s, request.ended + slack_s)
    if attempt is None:
        return None
    if attempt.fate is Fate.BOX_RESET:
        cause, text = Cause.BOX_RESET, f"the box reset its connection to {attempt.server}"
    else:
        how = "closed" if attempt.fate is Fate.CLOSED else "reset"
        cause, text = Cause.CLOSED_UNDER_WAY, f"{attempt.server} {how} a kept connection"
    text = f"{LOSSES[request.outcome]}: {text} as the request began, and it was never written"
    return Explained(request, True, cause, attempt.server, text, 0, request.started)


def _explained(request: Request, attempts: Sequence[Attempt], history: History) -> Explained:
    lost = request.outcome is not Outcome.OK
    if not attempts:
        server, at = "", request.started
        if history.box_is_down(request.ended):
            cause, text = Cause.BOX_DOWN, "the box's daemon had ended, and nothing of it was on the wire"
        else:
            cause = Cause.UNEXPLAINED
            text = f"nothing of it was on the wire: {request.error or 'no error said'}"
    else:
        wrong = [one for one in attempts if one.fate is not Fate.ANSWERED or one.opens > 1 or one.tries > 1]
        decisive = attempts[-1] if lost else (wrong or attempts)[0]
        cause, text = causes.cause(request, decisive, lost, history)
        server, at = decisive.server, decisive.sent
    took = history.seconds(request.ended - request.started)
    way = f"{LOSSES[request.outcome]}: " if lost else f"took {took}: "
    return Explained(request, lost, cause, server, way + text, len(attempts), at)
