"""`l4lab rehearse`: run a deploy script against the lab, and say which requests it loses and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netns.errors import LabError

if TYPE_CHECKING:
    from netns.config import LabConfig
    from netns.place import Place
    from netns.rehearsal.order import Order
    from netns.rehearsal.result import Rehearsal

BAD_CONFIG = 3
DEFAULT_NAME = "l4lab"


def _say(message: str) -> None:
    click.echo(message, err=True)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), help="The lab's TOML file; none: the default lab."
)
@click.option("--name", envvar="L4LAB_NAME", help="The lab's name.  [default: that of the file, or l4lab]")
@click.option(
    "--on",
    type=click.Choice(["namespaces", "docker"]),
    default="namespaces",
    show_default=True,
    help="Where: in a lab, or on a compose project that is up (docs/docker.md).",
)
@click.option(
    "--project", envvar="COMPOSE_PROJECT_NAME", help="With --on docker: which; none: the one that has a box."
)
@click.option("--servers", metavar="rs1,rs2", help="The servers to deploy, in order.  [default: all]")
@click.option("--clients", metavar="KIND:COUNT,…", help="Keep-alive clients.  [default: some of each kind]")
@click.option("--speed", type=click.FloatRange(1, 100), help="Divides every time of the box.  [default: 1]")
@click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="Servers at a time.")
@click.option("--timeout", type=float, default=900.0, show_default=True, help="Real seconds for a command.")
@click.option(
    "--sweep",
    type=click.IntRange(2),
    metavar="N",
    help="Rehearse N times, each at another moment of the health interval, in labs of their own.",
)
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=A,B",
    help="With --sweep: also with these settings: retries, interval, timeout, aging, reset, or a path.",
)
@click.option("--allow-lost", type=click.IntRange(0), default=0, show_default=True, metavar="N")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory for report.html, result.json and the captures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def rehearse(
    file: Path | None,
    name: str | None,
    on: str,
    project: str | None,
    servers: str | None,
    clients: str | None,
    speed: float | None,
    parallel: int,
    timeout: float,
    sweep: int | None,
    vary: tuple[str, ...],
    allow_lost: int,
    report: Path | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND for each server in turn, under load, and say which requests are lost and why.

    l4lab rehearse --speed 20 -- ./deploy.sh {server}

    {server} stands for the server's name. The command runs on this host; its environment has L4LAB_SERVER,
    L4LAB_ROOT (the web root), L4LAB_HEALTH (the health file), L4LAB_EXEC (a prefix that runs a command on the
    server), and the commands $L4LAB_WEB stop|start, $L4LAB_WAIT FAILED|ACTIVE, $L4LAB_SLEEP BOX-SECONDS.

    Exit 0 when no more than --allow-lost requests were lost and each command succeeded, else 1.
    """
    from lb.config import ConfigError
    from netns.rehearsal.deploy import find
    from netns.rehearsal.order import ordered

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.MissingParameter(param_type="argument", param_hint="COMMAND")
    if vary and sweep is None:
        raise click.UsageError("--vary needs --sweep N")
    if on == "docker" and (file or name or speed or vary):
        raise click.UsageError("--file, --name, --speed and --vary are for a lab: a project is what it is")
    find(words)
    try:
        with _where(on, project, file, name, speed) as where:
            order = ordered(
                where.config,
                words,
                servers=servers.split(",") if servers else None,
                clients=clients,
                parallel=parallel,
                timeout_s=timeout,
                allow_lost=allow_lost,
                say=_say,
            )
            if sweep is None:
                passed = _tell(_rehearse(where, where.config, order, report), report, as_json)
            else:
                passed = _sweep(where, order, sweep, vary, report, as_json)
    except ConfigError as error:
        _say(str(error))
        click.get_current_context().exit(BAD_CONFIG)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.get_current_context().exit(0 if passed else 1)


@dataclass(frozen=True, slots=True)
class Where:
    """Where rehearsals take place: in labs of a configuration, or in a project that is up."""

    config: LabConfig
    lab: Callable[[LabConfig], AbstractContextManager[tuple[Place, bool]]]
    """A lab to rehearse in, and whether what the command leaves running on its nodes is ended."""


