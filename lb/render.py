"""What the CLI prints for people: tables that fit a terminal, one line for an event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lb.config import BoxConfig, VirtualServer

Json = dict[str, Any]

STATE_STYLES: Final = {
    "ACTIVE": "green",
    "SUSPECT": "yellow",
    "FAILED": "bold red",
    "TESTING": "cyan",
    "ENABLED": "cyan",
    "SHUTDOWN": "magenta",
    "DISABLED": "dim",
}

_WIDE: Final = 110


def servers(out: Console, rows: Sequence[Json]) -> None:
    table = _table(
        "VIRTUAL SERVER", "SERVER", "ADDRESS", "STATE", "BOUND", ">SESSIONS", ">FLOWS", "LAST CHECK"
    )
    for row in rows:
        check = row["last_check"]
        ago = f"{check}, {span(row['last_check_age_s'])} ago" if check is not None else "-"
        _add(
            table,
            row["virtual_server"],
            row["name"],
            row["address"],
            _state(row["state"]),
            "yes" if row["bound"] else "no",
            row["sessions"],
            row["flows"],
            ago,
        )
    out.print(table)


def sessions(out: Console, rows: Sequence[Json]) -> None:
    """Sequence and acknowledgement numbers only where there is room for them."""
    wide = out.width >= _WIDE
    names = ["CLIENT", "VIP", "SERVER", "STATE", ">AGE", ">IDLE", ">LEFT", ">PKTS", ">BYTES"]
    table = _table(*names, *([">SEQ", ">ACK"] if wide else []))
    for row in rows:
        _add(
            table,
            row["client"],
            row["vip"],
            row["server"],
            row["state"],
            span(row["age_s"]),
            span(row["idle_s"]),
            span(row["expires_in_s"]),
            row["packets"],
            size(row["bytes"]),
            *((row["seq"], row["ack"]) if wide else ()),
        )
    out.print(table)


def stats(out: Console, found: Json) -> None:
    queue, held = found["queue"], found["sessions"]
    facts = {
        "box": f"{found['name']}, version {found['version']}",
        "up": f"{span(found['uptime_s'])} of box time, speed {found['speed']:g}",
        "sessions": f"{held['now']} of {held['limit']}, and {held['tombstones']} tombstones",
        "forwarded": f"{found['forwarded']} packets",
        "dropped": _reasons(found["dropped"]),
        "resets": f"in answer to packets: {_reasons(found['resets'])}; SYN probes: {found['syn_probes']}",
        "queue": f"{queue['received']} packets in {queue['batches']} batches, {queue['waiting']} waiting, "
        f"{queue['dropped_full'] + queue['dropped_user']} dropped by the kernel",
        "injected": f"{queue['injected']} packets; failures: {_reasons(queue['injection_failures'])}",
        "loop lag": _lag(found["loop_lag"]),
    }
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        _add(table, Text(name, style="bold"), fact)
    out.print(table)
    out.print()
    services = _table("VIRTUAL SERVER", "VIP", "SCHEDULER", ">BOUND", ">SESSIONS", ">RESETTING", ">FLOWS")
    for row in found["virtual_servers"]:
        _add(
            services,
            row["name"],
            f"{row['vip']}/{row['protocol']}",
            row["scheduler"],
            f"{row['bound']}/{row['servers']}",
            row["sessions"],
            row["resetting"],
            row["flows"],
        )
    out.print(services)
    resets = _session_resets(found["session_resets"])
    if resets.row_count:
        out.print()
        out.print(resets)


def _lag(found: Json) -> str:
    """The smallest bound that holds for 99 % of the beats, and the worst."""
    if not found["beats"]:
        return "not measured yet"
    bounds = zip(found["upper_bounds_s"], found["counts"], strict=True)
    worst_s = found["worst_s"]
    most_s = next((bound for bound, count in bounds if count >= 0.99 * found["beats"]), worst_s)
    return (
        f"at most {1000 * min(most_s, worst_s):.0f} ms for 99 % of the time, "
        f"{1000 * worst_s:.0f} ms at worst (real time)"
    )


def _session_resets(found: Json) -> Table:
    """RSTs by reason and side, and what became of the sessions; a row where there is something to tell."""
    table = _table(
        "SESSION RESETS", ">TO CLIENTS", ">TO SERVERS", ">ACCEPTED", ">CHALLENGED", ">PROBED", ">SILENT"
    )
    for reason, row in found.items():
        numbers = [row[name] for name in ("client", "server", "accepted", "challenged", "probed", "silent")]
        if any(numbers):
            _add(table, reason, *numbers)
    return table


def configuration(out: Console, config: BoxConfig) -> None:
    """What the box would do with this file."""
    out.print(Text(f"box {config.name}: speed {config.speed:g}, up to {config.sessions.limit} sessions"))
    for service in config.virtual_server:
        check = service.health_check
        host = f" with Host: {check.host}" if check.host is not None else ""
        what = f"GET {check.url}{host}" if check.kind == "l7" else "connect"
        where = "the VIP through the DSR path" if check.path == "dsr" else "the server's own address"
        address = f"[{service.address}]" if service.address.version == 6 else str(service.address)
        out.print()
        for line in (
            f"{service.name}: {address}:{service.port}/{service.protocol}, DSCP {service.dscp}, "
            f"{service.scheduler}, idle timeout {service.aging_s:g} s, half-open {service.syn_timeout_s:g} s",
            f"  check: {what} at {where} every {check.interval_s:g} s, {check.retries} retries, "
            f"timeout {check.timeout_s:g} s",
            *_resets(service),
            *(f"  {one.name}: {one.address}, weight {one.weight}" for one in service.real_server),
        ):
            out.print(Text(line))


def _resets(service: VirtualServer) -> Iterator[str]:
    reset = service.reset_on_port_fail
    sides = {"client": "the client", "server": "the server", "both": "both sides"}[reset.sides]
    pace = f"{reset.pace:g} a second at most" if reset.pace else "as fast as they can be sent"
    yield (
        f"  reset on port fail: {'on' if reset.enabled else 'off'}; "
        f"resets go to {sides}, {reset.mode}, {pace}"
    )
    left = f"reset after {service.drain_timeout_s:g} s" if service.drain_timeout_s else "kept"
    aged = "reset" if service.reset_on_aging else "removed in silence"
    yield f"  sessions left after a shutdown: {left}; aged out: {aged}"


def explanation(out: Console, found: Json) -> None:
    for line in found["text"]:
        out.print(_with_states(line))


def event(out: Console, found: Json) -> None:
    """One line, of known fields in words and of others as they are."""
    rest = {name: value for name, value in found.items() if name not in ("id", "time", "box_time", "kind")}
    match found["kind"]:
        case "server_state":
            what = (
                f"{_subject(found)} {found['old']} → {found['new']}, {found['reason']}"
                f" (sessions: {found['sessions']}, {'bound' if found['bound'] else 'not bound'})"
            )
        case "probe":
            what = f"{_subject(found)} {found['outcome']}: {found['detail']}"
        case "server_drained":
            what = f"{_subject(found)} has no session left"
        case "reset_started":
            what = f"{_subject(found)} resetting {found['sessions']} of its sessions: {found['reason']}"
        case "reset_ended":
            what = (
                f"{_subject(found)} {found['sessions']} sessions reset, {found['resets']} RSTs sent, in "
                f"{span(found['took_s'])}: {found['reason']}"
            )
        case "session_opened":
            what = f"{_subject(found)} {found['client']} to {found['vip']}"
        case "session_removed":
            what = (
                f"{_subject(found)} {found['client']} to {found['vip']}: {found['reason']} after "
                f"{span(found['age_s'])}, {found['packets']} packets, {found['bytes']} bytes"
            )
        case "missed":
            what = f"{found['missed']} events are not kept any more"
        case _:
            what = " ".join(f"{name}={value}" for name, value in rest.items())
    line = Text.assemble((found["time"], "dim"), f" {found['kind']} ", _with_states(what))
    out.print(line, soft_wrap=True)


def span(seconds: float) -> str:
    """A duration in at most six characters: "2.3s", "42s", "9m58s", "1h02m", "3d04h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size(number: float) -> str:
    """Bytes in at most five characters: "999", "1.2k", "35M"."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"
        number /= 1000
    return f"{number:.0f}T"


def _table(*names: str) -> Table:
    """Columns by name; those that begin with > are set to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in names:
        right = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    # Text, because rich takes the brackets of an IPv6 address in a str for markup.
    table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


def _state(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(state, ""))


def _with_states(line: str) -> Text:
    text = Text(line)
    for state, style in STATE_STYLES.items():
        text.highlight_words([state], style)
    return text


def _subject(found: Json) -> str:
    return f"{found['virtual_server']}/{found['server']}"


def _reasons(counts: dict[str, int]) -> str:
    found: Iterable[str] = (f"{number} {reason}" for reason, number in counts.items() if number)
    return ", ".join(found) or "none"
