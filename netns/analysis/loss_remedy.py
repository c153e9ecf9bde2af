"""What would have saved requests that were lost otherwise than in the health window, by their cause. Pure.

Nothing is said of a stop where nothing stopped, nor of a health file where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import inf, isinf
from typing import Final

from netns.analysis.causes import Cause, Explained
from netns.analysis.facts import Facts
from netns.analysis.health_window import worst_s
from netns.analysis.remedy import Remedy, longest_s, methods, statuses
from netns.analysis.wording import plural, seconds, were
from netns.record.recording import Outcome

GRACEFULLY: Final = "graceful"
"""How a stop's step names the gentle way (netns/web: StopSignal)."""


def _requests(lost: Sequence[Explained]) -> str:
    return plural(len(lost), "request")


def _answers(lost: Sequence[Explained]) -> str:
    return "its answer" if len(lost) == 1 else "their answers"


_STOP_FIRST: Final = (
    "Stop the web server gracefully before the deploy changes what it serves, so that it closes its clients' "
    "connections"
)


def _stuck(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    stop = facts.last_stop(server, lost[0].at)
    if lost[0].request.outcome is Outcome.HTTP_ERROR:
        return Remedy(
            f"{server} answered {statuses(lost)} to {_requests(lost)} while it was out of service: the box "
            "keeps sessions whatever the server's health",
            _STOP_FIRST,
            "Stop the web server gracefully before changing what it serves",
        )
    if stop is not None and stop.how.startswith(GRACEFULLY):
        return Remedy(
            f"{_requests(lost)} followed sessions that the box keeps to {server}, though it had stopped "
            f"gracefully ({stop.how})",
            _CLOSE_FIRST,
            _CLOSE_FIRST_STEP,
        )
    if stop is not None:
        return Remedy(
            f"{_requests(lost)} followed sessions that the box keeps to {server}, which had stopped",
            "Stop the web server gracefully before anything else of the server changes: its kernel then "
            "closes the connections, and the clients open others",
            "Stop the web server gracefully before anything else of the server changes",
        )
    if lost[0].request.outcome is Outcome.TIMEOUT:
        return Remedy(
            f"{server} did not answer {_requests(lost)} over sessions that the box keeps. It had not stopped",
            _STOP_FIRST,
            "Stop the web server gracefully before changing what it serves",
        )
    return _closed_in_service(server, lost, facts)


def _vip_down(server: str, lost: Sequence[Explained], _: Facts) -> Remedy:
    return Remedy(
        f"{_requests(lost)} reached {server} while its VIP was down: its kernel drops such packets and "
        "sends the client nothing",
        "Keep the VIP up: make the health check fail instead, wait until the box says FAILED, and stop the "
        "web server",
        "Keep the VIP up, and stop the web server once the box says FAILED",
    )


def _filtered(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    services = facts.services_of(server)
    wait_s = max(worst_s(one) for one in services)
    wait = facts.setting(wait_s)
    if any(one.health_check.kind == "l4" for one in services):
        do = (
            f"Filter only the box's checks, wait {wait} or until the box says FAILED, and stop the web server"
        )
        step = f"Filter only the box's checks, not the clients, and stop the server {wait} later"
    else:
        do = f"Make the health check fail instead, wait {wait} or until the box says FAILED, and stop it then"
        step = f"Make the health check fail instead of filtering clients, and stop the server {wait} later"
    return Remedy(
        f"{server}'s own packet filter refused or dropped {_requests(lost)}, or {_answers(lost)}",
        do,
        step,
        wait_s,
    )


def _no_rule(server: str, lost: Sequence[Explained], _: Facts) -> Remedy:
    return Remedy(
        f"{_requests(lost)} reached {server} while it had no DSCP rule, by which its kernel takes them for "
        "the VIP's",
        "Keep the rule in place: do not flush the whole ruleset, or load the rule again in the same "
        "transaction",
        "Keep the server's DSCP rule in place while its packet filter changes",
    )


def _unreachable(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    sent = f"The box forwarded {_requests(lost)} to {server}"
    if not facts.had_a_route(server, lost[0].at):
        return Remedy(
            f"{sent}, which had no route to the clients",
            "Before the route goes, wait until the box says FAILED and stop the web server",
            "Wait for FAILED and stop the web server before the server's route to the clients goes",
        )
    return Remedy(
        f"{sent}, and nothing came back in time",
        "Before the server leaves the network, wait until the box says FAILED and stop the web server",
        "Wait for FAILED and stop the web server before the server leaves the network",
    )


def _unfinished(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    stop, command, longest = facts.stop_during(lost[0]), facts.command(lost), facts.real(longest_s(lost))
    if stop is None and command:
        return Remedy(
            f"{server} closed connections before it answered {_requests(lost)}, while it listened and "
            f"{command}",
            f"Let its old workers finish: give them more than {longest}. If none ended, look in {server}'s "
            "own log",
            "Let the server's old workers finish their requests",
        )
    if stop is None:
        return Remedy(
            f"{server} closed connections before it answered {_requests(lost)}, while it listened and no "
            "command ran",
            f"Look in {server}'s own log for a worker that ended, or for an error",
            "Look in the server's own log for a worker that ended, or for an error",
        )
    if stop.how.startswith(GRACEFULLY):
        return Remedy(
            f"{server} stopped before it answered {_requests(lost)}, though it was told to stop gracefully "
            f"({stop.how})",
            f"Raise the time that it gives its requests above {longest}",
            "Raise the web server's graceful-stop timeout",
        )
    how = f" ({stop.how})" if stop.how else ""
    return Remedy(
        f"{server} stopped{how} before it answered {_requests(lost)}",
        f"Stop it by the signal after which it finishes its requests, and give it more than {longest}",
        "Stop the web server gracefully, and give its requests time to end",
    )


_CLOSE_FIRST: Final = (
    'No wait avoids this. Answer with "Connection: close" while the server drains, so that clients close '
    "first, or make the clients retry"
)
_CLOSE_FIRST_STEP: Final = 'Answer with "Connection: close" while draining, or make the clients retry'


def _closed_under_way(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    if facts.stop(server, lost[0].at) is None:
        return _closed_in_service(server, lost, facts)
    return Remedy(
        f"{server} closed connections as it stopped, while {_requests(lost)} ({methods(lost)}) "
        f"{were(len(lost))} on the wire",
        _CLOSE_FIRST,
        _CLOSE_FIRST_STEP,
    )


def _closed_in_service(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    """It closed connections that were idle, and did not stop: its keep-alive timeout, or a reload."""
    count = f"{_requests(lost)} ({methods(lost)})"
    what = f"{count} {were(len(lost))} sent over connections that {server} closed while it listened"
    timeout = facts.idle_timeout(server, lost)
    if timeout is not None:
        least, most = map(seconds, timeout)
        seen = most if least == most else f"{least.removesuffix(' s')}–{most}"
        return Remedy(
            f"{what}, after they had been idle for {seen}",
            "Set its keep-alive timeout longer than the clients keep an idle connection",
            "Set the server's keep-alive timeout longer than the clients keep an idle connection",
        )
    command = facts.command(lost)
    return Remedy(
        f"{what} and {command}" if command else what,
        'Answer with "Connection: close" before connections are closed, or make the clients retry',
        'Answer with "Connection: close" before connections are closed, or make the clients retry',
    )


def _box_reset(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    what = f"The box reset {_requests(lost)}{f' of {server}' if server else ''}"
    reasons = facts.reset_reasons(server, lost)
    if "port_fail" in reasons:
        return Remedy(
            f"{what} when the server was FAILED (Reset On Port Fail)",
            "Stop the web server gracefully before the box says FAILED, or disable reset_on_port_fail",
            "Disable reset_on_port_fail, or let requests end before the server is FAILED",
        )
    if "drain_timeout" in reasons:
        longest = facts.seconds(longest_s(lost))
        return Remedy(
            f"{what} when the drain timeout was over",
            f"Raise drain_timeout_s: a request had been under way for {longest}",
            "Raise drain_timeout_s above the time that requests take",
        )
    if "administrator" in reasons:
        return Remedy(
            f"{what} because an administrator reset the server's sessions",
            "Wait until the sessions have ended before the reset: `l4box show servers` counts them",
            "Wait until the server's sessions have ended before resetting them",
        )
    return Remedy(
        f"{what}, and was not resetting the server's sessions: it had no session for them",
        "Look in `l4box events` for why the sessions had left the table",
        "Look in `l4box events` for why the sessions had left the table",
    )


def _no_server(_: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    service = facts.asked(lost[0])
    servers = facts.servers_of(service)
    what = f"{_requests(lost)} came while no server of {service.name} was bound"
    if len(servers) == 1:
        return Remedy(
            f"{what}, and {servers[0]} is its only one",
            f"Put another server behind {service.name}: with one, no order of the deploy's steps helps",
            "Put a second server behind the virtual server",
        )
    backs = facts.bound_again(service, lost[0].at)
    first = min(backs.values(), default=inf)
    again = "" if isinf(first) else f"; the first was bound again {facts.seconds(first - lost[0].at)} later"
    out = (
        f": {', '.join(backs)} {were(len(backs))} out at {facts.seconds(lost[0].at)}{again}" if backs else ""
    )
    return Remedy(
        f"{what}{out}",
        _FEWER,
        _FEWER_STEP,
    )


_FEWER: Final = "Deploy fewer servers at a time, and wait until the box says ACTIVE before the next"
_FEWER_STEP: Final = "Deploy fewer servers at a time, and wait for ACTIVE before the next"


def _box_down(_: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    since = f" at {facts.seconds(facts.box_ended)}" if facts.box_ended is not None else ""
    return Remedy(
        f"The box's daemon ended{since}, and {_requests(lost)} {were(len(lost))} dropped",
        "Keep the daemon running during the deploy",
        "Keep the box's daemon running during the deploy",
    )


def _error(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    return _unfit(f"{server}, in service, answered {statuses(lost)} to {_requests(lost)}", lost, facts)


def _hung(server: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    within = facts.real(longest_s(lost))
    return _unfit(f"{server}, in service, did not answer {_requests(lost)} within {within}", lost, facts)


def _unfit(what: str, lost: Sequence[Explained], facts: Facts) -> Remedy:
    """In service and not fit for it: just put back, being changed by the command, or by itself."""
    server = lost[0].server
    back = facts.back(server, lost[0].at)
    if back is not None:
        fact = f"{what}, until {facts.seconds(lost[-1].at - back)} after it came back"
        if facts.had_its_health_file_back(server, lost[0].at):
            do = "Put its health file back only when it answers as it should"
            return Remedy(fact, do, "Put the health file back only when the server answers as it should")
        do = "Make its health check fail until it answers as it should"
        return Remedy(fact, do, "Make the health check fail until the server answers as it should")
    command = facts.command(lost)
    if command:
        return Remedy(
            f"{what} while {command}",
            "Make its health check fail, and wait until the box says FAILED, before the command changes it",
            "Make the health check fail, and wait for FAILED, before the command changes the server",
        )
    return Remedy(
        f"{what} with no command running",
        f"Look in {server}'s own log: no order of the deploy's steps helps",
        "Look in the server's own log: no order of the deploy's steps helps",
    )


def _unexplained(_: str, lost: Sequence[Explained], __: Facts) -> Remedy:
    return Remedy(
        f"{_requests(lost)} {were(len(lost))} lost without a cause that can be told: a defect of l4lab",
        "Report it, with the captures",
        "Report the unexplained losses, with the captures",
    )


Occasion = Callable[[Explained, Facts], Hashable]
"""What must be alike of two losses so that one sentence is true of both."""
Sentence = Callable[[str, Sequence[Explained], Facts], Remedy]
"""Of a server and the losses on one occasion."""


def _any(_: Explained, __: Facts) -> Hashable:
    return None


def _by_last_stop(one: Explained, facts: Facts) -> Hashable:
    outcome = one.request.outcome
    wrong = outcome if outcome in (Outcome.HTTP_ERROR, Outcome.TIMEOUT) else None
    return facts.last_stop(one.server, one.at), wrong


def _by_stop(one: Explained, facts: Facts) -> Hashable:
    return facts.stop(one.server, one.at)


def _by_stop_and_command(one: Explained, facts: Facts) -> Hashable:
    return facts.stop_during(one), facts.command([one])


def _by_route(one: Explained, facts: Facts) -> Hashable:
    return facts.had_a_route(one.server, one.at)


def _by_return_and_command(one: Explained, facts: Facts) -> Hashable:
    return facts.back(one.server, one.at), facts.command([one])


def _by_service(one: Explained, facts: Facts) -> Hashable:
    return facts.asked(one).name


def _by_reason(one: Explained, facts: Facts) -> Hashable:
    return frozenset(facts.reset_reasons(one.server, [one]))


REMEDIES: Final[Mapping[Cause, tuple[Occasion, Sentence]]] = {
    Cause.STUCK_SESSION: (_by_last_stop, _stuck),
    Cause.VIP_DOWN: (_any, _vip_down),
    Cause.FILTERED: (_any, _filtered),
    Cause.NO_DSR_RULE: (_any, _no_rule),
    Cause.UNREACHABLE: (_by_route, _unreachable),
    Cause.STOPPED_IN_HAND: (_by_stop_and_command, _unfinished),
    Cause.CLOSED_UNDER_WAY: (_by_stop, _closed_under_way),
    Cause.BOX_RESET: (_by_reason, _box_reset),
    Cause.NO_SERVER: (_by_service, _no_server),
    Cause.BOX_DOWN: (_any, _box_down),
    Cause.SERVER_ERROR: (_by_return_and_command, _error),
    Cause.SERVER_HUNG: (_by_return_and_command, _hung),
    Cause.UNEXPLAINED: (_any, _unexplained),
}
"""For each cause of a loss but the health window. What is only slow is not lost, and gets no advice."""
