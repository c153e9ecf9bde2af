"""`l4lab rehearse`: run a deploy script against the lab, and say which requests it loses and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netns.cli.common import BAD_CONFIG, delay_option, say
from netns.cli.verdict import NO_VERDICT, refuse_unwritable, show, show_sweep, write, write_sweep
from netns.errors import LabError

if TYPE_CHECKING:
    from netns.lab.interface import Lab
    from netns.plan.config import LabConfig
    from netns.rehearsal.spec import RehearsalSpec
    from netns.rehearsal.sweep import Labs

_UNKNOWN = re.compile(r"(?<![{$])\{(?!server\})\w+\}(?!\})")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="The lab's TOML file.  [default: the lab that is up, or the default lab]",
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
    "--project",
    envvar="COMPOSE_PROJECT_NAME",
    help="With --on docker: which project.  [default: the one with a box]",
)
@click.option("--servers", metavar="rs1,rs2", help="The servers to deploy, in order.  [default: all]")
@click.option(
    "--clients",
    metavar="KIND:COUNT[@VIRTUAL-SERVER],…",
    help="Keep-alive clients.  [default: some of each kind, on each virtual server of a deployed server]",
)
@click.option(
    "--speed",
    type=click.FloatRange(1, 100),
    help="Divide every time of the box by it. The command's own time stays real: above 1 a run that loses "
    "nothing is inconclusive if that, without L4LAB_SLEEP and L4LAB_WAIT, is over a second of the box's.  "
    "[default: the lab's, or 1]",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Health check interval of every virtual server, in box seconds.",
)
@click.option("--retries", type=click.IntRange(0), metavar="N", help="Health check retries, likewise.")
@delay_option
@click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="Servers at a time.")
@click.option(
    "--timeout",
    type=float,
    default=900.0,
    show_default=True,
    metavar="S",
    help="Real seconds before a command counts as hung.",
)
@click.option(
    "--sweep",
    type=click.IntRange(2),
    metavar="N",
    help="Rehearse N times, each at another moment of the health interval, in a lab of their own.",
)
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=A,B",
    help="With --sweep: also with these settings: retries, interval, timeout, aging, reset, or a path.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="CAUSE[:N]",
    help="Accept losses of this cause, at most N if given: --allow closed_under_way. May be repeated.",
)
@click.option(
    "--allow-lost",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Accept N more losses, of any cause.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write report.html, result.json and the captures to this directory.",
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
    interval: float | None,
    retries: int | None,
    delay_ms: float | None,
    parallel: int,
    timeout: float,
    sweep: int | None,
    vary: tuple[str, ...],
    allow: tuple[str, ...],
    allow_lost: int,
    report: Path | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND under load, and say which requests are lost and why.

    l4lab rehearse --allow closed_under_way -- ./deploy.sh {server}

    With {server} the command runs for each server in turn, and {server} stands for its name. Without, it runs
    once and takes out servers in its own order (an Ansible play, Capistrano, a loop over ssh).

    The command runs on this host. Its environment has L4LAB_SERVER, L4LAB_ROOT (the web root), L4LAB_HEALTH
    (the health file), L4LAB_EXEC (a prefix that runs a command on the server), and the commands $L4LAB_WEB
    stop|start, $L4LAB_WAIT FAILED|ACTIVE, $L4LAB_SLEEP BOX-SECONDS; without {server}: L4LAB_SERVERS, and
    $L4LAB_NODES/SERVER/web, wait, sleep, exec and env for each of them.

    Exit codes: 0 ok; 1 requests were lost; 6 the command failed, or left a server out of service; 7 requests
    were lost before the deploy began; 8 inconclusive; 9 no verdict, because the lab or this machine failed.
    """
    from lb.config import ConfigError
    from netns.analysis.terms import Terms, allowed_causes
    from netns.rehearsal.script import find
    from netns.rehearsal.spec import specify

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.MissingParameter(param_type="argument", param_hint="COMMAND")
    if vary and sweep is None:
        raise click.UsageError("--vary needs --sweep N")
    settings = {"speed": speed, "interval": interval, "retries": retries, "delay_ms": delay_ms}
    if on == "docker" and (file or name or vary or any(one is not None for one in settings.values())):
        raise click.UsageError(
            "--file, --name, --speed, --interval, --retries, --delay and --vary are for a lab: "
            "a project is what it is"
        )
    try:
        with _usage():
            terms = Terms(allow_lost, allowed_causes(allow))
        find(words)
        for unknown in _UNKNOWN.findall(" ".join(words)):
            say(f"note: {unknown} stays as it is: only {{server}} stands for a server's name")
        if report is not None:
            refuse_unwritable(report)
        with _where(on, project, file, name, settings) as where:
            with _usage():
                spec = specify(
                    where.config,
                    words,
                    servers=servers.split(",") if servers is not None else None,
                    clients=clients,
                    parallel=parallel,
                    timeout_s=timeout,
                    terms=terms,
                    say=say,
                )
            say(_clock(where.config.speed))
            if sweep is None:
                code = _rehearse(where, spec, report, as_json)
            else:
                code = _sweep(where, spec, sweep, vary, report, as_json)
    except ConfigError as error:
        say(str(error))
        code = BAD_CONFIG
    except (LabError, OSError) as error:
        if isinstance(error, LabError) and error.exit_code != LabError.exit_code:
            raise
        say(f"l4lab: no verdict: {error}")
        code = NO_VERDICT
    click.get_current_context().exit(code)


