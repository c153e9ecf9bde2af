"""python -m tests.bench: measure, show, publish. `make bench` and `make bench-quick` call it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from netns.linux.process import Process
from tests.bench import alone, contenders, report, work
from tests.bench.bed import BUILD, Bed, bed, missing
from tests.bench.contenders import HAPROXY, KERNEL, NONE, Contender
from tests.bench.results import ALONE, Store, read
from tests.bench.work import CONNECTIONS, Figures, Load, WorkFailed, wrk

RESULTS = BUILD / "results.jsonl"
QUICK = BUILD / "quick.jsonl"
PACE = 10_000
"""RSTs a second of the storm that is paced."""
_say = Console(stderr=True, highlight=False).print


def _run_round(
    made: Bed,
    store: Store,
    number: int,
    load: Load,
    running: dict[str, Process | None],
    chosen: Sequence[Contender],
) -> None:
    """Every kind of work, each by every contender before the next: what drifts hits all alike."""
    for kind in work.ALL:
        able = [one for one in chosen if one.forwards or not kind.packets_only]
        if all(number in store.run.of(kind.name, one.name) for one in able):
            continue
        # Not in the same order each time: who comes first after a break must not always be the same.
        for one in (*able[number % len(able) :], *able[: number % len(able)]):
            made.switch(*one.nodes)
            measure = partial(kind.measure, made, one, running[one.name], load)
            figures = _told(f"round {number}: {kind.name}: {one.title}", measure, kind.figure)
            store.add(number, kind.name, one.name, figures)


def _told(what: str, measure: Callable[[], Figures], figure: str = "") -> Figures:
    start = time.monotonic()
    figures = measure()
    said = f"{figures[figure]:,.6g}" if figure else ""
    _say(f"  {what}  [bold]{said}[/]  [dim]{time.monotonic() - start:.1f} s[/]")
    return figures


def _compare(store: Store, rounds: int, seconds: float, flows: int, chosen: Sequence[Contender]) -> None:
    with bed([one.nodes[0] for one in chosen if one is not NONE]) as made:
        running = {one.name: one.start(made, one.nodes[0]) for one in chosen}
        if not store.run.of("rate", ALONE):
            store.add(0, "rate", ALONE, _half_load(made, seconds, chosen))
        rate = store.run.of("rate", ALONE)[0]["per_s"]
        for number in range(1, rounds + 1):
            _run_round(made, store, number, Load(seconds, rate, flows), running, chosen)


def _half_load(made: Bed, seconds: float, chosen: Sequence[Contender]) -> Figures:
    """Half of what the slowest of these gets through: the rate at which latency is measured, for all."""
    rates = []
    for one in chosen:
        if one in (NONE, HAPROXY, KERNEL):
            made.switch(*one.nodes)
            rates.append(wrk(made, CONNECTIONS, seconds)["per_s"])
    return {"per_s": round(min(rates) / 2)}


def _by_itself(store: Store, rounds: int, size: alone.Size) -> None:
    for number in range(1, rounds + 1):
        for name, measure in (
            ("table", alone.table),
            ("full", alone.full),
            ("storm burst", partial(alone.storm, pace=0)),
            ("storm paced", partial(alone.storm, pace=PACE)),
            ("starts", alone.starts),
        ):
            if number not in store.run.of(name, ALONE):
                figures = _told(f"alone {number}: {name}", partial(measure, size))
                store.add(number, name, ALONE, figures)


def _tables() -> Console:
    """For the figures: wide enough for them when nobody has a window for it."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


@click.group(invoke_without_command=True)
@click.option(
    "--quick", is_flag=True, help="Everything once and tiny: does it work? No figures to be trusted."
)
@click.option("--rounds", default=5, show_default=True, help="Of the comparison.")
@click.option("--alone-rounds", default=3, show_default=True, help="Of what l4box does by itself.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each piece of work.")
@click.option("--sessions", default=1_000_000, show_default=True, help="In the full table.")
@click.option("--storm", default=100_000, show_default=True, help="Sessions of the server that fails.")
@click.option("--fresh", is_flag=True, help="Forget what a run that was broken off has measured.")
@click.option("--only", type=click.Choice(["compare", "alone"]), help="One half of it.")
@click.pass_context
def main(
    context: click.Context,
    quick: bool,
    rounds: int,
    alone_rounds: int,
    seconds: float,
    sessions: int,
    storm: int,
    fresh: bool,
    only: str | None,
) -> None:
    """Measure the box beside what one would use instead, and show the figures.

    What is measured is in build/bench/results.jsonl at once: a run that was broken off goes on where it was.
    """
    if context.invoked_subcommand:
        return
    if os.geteuid() != 0:
        raise click.ClickException("the bench needs root: it makes network namespaces and packet queues")
    if lacking := missing():
        raise click.ClickException(
            f"not installed: {', '.join(lacking)}; `scripts/setup bench` installs them"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if quick:
        rounds, alone_rounds, seconds, sessions, storm, fresh = 1, 1, 0.3, 20_000, 5_000, True
    settings = {"seconds": seconds, "sessions": sessions, "storm": storm}
    try:
        store = Store(QUICK if quick else RESULTS, settings, fresh=fresh)
        if only != "alone":
            _compare(store, rounds, seconds, 10_000 if quick else 100_000, contenders.ALL)
        if only != "compare":
            _by_itself(
                store,
                alone_rounds,
                alone.Size(sessions, storm, seconds, starts=1 if quick else 5, speed=100 if quick else 10),
            )
    except (WorkFailed, ValueError, TimeoutError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    report.show(store.run, _tables(), judged=not quick)
    if not quick:
        report.write_json(store.run, BUILD / "bench.json")
        _say(f"figures: {BUILD / 'bench.json'}; `python -m tests.bench publish` puts them into docs/")


@main.command()
def show() -> None:
    """Show the figures of the last run, or of one that was broken off."""
    report.show(read(RESULTS), _tables())


@main.command()
def publish() -> None:
    """Put the figures of the last run into docs/performance.md and its chart."""
    report.publish(read(RESULTS), Path("docs"))


if __name__ == "__main__":
    main()
