"""`l4lab`: the lab from the command line. Data on stdout, messages on stderr.

Exit codes: 0 done, 1 failed, 2 usage, 3 bad configuration, 4 the box does not answer, 5 a privilege, program
or kernel feature is missing, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import time
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netns.cli.clients import clients
from netns.cli.common import (
    BAD_CONFIG,
    INTERRUPTED,
    MISSING,
    delay_option,
    json_option,
    lab_name,
    name_option,
    say,
)
from netns.cli.docker import docker
from netns.cli.explain import explain
from netns.cli.rehearse import rehearse
from netns.cli.scenario import scenario
from netns.cli.web import web
from netns.errors import LabError
from netns.linux.privileges import require_root

# What takes long to import is imported by the commands that use it: `l4lab --help` is instant.
if TYPE_CHECKING:
    from netns.namespaces.lab import NamespaceLab
    from netns.namespaces.status import Status

DONE = {
    "health-off": "health file renamed",
    "health-on": "health file put back",
    "vip-down": "VIP off lo",
    "vip-up": "VIP on lo",
    "stop": "stopped",
    "start": "started",
    "kill": "killed",
}
"""What `l4lab server` and `l4lab box` say when they have done it."""
ALREADY = {
    "health-off": "health file already renamed",
    "health-on": "health file already there",
    "stop": "already stopped",
    "start": "already running",
    "kill": "already stopped",
}
"""The same when there was nothing to do; a VIP is always put or taken."""


class Commands(click.Group):
    """Turns the lab's errors into a line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except LabError as error:
            say(f"l4lab: {error}")
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            say("l4lab: interrupted")
            ctx.exit(INTERRUPTED)


def _known_nodes(ctx: click.Context, _: click.Parameter, start: str) -> list[str]:
    from netns.lab import state
    from netns.namespaces.lab import NamespaceLab

    made = state.read(lab_name(ctx.params.get("name")))
    return (
        [node.name for node in NamespaceLab(made).plan.nodes if node.name.startswith(start)] if made else []
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="l4box", prog_name="l4lab")
def main() -> None:
    """Make a lab of clients, a router, the L4 box and web servers, and rehearse deploys in it."""


main.add_command(scenario)
main.add_command(clients)
main.add_command(web)
main.add_command(rehearse)
main.add_command(explain)
main.add_command(docker)


@main.command()
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="Read the lab's TOML file.  [default: the default lab]",
)
@name_option
@click.option(
    "--speed", type=float, help="Divide every time of the box by 1 to 100.  [default: the file's, or 1]"
)
@delay_option
@click.option(
    "--no-wait", is_flag=True, help="Return when the box answers; do not wait until servers are bound."
)
def up(
    file: Path | None, name: str | None, speed: float | None, delay_ms: float | None, no_wait: bool
) -> None:
    """Make the lab and wait until every server is bound."""
    from lb.config import ConfigError
    from netns import labs
    from netns.plan.config import load

    try:
        labs.up(load(file, name=name, speed=speed, delay_ms=delay_ms), wait=not no_wait, say=say)
    except ConfigError as error:
        say(str(error))
        click.get_current_context().exit(BAD_CONFIG)


@main.command()
@name_option
def down(name: str | None) -> None:
    """Remove what `up` made, and nothing else.

    The lab's state file says what that is.
    """
    from netns import labs

    chosen = lab_name(name)
    found = labs.down(chosen, say=say)
    say(f"the lab {chosen!r} is down" if found else f"there is no lab {chosen!r}: nothing to do")


@main.command()
@name_option
@json_option
def status(name: str | None, as_json: bool) -> None:
    """Show the lab. Exit with 1 when it is not up, or a part of it is dead."""
    from netns import labs
    from netns.lab import state
    from netns.namespaces.status import look

    require_root()
    chosen = lab_name(name)
    made = state.read(chosen)
    if made is None:
        if as_json:
            click.echo(json.dumps({"name": chosen, "up": False, "labs": state.names()}))
        labs.open_lab(chosen)  # says so
        return
    if made.on != state.NAMESPACES:
        labs.open_lab(chosen)  # says so
    found = look(made)
    if as_json:
        click.echo(json.dumps({"up": True, **found.document()}))
    else:
        _print_status(found)
    for problem in found.problems:
        say(f"problem: {problem}")
    click.get_current_context().exit(1 if found.problems else 0)


@main.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("node", shell_complete=_known_nodes)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on NODE.

    l4lab exec client -- curl http://192.0.2.10/
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.MissingParameter(param_type="argument", param_hint="COMMAND")
    argv = _lab(name).command(node, words)
    os.execvp(argv[0], argv)  # noqa: S606 - that is what the command is for


@main.command()
@name_option
@click.option(
    "--signal",
    "how",
    type=click.Choice(["graceful", "abrupt", "kill", "kill-main", "quit", "term"]),
    default="graceful",
    show_default=True,
    help="Stop by a signal of the kind (l4lab web list), by SIGKILL, or by the signal of that name.",
)
@click.option(
    "--timeout", default=30.0, show_default=True, help="Wait at most so many real seconds for `stop`."
)
@click.option("--vip", help="Take down or put up only this VIP.  [default: all of the server's]")
@click.argument("server", shell_complete=_known_nodes)
@click.argument(
    "action",
    type=click.Choice(["health-off", "health-on", "vip-down", "vip-up", "stop", "start", "kill"]),
)
def server(name: str | None, how: str, timeout: float, vip: str | None, server: str, action: str) -> None:
    """Do a step of a deploy to a web server.

    Rename its health file, take its VIP down, stop it, or undo that.

    `kill` sends SIGKILL to all its processes, `stop --signal kill-main` to the main process only.
    """
    from netns.web import StopSignal

    lab = _lab(name)
    address = _address(vip)
    changed = True
    match action:
        case "health-off":
            changed = lab.health_off(server)
        case "health-on":
            changed = lab.health_on(server)
        case "vip-down":
            lab.vip_down(server, address)
        case "vip-up":
            lab.vip_up(server, address)
        case "stop":
            changed = lab.stop(server, StopSignal(how), timeout_s=timeout)
            if left := lab.running(f"web {server}"):
                say(f"{server}: left running: {', '.join(f'pid {pid}' for pid in left)}")
        case "start":
            changed = lab.start(server)
        case "kill":
            changed = lab.stop(server, StopSignal.KILL)
    say(f"{server}: {DONE[action] if changed else ALREADY[action]}")