@contextmanager
def _where(
    on: str, project: str | None, file: Path | None, name: str | None, speed: float | None
) -> Iterator[Where]:
    if on == "docker":
        from netns import lifecycle
        from netns.docker.lifecycle import opened

        lifecycle.require_root()
        with opened(project, say=_say) as lab:
            yield Where(lab.config, lambda _: nullcontext((lab, True)))
        return
    from netns.config import load

    yield Where(load(file, name=name, speed=speed), _lab)


def _rehearse(where: Where, config: LabConfig, order: Order, report: Path | None) -> Rehearsal:
    from netns.rehearsal.play import rehearse

    with where.lab(config) as (lab, ours), _progress() as progress:
        return rehearse(lab, order, report=report, ours=ours, say=_say, progress=progress)


def _sweep(
    where: Where,
    order: Order,
    count: int,
    vary: Sequence[str],
    report: Path | None,
    as_json: bool,
) -> bool:
    """Rehearse at `count` moments of the interval, with each combination of settings; whether all passed."""
    from netns import report as reports
    from netns import state
    from netns.rehearsal.sweep import (
        Combination,
        Repetition,
        Sweep,
        phases,
        variations,
        with_settings,
        worst_of,
    )

    config = where.config
    if where.lab is _lab and state.read(config.name) is not None:
        raise LabError(f"the lab {config.name!r} is up: a sweep needs labs of its own; choose another --name")
    labs = [(varied, with_settings(config, varied)) for varied in variations(vary)]
    combinations = []
    for varied, lab in labs:
        words = " ".join(f"{key}={value}" for key, value in varied.items())
        interval_s = lab.services_of(order.servers[0])[0].health_check.interval_s
        repetitions = []
        for number, phase_s in enumerate(phases(interval_s, count), 1):
            _say(f"\n{words} {number} of {count}: {phase_s:.1f} s after a check of {order.servers[0]}")
            name = f"{words.replace(' ', ',') or 'run'}-{number:02}"
            directory = report / name if report is not None else None
            found = _rehearse(where, lab, replace(order, phase_s=phase_s), directory)
            if directory is not None:
                reports.write(found.recording, directory, found)
            repetitions.append(Repetition.of(found, phase_s, name if directory is not None else ""))
        combinations.append(Combination(varied, interval_s, worst_of(lab, order.servers), tuple(repetitions)))
    swept = Sweep(order.command, config.speed, tuple(combinations))
    if report is not None:
        _say(f"{reports.write_sweep(swept, report)}: the sweep, and a report of each rehearsal")
    if as_json:
        click.echo(json.dumps(swept.as_json(), default=str))
    else:
        _render(lambda verdict, console: verdict.render_sweep(swept, console))
    return swept.passed


def _tell(found: Rehearsal, report: Path | None, as_json: bool) -> bool:
    from netns import report as reports

    if report is not None:
        reports.write(found.recording, report, found)
        _say(f"{report}: result.json, report.html, {', '.join(found.recording.captures)}")
    if as_json:
        click.echo(json.dumps(found.as_json(), default=str))
    else:
        _render(lambda verdict, console: verdict.render(found, console))
    return found.passed


def _render(show: Callable[[Any, Any], None]) -> None:
    from rich.console import Console

    from netns import verdict

    show(verdict, Console(highlight=False))


@contextmanager
def _lab(config: LabConfig) -> Iterator[tuple[Place, bool]]:
    """The lab of that name that is up, or one that goes down again afterwards; and whether it is that."""
    from netns import lifecycle, state

    lifecycle.require_root()
    ours = state.read(config.name) is None
    lab = lifecycle.up(config, say=_say)
    try:
        yield lab, ours
    finally:
        lab.close()
        if ours:
            lifecycle.down(config.name, say=_say)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that is written over while the rehearsal goes on, where there is a terminal to show it."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("the rehearsal begins") as status:
        yield status.update
