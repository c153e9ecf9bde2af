"""`l4lab scenario`: list the scenarios, play one or all."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netns.cli.common import BAD_CONFIG, say
from netns.plan import speeds

if TYPE_CHECKING:
    from netns.play.scenario import Scenario
    from netns.record.recording import Recording


@click.group()
def scenario() -> None:
    """List and play deploys and accidents, each in a lab of its own."""


@scenario.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(as_json: bool) -> None:
    """Show the scenarios, their clients and their settings."""
    from netns.play.scenario import discover

    found = discover().values()
    if as_json:
        rows = [
            {
                "name": one.name,
                "title": one.title,
                "intent": one.intent,
                "clients": one.clients,
                "settings": one.defaults(),
                "choices": {key: value for key, value in one.settings.items() if isinstance(value, tuple)},
            }
            for one in found
        ]
        click.echo(json.dumps({"scenarios": rows}))
        return
    width = max(len(one.name) for one in found)
    for one in found:
        click.echo(f"{one.name:{width}}  {one.title}")


@scenario.command()
@click.option("--speed", type=click.FloatRange(1, 100), default=speeds.SCENARIO, show_default=True)
@click.option(
    "--clients",
    help="Start these clients: curl:20,curl-new:5,curl-download:2,idle:50.  [default: the scenario's]",
)
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting: stop=graceful|abrupt|kill, …",
)
@click.option(
    "--seed", type=int, help="Seed what is random in a run, such as the moment within the interval."
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write result.json, report.html and captures to this directory; for `all`, one in it a scenario.",
)
@click.option(
    "--on",
    type=click.Choice(["namespaces", "docker"]),
    default="namespaces",
    show_default=True,
    help="Choose the lab's nodes. Containers use the image that `docker compose build` makes.",
)
@click.option("--name", "lab_name", help="Name the lab.  [default: scenario-NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.argument("which", metavar="NAME|FILE.py|all", shell_complete=lambda *_: _names())
def run(
    speed: float,
    clients: str | None,
    given: tuple[str, ...],
    seed: int | None,
    report: Path | None,
    on: str,
    lab_name: str | None,
    as_json: bool,
    which: str,
) -> None:
    """Play a scenario of the list, a file of your own, or all of the list. Exit with 1 if one fails."""
    from lb.config import ConfigError
    from netns.lab import state
    from netns.play.scenario import play

    chosen = _chosen(which)
    settings = dict(_pair(text) for text in given)
    results = []
    for one in chosen:
        directory = report / one.name if report is not None and which == "all" else report
        try:
            recording = play(
                one,
                speed=speed,
                clients=clients,
                given=settings,
                seed=seed if seed is not None else random.randrange(1_000_000),  # noqa: S311
                report=directory,
                lab_name=lab_name,
                on=state.CONTAINERS if on == "docker" else state.NAMESPACES,
                say=say,
            )
        except ConfigError as error:
            say(str(error))
            click.get_current_context().exit(BAD_CONFIG)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        results.append(recording)
        if directory is not None:
            _write(recording, directory)
        if not as_json:
            _show(recording)
    if as_json:
        documents = [recording.as_json() for recording in results]
        together = {"passed": all(recording.passed for recording in results), "results": documents}
        click.echo(json.dumps(together if which == "all" else documents[0]))
    elif len(results) > 1:
        for recording in results:
            click.echo(f"{'passed' if recording.passed else 'FAILED'}  {recording.name}")
    click.get_current_context().exit(0 if all(recording.passed for recording in results) else 1)


def _chosen(which: str) -> list[Scenario]:
    from netns.play.scenario import discover, load

    if which.endswith(".py"):
        return [load(Path(which))]
    known = discover()
    if which == "all":
        return list(known.values())
    if which not in known:
        raise click.UsageError(f"no scenario {which!r}: all, {', '.join(known)}")
    return [known[which]]


def _names() -> list[str]:
    from netns.play.scenario import discover

    return ["all", *discover()]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text}: KEY=VALUE is allowed")
    return key, value


def _show(recording: Recording) -> None:
    from lb.terminal import console
    from netns.report import timeline

    timeline.render(recording, console())


def _write(recording: Recording, directory: Path) -> None:
    from netns import report

    report.write(recording, directory)
    say(f"{directory}: result.json, report.html, {', '.join(recording.captures)}")
