"""Processes that outlive the command that started them, told apart from any later owner of their pid.

A started process leads a session of its own inside a namespace. It and its descendants are known by that
session, by the namespace, and by the leader's start time (proc(5), /proc/PID/stat field 22).

It also has a UTS namespace of its own (uts_namespaces(7)). Descendants that have left the session, as daemons
do, are known by that: they keep it, whereas they may overwrite their environment, as nginx does.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from netns.errors import LabError
from netns.linux import namespace

_GATE = 'echo $$; read -r go && exec "$@" </dev/null >>"$0" 2>&1'
"""Say the pid, wait for word that it is recorded, become the program; at end of file nobody knows it: end."""

POLL_S = 0.01


ANYWHERE = 0


@dataclass(frozen=True, slots=True)
class Process:
    """A process that the lab started."""

    pid: int
    """Also the id of its session."""
    started: int
    """Clock ticks after boot."""
    netns: int
    """Inode number of its network namespace; ANYWHERE when it may be in any."""
    log: str
    """The file that its stdout and stderr go to."""
    uts: int = 0
    """Inode number of the UTS namespace that is its own and its descendants'; 0 when it has none."""


Record = Callable[[Process], None]
"""Notes a process where `down` will find it."""


def spawn(
    where: str,
    argv: Sequence[str],
    *,
    log: Path,
    record: Record,
    env: dict[str, str] | None = None,
) -> Process:
    """Start `argv` in the namespace `where`, detached: own session, cwd /, no parent to leave a zombie with.

    It runs only after `record` has returned. That the program could be run at all shows in its log.
    """
    gate = ["sh", "-c", _GATE, str(log), *argv]
    with subprocess.Popen(
        ["setsid", "--fork", "unshare", "--uts", "--", *namespace.command(where, gate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env=env,
        text=True,
    ) as starter:
        assert starter.stdin is not None and starter.stdout is not None  # noqa: S101, PT018 - both are pipes
        said = starter.stdout.readline().strip()
        if not said:
            raise LabError(f"can't start a process in the namespace {where!r}")
        pid = int(said)
        stat = _stat(pid)
        inode, uts = namespace.identity(where), _namespace(pid, "uts")
        if stat is None or inode is None or uts is None:
            raise LabError(f"the process started in the namespace {where!r} is gone")
        process = Process(pid=pid, started=stat.started, netns=inode, log=str(log), uts=uts)
        record(process)
        starter.stdin.write("go\n")
    return process


def leader(pid: int, log: Path) -> Process:
    """A process that leads its session already, and whose descendants may enter any namespace."""
    stat = _stat(pid)
    if stat is None:
        raise LabError(f"the process {pid} is gone")
    return Process(pid=pid, started=stat.started, netns=ANYWHERE, log=str(log))


def started(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None when there is none."""
    stat = _stat(pid)
    return stat.started if stat is not None and not stat.zombie else None


def members(process: Process) -> list[int]:
    """The pids of what is alive of `process` and its descendants, the leader first."""
    first = _stat(process.pid)
    if first is not None and first.started != process.started:
        return []  # the pid has another owner: so has the session of that number
    return sorted(
        (
            pid
            for pid, stat in _all()
            if stat.session == process.pid
            and stat.started >= process.started
            and not stat.zombie
            and process.netns in (ANYWHERE, network(pid))
        ),
        key=lambda pid: pid != process.pid,
    )


def remains(process: Process) -> list[int]:
    """The pids of what is alive of `process`, or of what it has left, wherever that went.

    Descendants that have left its session, as daemons do, are among them. Whatever else runs on the node is
    not, whoever started it.
    """
    # A look at /proc misses a child that is made after the listing and whose parent ends before its turn.
    return _remains(process) or _remains(process)


def kill_remains(process: Process, timeout_s: float) -> bool:
    """Kill what `process` has left; whether all of it ends within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while found := remains(process):
        if time.monotonic() > deadline:
            return False
        for pid in found:
            with suppress(ProcessLookupError), _held(pid) as handle:
                if pid in _remains(process):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
        _wait_for_an_end(found, POLL_S)
    return True


def _remains(process: Process) -> list[int]:
    daemons = [
        pid
        for pid, stat in _all()
        if stat.session != process.pid
        and stat.started >= process.started
        and not stat.zombie
        and network(pid) == process.netns
        and _namespace(pid, "uts") == process.uts
    ]
    return [*members(process), *daemons]


def name(pid: int) -> str:
    """The program's name, "?" when it has ended."""
    stat = _stat(pid)
    return stat.name if stat is not None else "?"


def holders(sockets: Collection[int], among: Iterable[int]) -> set[int]:
    """The pids among those given that have one of these sockets, given by inode number, open."""
    wanted = {f"socket:[{inode}]" for inode in sockets}
    return {pid for pid in among if wanted & _open_files(pid)}


def send(process: Process, number: signal.Signals, *, to_all: bool = False) -> float | None:
    """Signal the leader, or all of its session; those left of it when the leader is dead.

    When the first was, in CLOCK_MONOTONIC seconds; None when none was alive.
    """
    sent: float | None = None
    alive = members(process)
    chosen = alive if to_all or process.pid not in alive else [process.pid]
    for pid in chosen:
        with suppress(ProcessLookupError), _held(pid) as handle:
            if pid in members(process):
                now = time.monotonic()
                signal.pidfd_send_signal(handle, number)
                sent = sent or now
    return sent


@contextmanager
def _held(pid: int) -> Iterator[int]:
    """A pidfd: whoever has the pid now is who is signalled. Ask who it is once more within."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def wait(process: Process, timeout_s: float) -> bool:
    """Whether `process` and its descendants have ended within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while alive := members(process):
        left_s = deadline - time.monotonic()
        if left_s < 0:
            return False
        _wait_for_an_end(alive, left_s)
    return True


def wait_for_leader(process: Process, timeout_s: float) -> bool:
    """Whether the leader has ended within `timeout_s`, whatever it leaves running."""
    deadline = time.monotonic() + timeout_s
    while process.pid in members(process):
        left_s = deadline - time.monotonic()
        if left_s < 0:
            return False
        _wait_for_an_end([process.pid], left_s)
    return True


def _wait_for_an_end(pids: Sequence[int], timeout_s: float) -> None:
    """Return when one of the processes has ended: the kernel says so at once, and /proc only when asked."""
    ends = select.poll()
    with ExitStack() as held:
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            held.callback(os.close, handle)
            ends.register(handle, select.POLLIN)
        ends.poll(timeout_s * 1000)


def last_lines(log: Path | str, count: int = 15) -> str:
    """The end of a log, for an error message."""
    try:
        lines = Path(log).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def adopted(inodes: Collection[int]) -> list[int]:
    """The pids of this process's own children that run in one of those namespaces.

    Those of a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) are whatever its descendants left behind.
    """
    mine = os.getpid()
    return [pid for pid, stat in _all() if stat.parent == mine and not stat.zombie and network(pid) in inodes]


def in_namespace(inode: int) -> list[tuple[int, str]]:
    """Pid and name of whatever runs in the namespace with that inode number."""
    found = []
    for pid, stat in _all():
        if not stat.zombie and network(pid) == inode:
            found.append((pid, stat.name))
    return found


_STAT_BYTES = 4096
"""More than the longest /proc/PID/stat: a name of at most 64 bytes, and 50 numbers of at most 20 digits."""


class _Stat(NamedTuple):
    name: str
    zombie: bool
    parent: int
    session: int
    started: int


def _stat(pid: int) -> _Stat | None:
    # Every look at the processes reads all of them, so this has the system calls that it needs and no Path.
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # the second when it goes meanwhile
        return None
    try:
        text = os.read(handle, _STAT_BYTES).decode(errors="replace")
    except ProcessLookupError:
        return None
    finally:
        os.close(handle)
    # The name is in parentheses and may itself hold spaces and parentheses.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return _Stat(
        name=head.partition("(")[2],
        zombie=fields[0] in "ZX",
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
    )


def _all() -> Iterator[tuple[int, _Stat]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            pid = int(entry)
            stat = _stat(pid)
            if stat is not None:
                yield pid, stat


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):  # it has ended
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                found.add(os.readlink(entry.path))
    return found


def network(pid: int) -> int | None:
    """The inode number of its network namespace; None when it is gone."""
    return _namespace(pid, "net")


def _namespace(pid: int, kind: str) -> int | None:
    """The inode number of its namespace of that kind, as in /proc/PID/ns; None when it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except OSError:
        return None
