"""What `l4lab rehearse` and `l4lab explain` print of a rehearsal or a sweep, and write to its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from netns.cli.common import say
from netns.errors import LabError

if TYPE_CHECKING:
    from netns.analysis.rehearsal import Rehearsal
    from netns.analysis.sweep import Sweep

NO_VERDICT: Final = 9
"""The exit code where the lab, this machine or the report failed."""


def show(found: Rehearsal, as_json: bool) -> int:
    """Print the verdict of a rehearsal; its exit code."""
    from lb.terminal import console
    from netns.report.verdict import render

    if as_json:
        click.echo(json.dumps(found.as_json(), default=str))
    else:
        render(found, console())
    return found.judgement.verdict.exit_code


def show_sweep(swept: Sweep, as_json: bool) -> int:
    """Print the verdict of a sweep; its exit code."""
    from lb.terminal import console
    from netns.report.verdict import render_sweep

    if as_json:
        click.echo(json.dumps(swept.as_json(), default=str))
    else:
        render_sweep(swept, console())
    return swept.verdict.exit_code


def write(found: Rehearsal, report: Path) -> bool:
    """Write the page and the document of a rehearsal, whose captures are there; whether that was possible."""
    from netns import report as reports

    return _written(partial(reports.write, found.recording, report, found))


def write_sweep(swept: Sweep, report: Path) -> bool:
    """The same of a sweep, whose rehearsals have reports of their own."""
    from netns import report as reports

    return _written(partial(reports.write_sweep, swept, report))


def refuse_unwritable(report: Path) -> None:
    """LabError when the report can't be written there, before anything else is done."""
    try:
        report.mkdir(parents=True, exist_ok=True)
        probe = report / ".l4lab"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise LabError(
            f"--report {report}: {error.strerror}; choose a directory that can be written"
        ) from error


def _written(write: Callable[[], object]) -> bool:
    """Whether a report could be written; what a disk refuses is said, and no reason for no verdict."""
    try:
        write()
    except OSError as error:
        say(f"warning: the report is not whole: {error}")
        return False
    return True
