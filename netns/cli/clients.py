"""`l4lab clients`: the kinds of clients, and what each does when its connection dies."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from netns.cli.common import say
from netns.linux.privileges import require_root

MEASURED = ("curl", "curl-post", "urllib3", "requests", "httpx", "aiohttp", "node", "java", "go")


@click.group()
def clients() -> None:
    """List kinds of clients, measure each when its connection dies."""


@clients.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(as_json: bool) -> None:
    """Show the kinds, what a client of each is, and which are installed."""
    from netns.clients.kinds import KINDS

    rows = [
        {"name": kind.name, "version": kind.version() or None, "is_a": kind.is_a, "fix": kind.fix}
        for kind in KINDS.values()
    ]
    if as_json:
        click.echo(json.dumps({"kinds": rows}))
        return
    for row in rows:
        fix = "" if row["version"] else f"  →  {row['fix']}"
        click.echo(f"{row['name']:14}{row['version'] or 'absent':10}  {row['is_a']}{fix}")


@clients.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table of docs/clients.md.")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
def measure(as_json: bool, as_markdown: bool, kinds: tuple[str, ...]) -> None:
    """End connections of clients of each KIND in five ways, and show what the callers see.

    Without KIND, measure all that are installed. The ways are a reset and a FIN while the connection is idle,
    the same with a request in flight, and packets that vanish. Then measure how long the client waits with no
    timeout configured. It takes half a minute.
    """
    from netns.clients.kinds import KINDS
    from netns.errors import MissingError
    from netns.measure import clients_table
    from netns.measure.clients import measure as measure_kinds

    for name in kinds:
        if name not in MEASURED:
            allowed = ", ".join(MEASURED)
            raise click.BadParameter(f"{name!r}: {allowed} are allowed", param_hint="KIND")
    require_root()
    lacking = {name: text for name in kinds or MEASURED if (text := KINDS[name].missing())}
    if lacking and kinds:
        raise MissingError("; ".join(lacking.values()))
    for text in lacking.values():
        say(f"left out: {text}")
    chosen = [KINDS[name] for name in kinds or MEASURED if name not in lacking]
    rows, times = measure_kinds(chosen, say=say)
    if as_json:
        document: dict[str, Any] = {
            "rows": [_plain(asdict(row)) for row in rows],
            "own_times": [_plain(asdict(one)) for one in times],
        }
        click.echo(json.dumps(document))
    elif as_markdown:
        click.echo(clients_table.markdown(rows, times), nl=False)
    else:
        for client, method, *cells in clients_table.lines(rows, times):
            click.echo(f"{client}, {method}")
            for column, text in zip(clients_table.header()[2:], cells, strict=True):
                click.echo(f"  {column + ':':26}{text.replace('**', '')}")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """With enumerations by their values."""
    return {key: getattr(value, "value", value) for key, value in row.items()}
