"""A rehearsal's verdict for the terminal: what was lost, by whom and why, and what would have saved it."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from netns.analysis.advice import Advice
from netns.analysis.causes import Cause
from netns.analysis.health_window import Window
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.stop_wording import clients_in_words
from netns.analysis.sweep import Sweep, sentence
from netns.analysis.verdict import Verdict
from netns.analysis.wording import plural, seconds, unit
from netns.plan import speeds
from netns.report.deploys import took

EXAMPLES = 3
"""Requests told in full of each cause."""


_STYLES: Final = {
    Verdict.OK: "bold green",
    Verdict.LOST: "bold red",
    Verdict.FAILED: "bold red",
    Verdict.ILL: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}


def render(found: Rehearsal, console: Console) -> None:
    """The verdict, then the causes, then how it came about."""
    recording, judgement = found.recording, found.judgement
    style = _STYLES[judgement.verdict]
    console.print(f"\n[{style}]{judgement.verdict.value}[/{style}]  {escape(judgement.text)}")
    for reason in judgement.more:
        console.print(f"  • {escape(reason)}.")
    _losses(found, console)
    _slow(found, console)
    _advice(found, console)
    console.print(f"\n[bold]{escape(recording.title)}[/bold], {speeds.in_words(recording.speed)}")
    for deploy in found.deploys:
        who = f"{deploy.server}: " if deploy.server else ""
        console.print(
            f"  {who}{deploy.verdict}, {took(deploy, recording.speed)}",
            style="" if deploy.succeeded else "red",
        )
    for window in found.windows:
        console.print(f"  {escape(_outage(window, recording.speed))}")
    if found.stops:
        clock = "" if recording.speed == 1 else ", in real time"
        console.print(f"\n[bold]How the servers stopped[/bold]{clock}")
        for stop in found.stops:
            console.print(f"  {stop.server} ({stop.kind}): {escape(clients_in_words(stop.pattern))}")


def _outage(window: Window, speed: float) -> str:
    """What was seen of a server's time out of service, in the order of time."""
    moments = {
        "health file gone": window.health_off,
        f"check failed ({window.failed_check})": window.failed_check_at,
        "stopped": window.stopped,
        "out of the binding list": window.unbound,
        "started": window.restarted,
        "bound": window.bound,
    }
    seen = sorted((time, what) for what, time in moments.items() if time is not None)
    beside = f", together with {', '.join(window.together)}" if window.together else ""
    return f"{window.server}: {', '.join(f'{what} at {seconds(time, speed)}' for time, what in seen)}{beside}"


def _pattern(advice: Advice) -> str:
    """What an advice says but for its figures and its server: so much must be alike to be told of several."""
    return re.sub(r"[\d.,]+", "#", advice.text.replace(advice.server, "") if advice.server else advice.text)


def _advice(found: Rehearsal, console: Console) -> None:
    if found.advice:
        console.print("\n[bold]What would have saved them[/bold]")
    kinds: dict[tuple[str, str], list[Advice]] = defaultdict(list)
    for advice in found.advice:
        kinds[advice.cause, _pattern(advice)].append(advice)
    for worst, *others in kinds.values():
        like = ", ".join(f"{one.server} ({one.lost})" for one in others)
        console.print(f"  • {escape(worst.text)}.{f' Likewise {like}.' if like else ''}")


def render_sweep(swept: Sweep, console: Console) -> None:
    """The verdict, then each combination of settings."""
    style = _STYLES[swept.verdict]
    console.print(f"\n[{style}]{swept.verdict.value}[/{style}]  {swept.text}")
    command = " ".join(swept.command)
    console.print(f"\n[bold]Sweep of {escape(command)}[/bold], {speeds.in_words(swept.speed)}\n")
    s = unit(swept.speed)
    table = Table(
        "settings", "failed", "probability", "inconclusive", "lost", "waited", "smallest wait", box=None
    )
    for one in swept.combinations:
        low, high = one.failure_interval
        count = len(one.repetitions)
        waited = f"{one.waited_s[0]:.1f}–{one.waited_s[1]:.1f} {s}" if one.waited_s else "–"
        smallest = f"{one.smallest_wait_s:.1f} {s}" if one.smallest_wait_s is not None else "–"
        table.add_row(
            " ".join(f"{key}={value}" for key, value in one.varied.items()) or "as given",
            f"{one.failures} of {count}",
            f"{one.failures / count:.0%} ({low:.0%}–{high:.0%})",
            f"{one.inconclusive}" if one.inconclusive else "",
            f"{sum(run.lost for run in one.repetitions):,}",
            waited,
            smallest,
            style="red" if one.failures else "yellow" if one.inconclusive else "",
        )
    console.print(table)
    console.print()
    for one in swept.combinations:
        console.print(f"  • {escape(sentence(one, swept.speed))}")


def _losses(found: Rehearsal, console: Console) -> None:
    if not found.causes():
        return
    table = Table("client", "", "requests", "lost", "because", box=None)
    for column in table.columns[2:4]:
        column.justify = "right"
    for row in found.tally():
        table.add_row(row.kind, row.method, f"{row.requests:,}", f"{row.lost:,}" if row.lost else "", row.why)
    console.print()
    console.print(table)
    for cause, count in found.causes().items():
        lost = [one for one in found.explained if one.lost and one.cause is cause]
        console.print(f"\n[bold]{count:,} × {cause.value}[/bold] ({cause.name.lower()})", style=_style(cause))
        for one in lost[:EXAMPLES]:
            name = one.request.id or one.request.client
            at = seconds(one.request.ended, found.recording.speed)
            console.print(f"  {at}  {name} {one.request.method}: {escape(one.text)}")
        if len(lost) > EXAMPLES:
            console.print(f"  … and {len(lost) - EXAMPLES} more")


def _slow(found: Rehearsal, console: Console) -> None:
    slow = [one for one in found.explained if not one.lost]
    if not slow:
        return
    console.print(f"\n{plural(len(slow), 'request')} answered late")
    for one in slow[:EXAMPLES]:
        name = one.request.id or one.request.client
        at = seconds(one.request.ended, found.recording.speed)
        console.print(f"  {at}  {name}: {one.cause.value}: {escape(one.text)}")
    if len(slow) > EXAMPLES:
        console.print(f"  … and {len(slow) - EXAMPLES} more")


def _style(cause: Cause) -> str:
    return "red" if cause is Cause.UNEXPLAINED else ""
