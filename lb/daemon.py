"""The daemon: one process, one thread, one event loop around the Box.

Whatever happens (packets, the end of a check, a timer, an administrator's word) goes into the box; `settle`
then carries out what came of it. What is taken of the machine is taken in one place, `Daemon.run`, and given
back in the opposite order.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from lb import config as configuration
from lb import log, translation
from lb.api.app import create_app
from lb.api.errors import ApiError
from lb.api.views import describe_event
from lb.clock import Clock
from lb.config import BoxConfig, ConfigError
from lb.core.box import Box
from lb.core.events import ServerChanged
from lb.core.health import ProbeResult
from lb.core.rewrite import Rewriter
from lb.core.services import Probe
from lb.event_log import EventLog
from lb.exit_codes import BAD_CONFIG, FAILED, NOT_PERMITTED, OK
from lb.lag import Heartbeat
from lb.linux import datapath, lock, netfilter, preflight, probe
from lb.linux.inject import Injector
from lb.linux.queue import COPY_ALL, COPY_HEADERS, PacketQueue, QueueTaken
from lb.metrics import QueueStatistics
from lb.run_directory import RUN_DIRECTORY

_FIXED = ("name", "speed", "rewrite", "queue", "sessions", "events", "log")
"""Keys that a reload leaves as they were."""

_log = structlog.get_logger()


def run(path: Path) -> int:
    """Run the box of the configuration file `path` until SIGTERM or SIGINT; the exit code of `l4box run`."""
    try:
        config = configuration.load(path)
        log.set_up(config.log.level, config.log.format)
        families = {virtual.address.version for virtual in config.virtual_server} or {4}
        preflight.check(families)
        for warning in config.warnings() + preflight.warnings(families):
            _log.warning(warning)
        _raise_descriptor_limit()
        with lock.hold(config.name):
            asyncio.run(Daemon(path, config).run())
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_CONFIG
    except preflight.Missing as error:
        sys.stderr.write(f"{error}\n")
        return NOT_PERMITTED
    except (lock.AlreadyRunning, QueueTaken, netfilter.RulesError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    return OK


class Daemon:
    """A running box and everything it holds of the machine. It is the API's `DaemonInterface`."""

    def __init__(self, path: Path, config: BoxConfig) -> None:
        self._path = path
        self.configuration = config
        self._clock = Clock(config.speed)
        self._rewriters: dict[int, Rewriter] = {}
        self._probing: set[asyncio.Task[None]] = set()
        self._reading_on = probe.ReadingOn()
        self.checks_not_made: Counter[str] = Counter()
        self._shortage: str | None = None
        """Why the newest check was not made; None if it was."""
        self._changes: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._rules_are_new = True
        """Whether netfilter has the rules of the configuration; checks wait for them, and events."""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = float("inf")
        self._batches = 0
        self._injected = 0
        self.name = config.name
        self.speed = config.speed
        self.event_log = EventLog(config.events.keep)
        self.heartbeat = Heartbeat()
        self.box = Box(
            session_limit=config.sessions.limit,
            session_events=config.events.sessions,
            real_second=config.speed,
        )
        self.now = self._clock.now
        self.wall = self._clock.wall

    async def run(self) -> None:
        """Serve until a signal says to stop; leaves nothing of itself on the machine."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self.reload)
        with ExitStack() as held:
            self._injector = held.enter_context(Injector())
            kernel, queue = self.configuration.rewrite == "kernel", self.configuration.queue
            self._queue = PacketQueue(queue.number, queue.length, COPY_HEADERS if kernel else COPY_ALL)
            held.callback(self._queue.close)
            if kernel:
                self._drain = datapath.kernel(self.box, self.now, self._queue)
            else:
                self._drain = datapath.userspace(self.box, self.now, self._queue, self._rewriters)
            self._configure()
            self._rules = translation.ruleset(self.configuration, self.box.services)
            netfilter.install(self._rules)
            held.callback(netfilter.remove, self.name)
            self._loop.add_reader(self._queue.fileno(), self._on_packets)
            held.callback(self._loop.remove_reader, self._queue.fileno())
            api_socket = held.enter_context(_listen(RUN_DIRECTORY / f"{self.name}.sock"))
            # The session table's columns are few and long-lived: nothing for the collector to look at again.
            gc.freeze()
            self.heartbeat.start(self._loop)
            held.callback(self.heartbeat.stop)
            self.settle()
            await self._serve(api_socket)
            await self._changing.acquire()  # for good: the rules that are removed now must not come back
            for task in self._probing:
                task.cancel()
            if self._timer is not None:
                self._timer.cancel()
        _log.info("stopped", sessions=len(self.box.table))

    async def _serve(self, api_socket: socket.socket) -> None:
        app = create_app(self)
        server = _ApiServer(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[api_socket]))
        stopping = asyncio.create_task(self._stop.wait())
        _log.info("ready", name=self.name, speed=self.speed, api=api_socket.getsockname())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self.event_log.close()
        server.should_exit = True
        stopping.cancel()
        await serving

    # What goes in

    def _on_packets(self) -> None:
        self._batches += 1
        if self._drain():
            self.settle()

    def _on_timer(self) -> None:
        self._timer = None
        self._deadline = float("inf")
        try:
            self.box.handle_timer(self.now())
        finally:  # a defect of ours must not be the end of all checks and aging
            self.settle()

    def reload(self) -> None:
        """Take the configuration file as it is now. Sessions survive; a mistake in it changes nothing."""
        try:
            config = configuration.load(self._path)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("configuration not taken", file=str(self._path), problem=problem)
            return
        for key in self._fixed_keys(config):
            _log.warning("takes effect after a restart", key=key)
        self._start(self._reload(config))

    async def _reload(self, config: BoxConfig) -> None:
        try:
            await self._take(config)
        except netfilter.RulesError as error:
            _log.error("configuration not taken", file=str(self._path), problem=str(error))
        else:
            _log.info("reloaded", file=str(self._path))

    async def reconfigure(self, wanted: BoxConfig) -> None:
        """Take a configuration that came by the API; raises ApiError with nothing changed."""
        if fixed := self._fixed_keys(wanted):
            raise ApiError(422, "restart_needed", f"{', '.join(fixed)}: these change with a restart only")
        try:
            await asyncio.shield(self._start(self._take(wanted)))
        except netfilter.RulesError as error:
            raise ApiError(500, "rules_refused", str(error)) from error
        _log.info("reconfigured by the API")

    def _fixed_keys(self, config: BoxConfig) -> list[str]:
        """The keys of `config` that would only take effect after a restart."""
        return [key for key in _FIXED if getattr(config, key) != getattr(self.configuration, key)]

    async def _take(self, config: BoxConfig) -> None:
        """Go by `config`, but for the keys that stay; raises RulesError with nothing changed.

        Packets have their turn while the rules change. None goes to a server that the rules do not know yet:
        it is not bound before its first check, and checks wait for the rules.
        """
        async with self._changing:
            before = self.configuration
            self.configuration = config.model_copy(update={key: getattr(before, key) for key in _FIXED})
            self._configure()
            new = translation.ruleset(self.configuration, self.box.services)
            self._rules_are_new = False
            try:
                await asyncio.to_thread(netfilter.update, self._rules, new)
            except netfilter.RulesError:
                self.configuration = before
                self._configure()
                raise
            else:
                self._rules = new
            finally:
                self._rules_are_new = True
                self.settle()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that goes on when nobody waits for it."""
        task = self._loop.create_task(work)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return task

    # What comes out

    def settle(self) -> None:
        """Carry out what the box has produced, and wake up when it next has something to do."""
        box = self.box
        packets = box.take_packets()
        if packets:
            self._injected += self._injector.send_all(packets)
        if self._rules_are_new:
            self._publish()
        deadline = box.next_deadline()
        if deadline != self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            delay_s = max(self._clock.real(deadline - self.now()), 0)
            self._timer = self._loop.call_later(delay_s, self._on_timer) if deadline < float("inf") else None
            self._deadline = deadline

    def _publish(self) -> None:
        """Tell what has happened and start the checks that are due."""
        box = self.box
        for event in box.take_events():
            self.event_log.append(describe_event(event, self.wall))
            if isinstance(event, ServerChanged):
                _log.info(
                    "server",
                    virtual_server=event.virtual_server,
                    server=event.server,
                    old=event.old.value,
                    new=event.new.value,
                    bound=event.bound,
                    sessions=event.sessions,
                    reason=event.reason,
                )
        for check in box.take_probes(self.now()):
            self._reading_on.end(check.server)
            server = box.services.servers[check.server]
            request = translation.check_request(self.configuration, server, self._clock.real)
            task = self._loop.create_task(self._check(check, request))
            self._probing.add(task)
            task.add_done_callback(self._probing.discard)

    async def _check(self, check: Probe, request: probe.Request) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task

        def report(result: ProbeResult) -> None:
            self._reading_on.begin(check.server, task)
            self._note_shortage(None)
            self.box.handle_probe(self.now(), check, result)
            self.settle()

        try:
            await probe.check(request, report)
        except probe.NotMade as error:
            self.checks_not_made[str(error)] += 1
            self._note_shortage(str(error))

    def _note_shortage(self, error: str | None) -> None:
        """Log that checks are not made any more, or are made again; `error` is an errno(3) name."""
        if error == self._shortage:
            return
        self._shortage = error
        if error is None:
            _log.info("health checks are made again")
        else:
            _log.error("health checks are not made: the box is short of its own means", error=error)

    def queue(self) -> QueueStatistics:
        """What the kernel says of the queue, and what became of the packets injected."""
        kernel = self._queue.statistics()
        return QueueStatistics(
            waiting=kernel.waiting,
            dropped_full=kernel.dropped_full,
            dropped_user=kernel.dropped_unsent,
            received=kernel.received,
            batches=self._batches,
            injected=self._injected,
            injection_failures=self._injector.failed,
        )

    # From the configuration

    def _configure(self) -> None:
        virtual_servers = self.configuration.virtual_server
        self.box.configure(self.now(), [translation.service_settings(virtual) for virtual in virtual_servers])
        self._rewriters.clear()
        for server in self.box.services.servers.values():
            settings = server.service.settings
            self._rewriters[server.id] = Rewriter(settings.vip, server.settings.address, settings.dscp)


def _raise_descriptor_limit() -> None:
    """Take all the descriptors that this process may have: each check and API client needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _ApiServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The daemon handles signals itself."""
        yield


@contextmanager
def _listen(path: Path) -> Iterator[socket.socket]:
    """A Unix socket at `path` for root and its group, in place of one left behind. The caller holds the lock.

    uvicorn would make one that everybody may use.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        mask = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        try:
            listener.listen(128)
            yield listener
        finally:
            path.unlink(missing_ok=True)
