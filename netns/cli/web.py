"""`l4lab web`: the kinds of web servers, and what each does when it is stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from netns.cli.common import say
from netns.linux.privileges import require_root

if TYPE_CHECKING:
    from netns.measure.servers import Measured
    from netns.web import ServerKind

MEASURED = ("graceful", "abrupt", "kill-main")


@click.group()
def web() -> None:
    """List kinds of web servers, measure what each does when stopped."""


@web.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(as_json: bool) -> None:
    """Show the kinds, which of them are installed, and the signals that stop them."""
    from netns.web import KINDS

    rows = [_row(kind) for kind in KINDS.values()]
    if as_json:
        click.echo(json.dumps({"kinds": rows}))
        return
    click.echo(f"{'KIND':9} {'VERSION':9} {'GRACEFUL':9} {'ABRUPT':9}")
    for found in rows:
        fix = "" if found["version"] else f"  →  {found['fix']}"
        version = found["version"] or "absent"
        click.echo(f"{found['name']:9} {version:9} {found['graceful']:9} {found['abrupt']:9}".rstrip() + fix)


def _row(kind: ServerKind) -> dict[str, str | None]:
    return {
        "name": kind.name,
        "version": kind.version(),
        "graceful": kind.graceful.name,
        "abrupt": kind.abrupt.name,
        "fix": kind.fix,
    }


@web.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table of docs/web-servers.md.")
@click.option(
    "--stop",
    "hows",
    multiple=True,
    type=click.Choice(["graceful", "abrupt", "kill", "kill-main", "quit", "term"]),
    help=f"Stop it in this way; give the option again for more.  [default: {', '.join(MEASURED)}]",
)
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
def measure(as_json: bool, as_markdown: bool, hows: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Stop a server of each KIND, all by default, and show what its clients and its checks saw.

    Make a lab for each way to stop, with idle and busy keep-alive clients and downloads under way. One takes
    about 20 s, and a minute for a killed main process that leaves workers.
    """
    from dataclasses import asdict

    from netns.errors import MissingError
    from netns.measure.servers import measure as measure_one
    from netns.measure.servers_table import markdown
    from netns.web import KINDS, StopSignal

    require_root()
    for name in kinds:
        if name not in KINDS:
            raise click.BadParameter(f"{name!r}: {', '.join(KINDS)} are allowed", param_hint="KIND")
    chosen = kinds or tuple(KINDS)
    for name in chosen:
        if KINDS[name].version() is None:
            raise MissingError(f"{name} is not installed: {KINDS[name].fix}")
    found = []
    for name in chosen:
        for how in hows or MEASURED:
            say(f"{name}, {how}:")
            found.append(measure_one(name, StopSignal(how), say=lambda text: say(f"  {text}")))
    if as_json:
        click.echo(json.dumps({"measured": [asdict(one) for one in found]}))
    elif as_markdown:
        click.echo(markdown(found), nl=False)
    else:
        for one in found:
            _print(one)


def _print(measured: Measured) -> None:
    from netns.measure.servers_table import COLUMNS, row

    server, stop, *cells = row(measured)
    click.echo(f"{server}, {stop}")
    for column, cell in zip(COLUMNS[2:], cells, strict=True):
        click.echo(f"  {column + ':':36}{cell}")
