"""Compose projects on a Docker Engine. scripts/docker-test has built the images and chosen the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from netns.docker.attach import detach
from netns.docker.engine import Engine
from netns.docker.nodes import Nodes
from netns.lab.capture import Capture, Point
from netns.linux.process import Process
from netns.plan.topology import Interface, Node
from tests.integration.keepalive import KeepAlive

VIP = "192.0.2.10"
URL = f"http://{VIP}/"
TOP = Path(__file__).parents[2]
OWN = TOP / "docker-compose.yml"
STOCK = Path(__file__).parent / "stock" / "docker-compose.yml"
IMAGE = os.environ.get("L4BOX_IMAGE", "l4box-test")
STOCK_IMAGE = os.environ.get("STOCK_IMAGE", "l4box-test-stock")
OWN_SERVERS = {"web1": "10.81.3.11", "web2": "10.81.3.12", "web3": "10.81.3.13"}
MARK = "----"
CURL = ["curl", "--silent", "--show-error", "--max-time", "3"]


def compose_command() -> list[str]:
    """Compose as it is installed: the engine's plugin, or version 1."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


class Compose:
    """A compose project: brought up, asked, and taken down with all that it made."""

    def __init__(self, name: str, files: list[Path], directory: Path, engine: Engine, **box: Any) -> None:
        """`box` are keys of the box's configuration."""
        self.name = name
        self.project = Nodes(engine, name)
        self.directory = directory
        self._files = files
        config = directory / "config"
        config.mkdir()
        (config / "box.toml").write_text(tomli_w.dumps(box))
        config.chmod(0o755)  # the box's user is another one
        self.environment = {
            **os.environ,
            "L4BOX_IMAGE": IMAGE,
            "STOCK_IMAGE": STOCK_IMAGE,
            "L4BOX_CONFIG": str(config),
        }

    def __call__(self, *arguments: str) -> str:
        """What a compose command prints; its errors in the exception."""
        files = [word for file in self._files for word in ("--file", str(file))]
        # Not where COMPOSE_FILE or .env might be.
        command = [*compose_command(), "--project-name", self.name, *files, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=TOP)
        assert done.returncode == 0, f"compose {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def add(self, file: Path) -> None:
        """From now on the project has this file's services too."""
        self._files.append(file)

    def id(self, node: str) -> str:
        return self.project.container(node).id


def docker(*arguments: str) -> str:
    """What a docker command prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def l4lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """An `l4lab docker` command, as a user runs it."""
    argv = [sys.executable, "-m", "netns.cli", "docker", *arguments]
    # Without the COLUMNS that readline, which pytest imports, puts into what a child inherits.
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=dict(os.environ))


def get(project: Nodes) -> str:
    """Which server a new connection of the client's gets its page from, "" when it gets none."""
    return project.run("client", [*CURL, URL]).stdout.strip()


def row(project: Nodes, server: str) -> dict[str, Any]:
    """What the box says of a server."""
    with project.box as api:
        return next(one for one in api.servers() if one["name"] == server)


def servers(project: Nodes) -> dict[str, str]:
    """The states of the box's servers by name."""
    with project.box as api:
        return {one["name"]: one["state"] for one in api.servers()}


def has_session(project: Nodes, server: str, client: KeepAlive) -> bool:
    """Whether the box has one of the server for the client's connection.

    It may have others, of requests before: an entry outlives its client's FIN by 4 s of real time (SPEC §3).
    """
    with project.box as api:
        return any(one["client"].endswith(f":{client.port}") for one in api.sessions(server=server))


def wait_until_bound(project: Nodes, names: Iterable[str]) -> None:
    """Return when the box has these servers, no others, and they are ACTIVE."""
    wanted = dict.fromkeys(names, "ACTIVE")
    eventually(lambda: servers(project) == wanted, f"{', '.join(wanted)} ACTIVE", 60)


def capture(project: Nodes, where: list[str], path: Path, expression: str) -> Capture:
    """A capture at containers that have one network, as they are now."""
    points = []
    for name in where:
        interface = Interface("eth0", IPv4Interface("0.0.0.0/0"), peer="")
        node = Node(name, project.sandbox(name).path, project.role(name), (interface,), routes=())
        points.append(Point(node, interface.name))
    kept: dict[str, Process] = {}
    return Capture(
        points,
        path,
        directory=path.parent,
        keep=kept.__setitem__,
        drop=kept.__delitem__,
        expression=expression,
    )


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return value


def network_state(project: Nodes, node: str) -> dict[str, str]:
    """All of a container's network that could have been changed, as the kernel tells it.

    The box counts packets and replaces its own rules: of it the rules' text, without counters and handles.
    """
    commands = {
        "addresses": "ip -j addr",
        "main routes": "ip -j route",
        "all routes": "ip -j route show table all",
        "rules": "ip -j rule",
        "ruleset": f"nft {'--stateless' if node == 'box' else '--json'} list ruleset",
        "sysctls": "sysctl net.ipv4",
    }
    script = f" && echo {MARK} && ".join(commands.values())
    shown = project.run(node, ["sh", "-c", script], check=True).stdout.split(f"{MARK}\n")
    return dict(zip(commands, shown, strict=True))


def engine_state() -> dict[str, list[str]]:
    """Containers, networks, images and volumes of the engine."""
    return {
        "containers": sorted(docker("ps", "--all", "--quiet").split()),
        "networks": sorted(docker("network", "ls", "--quiet").split()),
        "images": sorted(docker("images", "--quiet", "--no-trunc").split()),
        "volumes": sorted(docker("volume", "ls", "--quiet").split()),
    }


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def box_settings(real_servers: dict[str, str], speed: float = 20.0) -> dict[str, Any]:
    """A box.toml. A check may take ten box seconds: on a busy machine a healthy server must not miss it."""
    service = {
        "name": "web",
        "address": VIP,
        "port": 80,
        "dscp": 10,
        "health_check": {"timeout_s": 10.0},
        "real_server": [{"name": name, "address": address} for name, address in real_servers.items()],
    }
    return {"speed": speed, "virtual_server": [service]}


MakeProject = Callable[..., Compose]


@pytest.fixture(scope="module")
def make_project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeProject]:
    """Brings a compose project up; it is down at the end of the module, and nothing is attached."""
    with ExitStack() as held:

        def make(
            name: str,
            file: Path = OWN,
            *more: Path,
            real_servers: dict[str, str] | None = None,
            speed: float = 20.0,
            box: dict[str, Any] | None = None,
        ) -> Compose:
            """Its box has the keys `box`, or the virtual server of the tests with these servers and speed."""
            directory = tmp_path_factory.mktemp(name)
            known = real_servers or {}
            settings = box_settings(known, speed) if box is None else box
            compose = Compose(name, [file, *more], directory, engine, **settings)
            held.callback(compose, "down", "--timeout", "5")
            held.callback(detach, name, say=print)
            held.callback(_show_log, compose)
            compose("up", "--detach", "--no-build")
            wait_until_bound(compose.project, known)
            return compose

        yield make


def _show_log(compose: Compose) -> None:
    sys.stderr.write(compose("logs", "--no-color", "box"))


def inspect(container: str) -> dict[str, Any]:
    """What `docker inspect` says."""
    found: dict[str, Any]
    (found,) = json.loads(docker("inspect", container))
    return found
