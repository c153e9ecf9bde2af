"""What a scenario's run came to, in the lines that terminal and page begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netns.analysis.findings import LOSSES, absences, failed, losses, reached_while_out, resets
from netns.analysis.wording import plural, seconds, were, words
from netns.record.recording import Outcome, Recording, Request


def headline(recording: Recording) -> Iterator[str]:
    """The run in a few sentences, the most telling first."""
    lost = losses(recording.requests)
    total = len(recording.requests)
    if not total:
        yield "No request was sent."
    elif not lost:
        yield f"No request was lost: all {total:,} were answered."
    else:
        ways = ", ".join(f"{count:,} {LOSSES[outcome]}" for outcome, count in lost.items())
        yield f"{recording.lost:,} of {total:,} requests {were(recording.lost)} lost: {ways}."
    for server, requests in reached_while_out(recording).items():
        yield _drained(recording, server, requests)
    hangs = [request for request in recording.requests if request.outcome is Outcome.TIMEOUT]
    if hangs:
        longest = max(request.ended - request.started for request in hangs)
        clients = len({request.client for request in hangs})
        hung = plural(clients, "client")
        yield f"{hung} hung without a word, for up to {seconds(longest, recording.speed)} a request."
    for reset in resets(recording):
        yield f"The box reset {plural(reset.sessions, 'session')} of {reset.server} ({words(reset.reason)})."
    for server in recording.servers:
        zombies = max((sample.zombies for sample in recording.samples if sample.server == server), default=0)
        if zombies:
            held = plural(zombies, "zombie connection")
            yield f"{server}'s kernel was left holding up to {held} that neither side used any more."


def _drained(recording: Recording, server: str, requests: Sequence[Request]) -> str:
    out = absences(recording, server)
    gone = f"The box took {server} out of the binding list at {seconds(out[0].started, recording.speed)}"
    if out[-1].ended < recording.ended:
        gone += f", back in at {seconds(out[-1].ended, recording.speed)}"
    if not requests:
        return f"{gone}: no request reached it while it was out."
    sent = f"{plural(len(requests), 'request')} of {plural(len({one.client for one in requests}), 'client')}"
    lost = len(failed(requests))
    fate = f"; {lost:,} of them {were(lost)} lost" if lost else ""
    return f"{gone}: meanwhile {sent} still went to it, over connections that they already had{fate}."
