"""`l4lab docker`: labelled containers made real servers, and what that takes taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netns.cli.common import say
from netns.linux.privileges import require_root

if TYPE_CHECKING:
    from netns.docker.status import Status

Command = TypeVar("Command", bound=Callable[..., Any])


def _project(command: Command) -> Command:
    return click.option(
        "--project",
        envvar="COMPOSE_PROJECT_NAME",
        help="Name a compose project.  [default: all labelled containers]",
    )(command)


@click.group()
def docker() -> None:
    """Make labelled containers real servers, from outside.

    docs/docker.md has the labels.
    """


@docker.command()
@_project
@click.option(
    "--watch", "follow", is_flag=True, help="Attach containers that start or change, too, until Ctrl-C."
)
def attach(project: str | None, follow: bool) -> None:
    """Give each container its VIP and DSCP rule, and tell the box. Run it again for new containers.

    For a label that cannot be followed, exit with 3 and change nothing. With --watch, say so and attach the
    others.
    """
    from netns.docker.attach import attach
    from netns.docker.engine import Engine
    from netns.docker.ledger import ALL, taken_back_by
    from netns.docker.watch import watch

    require_root()
    engine = Engine()
    if not follow:
        done = attach(engine, project, say=say)
        say(f"attached: {', '.join(server.name for server in done.servers) or 'no server'}")
        return
    try:
        watch(engine, project, say=say)
    except KeyboardInterrupt:
        say(f"not watching any more; {taken_back_by(project or ALL)} takes back what is attached")


@docker.command()
@_project
def detach(project: str | None) -> None:
    """Take back everything that `attach` has changed, in every network and in the box."""
    from netns.docker.attach import detach
    from netns.docker.ledger import ALL, names, taken_back_by

    require_root()
    if detach(project or ALL, say=say):
        say("detached")
        return
    of = f" of the project {project!r}" if project else ""
    others = "".join(f"; {name} is: {taken_back_by(name)}" for name in names())
    say(f"nothing{of} is attached{others or ': nothing to do'}")


@docker.command()
@_project
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(project: str | None, as_json: bool) -> None:
    """Show the servers among the containers. Exit with 1 when a container cannot be what its labels say."""
    from netns.docker.engine import Engine
    from netns.docker.status import look

    require_root()
    found = look(Engine(), project)
    if as_json:
        click.echo(json.dumps(found.document()))
    else:
        _print(found)
    for problem in found.problems:
        say(f"problem: {problem}")
    click.get_current_context().exit(1 if found.problems else 0)


def _print(found: Status) -> None:
    from rich.table import Table

    from lb.terminal import console

    table = Table(box=None, pad_edge=False)
    for title in ("server", "container", "Docker says", "VIP", "address", "network", "box says", "sessions"):
        table.add_column(title, overflow="fold")
    for one in found.servers:
        row = one.box or {"state": "-", "sessions": "-"}
        table.add_row(
            one.name,
            one.container,
            one.status + (f", {one.health}" if one.health else ""),
            f"{one.vip}:{one.port}",
            one.address,
            "not attached" if not one.attached else "attached" if one.changes else "its own",
            row["state"],
            str(row["sessions"]),
        )
    console().print(table)