@main.command("box")
@name_option
@click.argument("action", type=click.Choice(["stop", "start", "kill"]))
def box_command(name: str | None, action: str) -> None:
    """Stop, start or kill the box's daemon."""
    lab = _lab(name)
    match action:
        case "stop":
            changed = lab.stop_box()
        case "kill":
            changed = lab.stop_box(signal.SIGKILL)
        case _:
            changed = lab.start_box()
    say(f"box: {DONE[action] if changed else ALREADY[action]}")


@main.command()
@name_option
@json_option
@click.option(
    "-o", "--output", "path", required=True, type=click.Path(path_type=Path), help="Write this pcapng file."
)
@click.option(
    "--filter",
    "expression",
    default="",
    help="Capture what this filter of tcpdump matches: 'tcp port 80'.  [default: all]",
)
@click.option("--seconds", type=float, help="Stop after so many real seconds.")
@click.option("--count", type=int, help="Stop when every interface has seen that many packets.")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE[:LINK]...", shell_complete=_known_nodes)
def capture(
    name: str | None,
    as_json: bool,
    path: Path,
    expression: str,
    seconds: float | None,
    count: int | None,
    nodes: tuple[str, ...],
) -> None:
    """Capture packets at nodes into one file, until Ctrl-C.

    In the file each interface has the name of its node.

    The router has a link to every node: `router` means all, `router:rs1` one.
    """
    with _lab(name).capture(nodes, path, expression=expression, count=count) as running:
        say("capturing; Ctrl-C ends it")
        deadline = time.monotonic() + seconds if seconds is not None else None
        try:
            while not running.finished and (deadline is None or time.monotonic() < deadline):
                time.sleep(0.05)
        except KeyboardInterrupt:
            pass
    for seen in running.counted:
        if seen.dropped:
            say(f"warning: {seen.name}: {seen.dropped} packets came too fast to be captured")
    if as_json:
        interfaces = [
            {"name": seen.name, "packets": seen.packets, "dropped": seen.dropped} for seen in running.counted
        ]
        click.echo(json.dumps({"file": str(path), "interfaces": interfaces}))
    else:
        click.echo(path)


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine lacks for the lab, and how to get it.

    Change nothing.
    """
    from dataclasses import asdict

    from netns.namespaces.doctor import examine

    findings = examine()
    lacking = [finding for finding in findings if finding.required and not finding.ok]
    if as_json:
        click.echo(json.dumps({"ok": not lacking, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "MISSING" if finding.required else "absent "
            fix = "" if finding.ok else f"  →  {finding.fix}"
            click.echo(f"{mark}  {finding.what}: {finding.detail}{fix}")
    click.get_current_context().exit(MISSING if lacking else 0)


def _lab(name: str | None) -> NamespaceLab:
    from netns import labs

    return labs.open_lab(lab_name(name))


def _address(text: str | None) -> IPv4Address | None:
    try:
        return None if text is None else IPv4Address(text)
    except AddressValueError as error:
        raise click.BadParameter(str(error), param_hint="--vip") from error


def _print_status(status: Status) -> None:
    from rich.table import Table

    from lb.terminal import console as on_stdout

    console = on_stdout()

    def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
        table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()

    delayed = f", clients' round trips {status.delay_ms:g} ms longer" if status.delay_ms else ""
    console.print(f"lab {status.name}, speed {status.speed:g}{delayed}, API {status.api}\n")
    show(
        "Nodes",
        ["node", "namespace", "interfaces", "routes"],
        [
            [
                node["name"],
                node["namespace"] + ("" if node["present"] else " (gone)"),
                "\n".join(f"{end['name']} {end['address']} ↔ {end['peer']}" for end in node["interfaces"]),
                "\n".join(f"{route['to']} → {route['via']}" for route in node["routes"]),
            ]
            for node in status.nodes
        ],
    )
    show(
        "Virtual servers",
        ["name", "VIP", "DSCP", "servers"],
        [
            [
                service["name"],
                f"{service['vip']}:{service['port']}/{service['protocol']}",
                str(service["dscp"]),
                " ".join(service["servers"]),
            ]
            for service in status.virtual_servers
        ],
    )
    show(
        "Web servers",
        ["name", "address", "web", "health file", "VIPs on lo", "box says", "sessions"],
        [
            [
                server.name,
                server.address,
                f"{server.web}{'' if server.running else ' (not running)'}",
                "there" if server.health_file else "renamed",
                " ".join(server.vips) or "none",
                "\n".join(f"{row['virtual_server']}: {row['state']}" for row in server.box) or "-",
                "\n".join(str(row["sessions"]) for row in server.box) or "-",
            ]
            for server in status.servers
        ],
    )
