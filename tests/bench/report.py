"""Figures for people and for programs: a table on the terminal, JSON, docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import chart, contenders, goals, work
from tests.bench.contenders import NONE, Contender
from tests.bench.results import ALONE, Run, Spread

BEGIN, END = "<!-- figures: made by `python -m tests.bench publish` -->", "<!-- end of figures -->"
MACHINE = {"processor": "{}", "processors": "{} processors, everything on them", "kernel": "{}"}


def show(run: Run, console: Console, *, judged: bool = True) -> None:
    """Tables on the terminal, with the goals if figures are to be `judged`."""
    for title, head, rows in (*_tables(run), *([_goals(run)] if judged else [])):
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, name in enumerate(head):
            table.add_column(name, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def write_json(run: Run, path: Path) -> None:
    """All of it: medians, spreads, ratios, goals."""
    compared: dict[str, Any] = {}
    for kind in work.ALL:
        compared[kind.name] = {
            one.name: {
                "figures": {
                    name: _plain(run.figure(kind.name, one.name, name))
                    for name in _names(run, kind.name, one.name)
                },
                "ratio_to_none": _plain(run.ratio(kind.name, one.name, NONE.name, kind.figure)),
            }
            for one in contenders.ALL
            if run.of(kind.name, one.name)
        }
    by_itself = {
        name: {figure: _plain(run.alone(name, figure)) for figure in _names(run, name, ALONE)}
        for name in dict.fromkeys(r.work for r in run.results if r.contender == ALONE)
    }
    wanted = [
        {
            "what": goal.what,
            "goal": goal.limit,
            "at_least": goal.at_least,
            "measured": goal.value(run),
            "met": goal.met(run),
        }
        for goal in goals.ALL
    ]
    document = {
        "machine": run.machine,
        "settings": run.settings,
        "compared": compared,
        "alone": by_itself,
        "goals": wanted,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def publish(run: Run, docs: Path) -> None:
    """The chart, and the figures' part of docs/performance.md; ValueError when the page has no such part."""
    page = docs / "performance.md"
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no part between {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{_markdown(run)}\n{END}{after}")
    (docs / "performance.svg").write_text(chart.draw(run))


def _markdown(run: Run) -> str:
    machine = "; ".join(text.format(run.machine[key]) for key, text in MACHINE.items())
    versions = ", ".join(f"{key} {value}" for key, value in run.machine.items() if key not in MACHINE)
    parts = [f"Measured on: {machine}. {versions}.\n"]
    for title, head, rows in (_goals(run), *_tables(run)):
        lines = [f"### {title}\n", _row(head), _row(["---", *["--:"] * (len(head) - 1)])]
        parts.append("\n".join([*lines, *map(_row, rows)]) + "\n")
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


Tables = list[tuple[str, list[str], list[list[str]]]]


def _tables(run: Run) -> Tables:
    able = [one for one in contenders.ALL if any(r.contender == one.name for r in run.results)]
    kinds = [kind for kind in work.ALL if run.of(kind.name, NONE.name)]
    if not kinds:
        return _alone(run)

    def table(
        columns: list[str], cells: Callable[[Contender], list[str]]
    ) -> tuple[list[str], list[list[str]]]:
        return ["", *columns], [[one.title, *cells(one)] for one in able]

    def ratios(one: Contender) -> list[str]:
        return [_ratio(run.ratio(kind.name, one.name, NONE.name, kind.figure)) for kind in kinds]

    def figures(one: Contender) -> list[str]:
        return [_number(run.figure(kind.name, one.name, kind.figure)) for kind in kinds]

    def more(one: Contender) -> list[str]:
        asked = [("latency", "p50_us"), ("packets 1000", "cpu_us"), ("packets 100000", "cpu_us")]
        return [_number(run.figure(kind, one.name, name)) for kind, name in asked]

    return [
        (
            "Relative to no box, median over the rounds (lowest–highest)",
            *table([kind.short for kind in kinds], ratios),
        ),
        (
            "As measured, median over the rounds",
            *table([f"{kind.short}, {kind.unit}" for kind in kinds], figures),
        ),
        (
            "Besides",
            *table(["p50, µs", "1,000 flows: CPU µs a packet", "100,000 flows: CPU µs a packet"], more),
        ),
        *_alone(run),
    ]


def _alone(run: Run) -> Tables:
    rows = [
        [f"{name}: {figure}", _number(run.alone(name, figure)), _range(run.alone(name, figure))]
        for name in dict.fromkeys(r.work for r in run.results if r.contender == ALONE)
        for figure in _names(run, name, ALONE)
    ]
    return [("l4box by itself", ["", "median", "lowest to highest"], rows)] if rows else []


def _goals(run: Run) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for goal in goals.ALL:
        found, met = goal.value(run), goal.met(run)
        sign = "≥" if goal.at_least else "≤"
        measured = (
            "–"
            if found is None
            else f"{found:,.3g} {goal.unit}"
            if found < 1000
            else f"{found:,.0f} {goal.unit}"
        )
        verdict = {True: "yes", False: "**no**", None: "–"}[met]
        rows.append([goal.what, f"{sign} {goal.limit:,g} {goal.unit}", measured, verdict])
    return "Goals", ["", "goal", "measured", "met"], rows


def _names(run: Run, kind: str, contender: str) -> list[str]:
    """The names of the figures that are numbers."""
    every = (figures.items() for figures in run.of(kind, contender).values())
    return list(
        dict.fromkeys(name for items in every for name, value in items if isinstance(value, (int, float)))
    )


def _plain(spread: Spread | None) -> dict[str, Any] | None:
    return asdict(spread) if spread else None


def _number(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{spread.median:,.0f}" if spread.median >= 1000 else f"{spread.median:,.3g}"


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return _short(spread.median) + (
        f" ({_short(spread.low)}–{_short(spread.high)})" if spread.rounds > 1 else ""
    )


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _range(spread: Spread | None) -> str:
    return f"{spread.low:,.4g}–{spread.high:,.4g}" if spread else "–"
