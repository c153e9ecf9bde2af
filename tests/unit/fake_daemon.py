"""A real Box behind the API, and all around it faked: the clock stands still unless a test moves it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn

from lb.api.app import create_app
from lb.api.errors import ApiError
from lb.api.views import describe_event
from lb.config import BoxConfig, parse
from lb.core.box import Box
from lb.core.health import Outcome, ProbeResult
from lb.core.packet import ACK, FIN, RST, SYN, TCP, join
from lb.core.reset import segment
from lb.core.service import ServerSettings, ServiceSettings
from lb.core.services import Probe
from lb.core.session import SessionState
from lb.event_log import EventLog
from lb.lag import Heartbeat
from lb.metrics import QueueStatistics

Result = TypeVar("Result")

EPOCH = 1_700_000_000.0  # 2023-11-14T22:13:20Z, the wall clock at box time 0
CLIENT = "198.51.100.7"
VIP = "192.0.2.10"
FLAGS = {"S": SYN, "A": ACK, "F": FIN, "R": RST}
WEB = {
    "name": "web",
    "address": VIP,
    "port": 80,
    "dscp": 10,
    "real_server": [{"name": "rs1", "address": "10.0.0.1"}, {"name": "rs2", "address": "10.0.0.2"}],
}
OK = ProbeResult(Outcome.SUCCESS, "200", 200)
MISSING = ProbeResult(Outcome.BAD_STATUS, "404", 404)


def packed(address: str) -> bytes:
    return ip_address(address).packed


def web(name: str = "web", *, vip: str = VIP, port: int = 80, **rest: Any) -> ServiceSettings:
    """A virtual server of rs1 and rs2."""
    return ServiceSettings(
        name=name,
        vip=packed(vip),
        port=port,
        dscp=rest.pop("dscp", 10),
        servers=rest.pop("servers", servers(vip)),
        **rest,
    )


def servers(vip: str) -> tuple[ServerSettings, ...]:
    network = "fd00::" if ":" in vip else "10.0.0."
    return tuple(ServerSettings(f"rs{n}", packed(f"{network}{n}")) for n in (1, 2))


class FakeDaemon:
    """Its servers are up: each has passed its first check."""

    def __init__(self, *services: ServiceSettings, keep: int = 1000, session_limit: int = 100_000) -> None:
        self.time = 100.0
        self.name = "l4box"
        self.speed = 1.0
        self.statistics = QueueStatistics()
        self.checks_not_made: Counter[str] = Counter()
        self.event_log = EventLog(keep)
        self.heartbeat = Heartbeat()
        self.box = Box(session_limit=session_limit)
        self.packets: list[bytes] = []
        self.probes: dict[str, Probe] = {}
        """The newest check of each server, by "virtual/real"."""
        self.settled = 0
        self.configuration = parse(BoxConfig, {"virtual_server": [WEB]}, "test")
        self.box.configure(self.time, services or (web(),))
        self.wait(0)
        for server in list(self.probes):
            self.probe(server, OK)

    # What the API asks for

    def now(self) -> float:
        return self.time

    def wall(self, box_time: float) -> float:
        return EPOCH + box_time / self.speed

    def settle(self) -> None:
        self.settled += 1
        self.packets += self.box.take_packets()
        for event in self.box.take_events():
            self.event_log.append(describe_event(event, self.wall))
        for probe in self.box.take_probes(self.time):
            server = self.box.services.servers[probe.server]
            self.probes[f"{server.service.name}/{server.name}"] = probe

    def queue(self) -> QueueStatistics:
        return self.statistics

    async def reconfigure(self, wanted: BoxConfig) -> None:
        if wanted.speed != self.speed:
            raise ApiError(422, "restart_needed", "speed: these change with a restart only")
        self.configuration = wanted

    # What a test does

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.box.handle_timer(self.time)
        self.settle()

    def probe(self, server: str, *results: ProbeResult) -> None:
        """Health checks of "virtual/real" end, one after the other."""
        for result in results:
            self.box.handle_probe(self.time, self.probes[server], result)
        self.settle()

    def fail(self, server: str) -> None:
        """ACTIVE to FAILED: a miss, and a second one without a retry left."""
        self.probe(server, MISSING, MISSING)

    def send(
        self,
        flags: str,
        *,
        client: str = CLIENT,
        port: int = 40000,
        vip: str = VIP,
        vip_port: int = 80,
        seq: int = 1000,
        ack: int = 0,
    ) -> str:
        """A segment without data from a client; the server that gets it, or "dropped"."""
        packet = segment(
            packed(client),
            port,
            packed(vip),
            vip_port,
            seq=seq,
            ack=ack,
            flags=sum(FLAGS[flag] for flag in flags),
        )
        verdict = self.box.handle_packet(self.time, packet)
        self.settle()
        return self.box.services.servers[verdict].name if verdict else "dropped"

    def open(self, *ports: int, **to: Any) -> list[str]:
        """Establish a connection from each port; who got them."""
        found = []
        for port in ports:
            found.append(self.send("S", port=port, **to))
            self.send("A", port=port, seq=1001, ack=5001, **to)
        return found

    def fill(self, number: int, *, first_client: str = "10.1.0.1", server: int = 1) -> None:
        """Put sessions straight into the table, each of a client address of its own."""
        start = int(ip_address(first_client))
        for address in range(start, start + number):
            key = join(address.to_bytes(4, "big"), 40000, packed(VIP), 80)
            self.box.table.insert(self.time, TCP, key, server, SessionState.ESTABLISHED, 1, 1)
        self.box.services.servers[server].sessions += number


@asynccontextmanager
async def in_process(host: FakeDaemon) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the host's API on the same loop."""
    transport = httpx.ASGITransport(app=create_app(host), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://box") as http:
        yield http


def call(host: FakeDaemon, method: str, path: str, **parameters: Any) -> httpx.Response:
    """One request."""

    async def run() -> httpx.Response:
        async with in_process(host) as http:
            return await http.request(method, path, params=parameters)

    return asyncio.run(run())


def put(host: FakeDaemon, path: str, document: Any) -> httpx.Response:
    """A PUT of a JSON document."""

    async def run() -> httpx.Response:
        async with in_process(host) as http:
            return await http.put(path, json=document)

    return asyncio.run(run())


def get(host: FakeDaemon, path: str, **parameters: Any) -> Any:
    """The JSON of a GET that succeeds."""
    response = call(host, "GET", path, **parameters)
    assert response.status_code == 200, response.text
    return response.json()


class Served:
    """A host whose API is served on a Unix socket, by a loop of its own in another thread."""

    def __init__(self, host: FakeDaemon, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.path = path
        self._loop = loop

    def do(self, action: Callable[[], Result]) -> Result:
        """Run `action` on the host's loop, as everything that touches the box must be."""

        async def run() -> Result:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)


@contextmanager
def serve(host: FakeDaemon, path: Path) -> Iterator[Served]:
    """Serve the host's API on `path`, as the daemon does."""
    config = uvicorn.Config(
        create_app(host), http="h11", ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    loop = asyncio.new_event_loop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen()

        def run() -> None:
            loop.run_until_complete(server.serve(sockets=[listener]))
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        served = Served(host, path, loop)
        try:
            yield served
        finally:
            served.do(host.event_log.close)
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
            path.unlink(missing_ok=True)
