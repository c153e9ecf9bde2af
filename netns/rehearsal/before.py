"""The lab before the deploy: its clients are answered, nothing is lost, and its servers are bound.

Each function returns what is wrong, in words; "" for nothing.
"""

from __future__ import annotations

from netns.analysis import baseline
from netns.play.run import GaveUp, Run
from netns.rehearsal.spec import RehearsalSpec
from netns.rehearsal.tls import speaks_tls


def unanswered(run: Run) -> str:
    """Start the clients and have each of them answered, for a while without a loss."""
    run.start_clients()
    began = run.now()
    try:
        run.wait_until_all_answered(baseline.WITHIN_S * run.speed)
    except GaveUp:
        silent = ", ".join(sorted(run.silent()))
        return _losses(run) or f"Before the deploy began, no answer came to {silent}"
    if losses := _losses(run):
        return losses
    run.watch_for_s(baseline.LASTS_S * run.speed, "see that nothing is lost before the deploy")
    if losses := _losses(run):
        return losses
    run.note(f"baseline: {len(run.requests)} requests answered, none lost, since {run.seconds(began)}")
    return ""


def unbound(run: Run, spec: RehearsalSpec) -> str:
    """Wait for the health check's phase that the deploy is to begin at; the servers to deploy are bound then.

    Other servers that are not bound are noted.
    """
    if spec.phase_s is not None:
        run.wait_for_phase(spec.servers[0], spec.phase_s)
    rows = run.lab.box.servers()
    others = [node.name for node in run.lab.plan.servers if node.name not in spec.servers]
    if out := baseline.not_bound(rows, others):
        run.note(out)
    return baseline.not_bound(rows, spec.servers)


def _losses(run: Run) -> str:
    """What was lost until now, and what the clients can't speak."""
    text = baseline.loss(run.requests, run.groups)
    if not text:
        return ""
    encrypted = [group.service for group in run.groups if speaks_tls(run.lab, group.service)]
    for name in dict.fromkeys(encrypted):
        text += f". The servers of {name} speak TLS, and the lab's clients speak HTTP in clear only"
    return text
