"""l4box: run a box, and ask a running one. Data on stdout, messages on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from lb.exit_codes import BAD_CONFIG, FAILED, INTERRUPTED, NOT_PERMITTED, UNREACHABLE
from lb.run_directory import RUN_DIRECTORY

# What is slow to import is imported where it is used: --help and completion answer at once.
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lb.client import BoxClient

DEFAULT_LIMIT: Final = 10_000

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(Exception):
    """A message for stderr and an exit code."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Commands(click.Group):
    """The root: whatever ends a command below it is turned into an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            click.echo(f"l4box: {failure}", err=True)
            ctx.exit(failure.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from lb.version import version

        click.echo(f"l4box {version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--socket", type=click.Path(path_type=Path), help="Socket of the box to talk to.")
@click.option("--name", help=f"Name of the box to talk to; its socket is {RUN_DIRECTORY}/NAME.sock.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
@click.pass_context
def cli(ctx: click.Context, socket: Path | None, name: str | None) -> None:
    """A userspace L4 load balancer (L3DSR), and a way to ask a running one.

    \b
    Exit codes: 0 ok, 1 failed, 2 usage, 3 bad configuration, 4 no box answers,
    5 not permitted or a kernel feature is missing, 130 interrupted.
    """
    if socket and name:
        raise click.UsageError("--socket and --name exclude each other")
    ctx.obj = socket or (RUN_DIRECTORY / f"{name}.sock" if name else None)


def default_socket() -> Path:
    """$L4BOX_SOCKET; else the box named l4box; else the one box that is there."""
    if given := os.environ.get("L4BOX_SOCKET"):
        return Path(given)
    usual = RUN_DIRECTORY / "l4box.sock"
    found = sorted(RUN_DIRECTORY.glob("*.sock"))
    if usual in found or not found:
        return usual
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise click.UsageError(f"several boxes run here: {names}; choose one with --name")
    return found[0]


@contextmanager
def connected() -> Iterator[BoxClient]:
    """The box that the options name; its errors become exit codes."""
    from lb.client import ApiError, BoxClient, Denied, Unreachable

    try:
        with BoxClient(click.get_current_context().obj or default_socket()) as box:
            yield box
    except Unreachable as error:
        raise Failure(UNREACHABLE, str(error)) from error
    except Denied as error:
        raise Failure(NOT_PERMITTED, str(error)) from error
    except ApiError as error:
        raise Failure(FAILED, str(error)) from error


def as_json(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, as in docs/json.md.")(command)


def config_file(command: Command) -> Command:
    path = click.Path(path_type=Path, dir_okay=False)
    return click.option("-c", "--config", type=path, required=True, help="The box's TOML file.")(command)


def session_filters(command: Command) -> Command:
    states = click.Choice(["SYN", "ESTABLISHED", "FIN", "UDP"], case_sensitive=False)
    for option in (
        click.option("--state", type=states, help="In this state."),
        click.option("--virtual-server", help="Of this virtual server."),
        click.option("--vip", help="To this VIP: address or address:port."),
        click.option("--client", help="Of this client: address, address:port or network."),
        click.option("--server", help="With this real server."),
    ):
        command = option(command)
    return command


def all_sessions(command: Command) -> Command:
    return click.option("--all", "everything", is_flag=True, help="Every session.")(command)


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@cli.command()
@config_file
def run(config: Path) -> None:
    """Run a box in the foreground until it is told to stop."""
    from lb import daemon

    click.get_current_context().exit(daemon.run(config))


@cli.command()
@config_file
@as_json
def check(config: Path, as_json: bool) -> None:
    """Check a configuration and show what it says; changes nothing."""
    from lb.config import ConfigError, load

    try:
        found = load(config)
    except ConfigError as error:
        raise Failure(BAD_CONFIG, str(error)) from None
    for warning in found.warnings():
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        return _print_json(found.model_dump(mode="json"))
    from lb import render
    from lb.terminal import console

    return render.configuration(console(), found)


@cli.group(name="show")
def show_() -> None:
    """Show what a running box holds."""


@show_.command(name="servers")
@as_json
def show_servers(as_json: bool) -> None:
    """Real servers: state, binding, sessions, last health check."""
    with connected() as box:
        _print_servers(box.servers(), as_json)


def _print_servers(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return _print_json({"servers": rows})
    from lb import render
    from lb.terminal import console

    return render.servers(console(), rows)


@show_.command(name="sessions")
@session_filters
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True)
@as_json
def show_sessions(limit: int, as_json: bool, **filters: str | None) -> None:
    """The session table, or the part of it that matches."""
    with connected() as box:
        rows = list(box.sessions(**filters, limit=limit + 1))
    if len(rows) > limit:
        rows.pop()
        click.echo(f"There are more than these {limit}; --limit or a filter shows others.", err=True)
    if as_json:
        return _print_json({"sessions": rows})
    from lb import render
    from lb.terminal import console

    return render.sessions(console(), rows)


@show_.command(name="stats")
@as_json
def show_stats(as_json: bool) -> None:
    """What the box counts."""
    with connected() as box:
        found = box.stats()
    if as_json:
        return _print_json(found)
    from lb import render
    from lb.terminal import console

    return render.stats(console(), found)


@cli.group()
def server() -> None:
    """Take a real server out, or put it back."""


def _complete_server(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from lb.client import BoxClient, BoxError

    given = ctx.find_root().params
    path = given.get("socket") or (RUN_DIRECTORY / f"{given['name']}.sock" if given.get("name") else None)
    try:
        with BoxClient(path or default_socket(), timeout_s=1.0) as box:
            names = {row["name"] for row in box.servers()}
    except (BoxError, click.UsageError):
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def one_server(command: Command) -> Command:
    for parameter in (
        as_json,
        click.option("--virtual-server", help="Only in this virtual server; else in all that have it."),
        click.argument("name", shell_complete=_complete_server),
    ):
        command = parameter(command)
    return command


@server.command()
@one_server
def enable(name: str, virtual_server: str | None, as_json: bool) -> None:
    """Check the server again; it gets new flows after the first success."""
    with connected() as box:
        _print_servers(box.enable(name, virtual_server), as_json)


@server.command()
@one_server
@click.option("--reset", is_flag=True, help="Reset its sessions, as reset_on_port_fail says; an event tells.")
def disable(name: str, virtual_server: str | None, reset: bool, as_json: bool) -> None:
    """No new flows and no checks; sessions stay, unless they are to be reset."""
    with connected() as box:
        _print_servers(box.disable(name, virtual_server, reset), as_json)


@server.command()
@one_server
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="Reset what is left after this long, in box seconds. Default, and 0: the virtual server's setting.",
)
def shutdown(name: str, virtual_server: str | None, drain_timeout: float | None, as_json: bool) -> None:
    """No new flows and no checks; an event tells when the last session has gone."""
    with connected() as box:
        _print_servers(box.shutdown(name, virtual_server, drain_timeout), as_json)


@cli.group(name="sessions")
def sessions_() -> None:
    """Act on sessions."""


@sessions_.command(name="clear")
@session_filters
@all_sessions
@as_json
def clear_sessions(everything: bool, as_json: bool, **filters: str | None) -> None:
    """Remove the sessions that match from the table, without a word to client or server."""
    _refuse_no_filter(everything, filters)
    with connected() as box:
        _print_number("cleared", box.clear_sessions(**filters, everything=everything), as_json)


@sessions_.command(name="reset")
@session_filters
@all_sessions
@as_json
def reset_sessions(everything: bool, as_json: bool, **filters: str | None) -> None:
    """Reset the sessions that match, at once, on the sides that reset_on_port_fail says."""
    _refuse_no_filter(everything, filters)
    with connected() as box:
        _print_number("reset", box.reset_sessions(**filters, everything=everything), as_json)


def _refuse_no_filter(everything: bool, filters: dict[str, str | None]) -> None:
    if not everything and not any(filters.values()):
        raise click.UsageError("give a filter, or --all")


def _print_number(what: str, number: int, as_json: bool) -> None:
    if as_json:
        _print_json({what: number})
    else:
        click.echo(f"{what} {number}")


@cli.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come.")
@click.option("--since", type=int, help="After this number; -10: the last ten. Default: all that are kept.")
@click.option("--kind", "kinds", multiple=True, help="Only of this kind; may be given again.")
@as_json
def events(follow: bool, since: int | None, kinds: tuple[str, ...], as_json: bool) -> None:
    """What happened: states of servers, health checks, sessions. JSON is one object a line."""
    from lb import render
    from lb.terminal import console

    out = console()
    with connected() as box:
        for event in box.events(since=since, follow=follow):
            if kinds and event["kind"] not in (*kinds, "missed"):
                continue
            if as_json:
                click.echo(json.dumps(event, ensure_ascii=False))
            else:
                render.event(out, event)


@cli.command()
@click.argument("client")
@click.argument("vip", required=False)
@as_json
def explain(client: str, vip: str | None, as_json: bool) -> None:
    """Say what the box would do with a packet from CLIENT to VIP now, and why.

    CLIENT and VIP are an address or address:port, as in 10.0.0.2:40000. No VIP means all of them.
    """
    with connected() as box:
        found = box.explain(client, vip)
    if as_json:
        return _print_json(found)
    from lb import render
    from lb.terminal import console

    return render.explanation(console(), found)


def main() -> None:
    """The command."""
    cli(prog_name="l4box")


if __name__ == "__main__":
    main()
