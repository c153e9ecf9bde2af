"""`l4lab explain`: print a rehearsal's verdict again, from its report alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netns.cli.common import json_option, say
from netns.cli.verdict import NO_VERDICT, refuse_unwritable, show, show_sweep, write, write_sweep
from netns.errors import LabError

if TYPE_CHECKING:
    from netns.analysis.rehearsal import Rehearsal


@click.command()
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write report.html and result.json anew to this directory, and copy the captures there.",
)
@json_option
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def explain(report: Path | None, as_json: bool, directory: Path) -> None:
    """Print the verdict of a rehearsal again, from its report in DIR.

    Today's code judges the recording in DIR/result.json and the captures beside it anew. It needs no root, no
    lab and not the machine that the rehearsal ran on. DIR may be the report of a sweep: then each of its
    rehearsals is explained, and the sweep after them.

    Exit codes: the verdict's, as for `l4lab rehearse`; 9 when DIR is no whole report.
    """
    from rich.markup import escape

    from lb.terminal import console
    from netns.analysis.rejudge import rejudge
    from netns.analysis.sweep import Sweep

    try:
        if report is not None:
            refuse_unwritable(report)
        found = rejudge(directory)
        for name, run in found.runs:
            _say_what_lacks(run, directory / name)
            if report is not None:
                _write(run, directory / name, report / name)
            if not as_json:
                console().print(f"\n[bold]{escape(name)}[/bold]")
                show(run, as_json)
        if isinstance(found.result, Sweep):
            if report is not None:
                write_sweep(found.result, report)
            code = show_sweep(found.result, as_json)
        else:
            _say_what_lacks(found.result, directory)
            if report is not None:
                _write(found.result, directory, report)
            code = show(found.result, as_json)
    except LabError as error:
        say(f"l4lab: no verdict: {error}")
        code = NO_VERDICT
    click.get_current_context().exit(code)


def _say_what_lacks(found: Rehearsal, directory: Path) -> None:
    if lacking := found.circumstances.lacking:
        say(f"{directory}: {lacking}: nothing tells why requests were lost, nor how the servers stopped")


def _write(found: Rehearsal, source: Path, target: Path) -> None:
    """The report of a rehearsal, with those of its captures that there are."""
    if write(found, target) and not target.samefile(source):
        for name in found.recording.captures:
            if (source / name).exists():
                shutil.copyfile(source / name, target / name)
    say(f"{target}: report.html, result.json and the captures")