@contextmanager
def _usage() -> Iterator[None]:
    """A ValueError about what the user asked for is a mistake in the command line."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _clock(speed: float) -> str:
    """Which speed is in force, and what it leaves as it is."""
    from netns.plan.speeds import in_words

    return in_words(speed) if speed == 1 else f"{in_words(speed)}. The command's own time stays real"


@dataclass(frozen=True, slots=True)
class Where:
    """Where rehearsals take place: in labs of a configuration, or in a project that is up."""

    config: LabConfig
    lab: Callable[[], AbstractContextManager[tuple[Lab, bool]]]
    """A lab to rehearse in, and whether what the command leaves running on its nodes is ended."""
    labs: Callable[[], AbstractContextManager[Labs]]
    """Labs to sweep in."""


@contextmanager
def _where(
    on: str, project: str | None, file: Path | None, name: str | None, settings: Mapping[str, float | None]
) -> Iterator[Where]:
    from netns import labs
    from netns.rehearsal.sweep import OneLab

    if on == "docker":
        with labs.project(project, say=say) as lab:
            yield Where(lab.config, lambda: nullcontext((lab, True)), lambda: nullcontext(OneLab(lab)))
    else:
        config = labs.wanted(file, name=name, settings=settings)
        yield Where(config, partial(labs.shared, config, say=say), partial(_own_labs, config.name))


@contextmanager
def _own_labs(name: str) -> Iterator[Labs]:
    from netns import labs
    from netns.rehearsal.sweep import OwnLabs

    if labs.is_up(name):
        raise LabError(f"the lab {name!r} is up: a sweep needs labs of its own; choose another --name")
    with OwnLabs(say) as own:
        yield own


def _rehearse(where: Where, spec: RehearsalSpec, report: Path | None, as_json: bool) -> int:
    """Rehearse once, and tell what came of it; the exit code."""
    from netns.rehearsal.play import rehearse

    with where.lab() as (lab, ours), _progress() as progress:
        found = rehearse(lab, spec, report=report, ours=ours, say=say, progress=progress)
    if report is not None and write(found, report):
        files = ", ".join(("report.html", "result.json", *found.recording.captures))
        say(f"{report}: {files}. `l4lab explain {report}` prints the verdict again")
    return show(found, as_json)


def _sweep(
    where: Where,
    spec: RehearsalSpec,
    count: int,
    vary: Sequence[str],
    report: Path | None,
    as_json: bool,
) -> int:
    """Rehearse at `count` moments of the interval, with each combination of settings; the exit code."""
    from netns.rehearsal.sweep import sweep, varied

    with where.labs() as labs, _progress() as progress:
        with _usage():
            settings = varied(where.config, vary)
        swept = sweep(labs, spec, settings, count, report=report, keep=write, say=say, progress=progress)
    if report is not None and write_sweep(swept, report):
        say(
            f"{report}: the sweep, and a report of each rehearsal. `l4lab explain {report}` prints them again"
        )
    return show_sweep(swept, as_json)


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
