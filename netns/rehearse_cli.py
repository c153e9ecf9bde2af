"""`l4lab rehearse`: run a deploy script against the lab, and say which requests it loses and why."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netns.config import LabConfig
    from netns.lab import Lab
    from netns.rehearsal.result import Rehearsal
    from netns.traffic import Wanted

BAD_CONFIG = 3
DEFAULT_NAME = "l4lab"


def _say(message: str) -> None:
    click.echo(message, err=True)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), help="The lab's TOML file; none: the default lab."
)
@click.option("--name", envvar="L4LAB_NAME", help="The lab's name.  [default: that of the file, or l4lab]")
@click.option("--servers", metavar="rs1,rs2", help="The servers to deploy, in order.  [default: all]")
@click.option("--clients", metavar="KIND:COUNT,…", help="Keep-alive clients.  [default: some of each kind]")
@click.option("--speed", type=click.FloatRange(1, 100), help="Divides every time of the box.  [default: 1]")
@click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="Servers at a time.")
@click.option("--timeout", type=float, default=900.0, show_default=True, help="Real seconds for a command.")
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
    servers: str | None,
    clients: str | None,
    speed: float | None,
    parallel: int,
    timeout: float,
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
    from netns.config import load
    from netns.rehearsal.deploy import find
    from netns.rehearsal.play import Order, rehearse

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.MissingParameter(param_type="argument", param_hint="COMMAND")
    find(words)
    try:
        config = load(file, name=name, speed=speed)
        wanted = _clients(clients)
    except ConfigError as error:
        _say(str(error))
        click.get_current_context().exit(BAD_CONFIG)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with _lab(config) as (lab, ours), _progress() as progress:
        order = Order(
            command=words,
            servers=_servers(lab, servers),
            clients=wanted,
            parallel=parallel,
            timeout_s=timeout,
            allow_lost=allow_lost,
            seed=random.randrange(1_000_000),  # noqa: S311
        )
        found = rehearse(lab, order, report=report, ours=ours, say=_say, progress=progress)
    if report is not None:
        _write(found, report)
    if as_json:
        click.echo(json.dumps(found.as_json(), default=str))
    else:
        _show(found)
    click.get_current_context().exit(0 if found.passed else 1)


@contextmanager
def _lab(config: LabConfig) -> Iterator[tuple[Lab, bool]]:
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


def _servers(lab: Lab, text: str | None) -> tuple[str, ...]:
    known = [node.name for node in lab.plan.servers]
    chosen = text.split(",") if text else known
    for server in chosen:
        if server not in known:
            raise click.UsageError(f"--servers: no server {server!r}: the lab has {', '.join(known)}")
    return tuple(chosen)


def _clients(text: str | None) -> Sequence[Wanted]:
    from netns import traffic

    return traffic.parse_clients(text or "curl:20,curl-new:5")


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


def _show(found: Rehearsal) -> None:
    from rich.console import Console

    from netns import verdict

    verdict.render(found, Console(highlight=False))


def _write(found: Rehearsal, directory: Path) -> None:
    from netns import report

    report.write(found.recording, directory, found)
    _say(f"{directory}: result.json, report.html, {', '.join(found.recording.captures)}")
