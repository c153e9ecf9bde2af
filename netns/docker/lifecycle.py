"""Labs in containers: one made for a configuration, or a user's compose project while it is rehearsed."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lb.config import parse
from netns.docker import attach, ledger, watch
from netns.docker.container import PROJECT
from netns.docker.engine import ContainerSpec, Engine
from netns.docker.lab import ContainerLab
from netns.docker.nodes import Nodes
from netns.docker.plan import find_box
from netns.errors import LabError
from netns.lab import box, processes, state
from netns.lab.interface import Say
from netns.lab.state import Ledger, State
from netns.linux.interfaces import turn_off_offload
from netns.plan import topology
from netns.plan.config import LabConfig
from netns.plan.project import ProjectConfig
from netns.plan.topology import Node, Plan, Role

IMAGE = "l4box"
"""As docker-compose.yml calls it, unless L4BOX_IMAGE says otherwise."""

ANY_WAY = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.all.rp_filter": "0",
}
LOOSE = {"net.ipv4.conf.all.rp_filter": "2"}
"""/proc/sys can't be written in a container; what is per interface the containers set by netlink."""


def up(config: LabConfig, *, say: Say) -> ContainerLab:
    """Make the lab, a container for each node, a network for each link; return it when servers are bound.

    LabError or MissingError when it can't be made; what was made by then is removed again. One whose
    servers do not get up stays, to be looked at. `labs.down` removes it, whoever was killed.
    """
    began = time.monotonic()
    _refuse(config)
    plan = topology.plan(config)
    engine = Engine()
    with ExitStack() as undo, state.lock(config.name):
        if state.read(config.name) is not None:
            raise LabError(f"there is a lab {config.name!r} already: `l4lab down --name {config.name}` first")
        document = config.model_dump(mode="json")
        book = Ledger(State(config.name, config=document, asked=document, on=state.CONTAINERS))
        undo.callback(remove, book)
        book.ready(False)
        configuration = book.state.directory / "configuration"
        configuration.mkdir(mode=0o755, parents=True)
        box.write_configuration(config.box_config(), configuration / "box.toml")
        say(f"making {len(plan.nodes)} containers {config.name}-…")
        for interface in plan.router.interfaces:
            engine.create_network(config.name, _network(config, interface.peer), interface.address.network)
        for node in plan.nodes:
            if node.role is not Role.BOX:
                engine.create(config.name, _wanted(config, plan, node, configuration))
        book.ready(True)
        undo.pop_all()
    nodes = Nodes(engine, config.name, made=True)
    lab = ContainerLab(nodes, config, configuration.parent, made=True)
    lab.wait_until_set_up()
    say("starting the web servers and the box")
    for node in lab.plan.servers:
        lab.start(node.name)
    engine.create(config.name, _wanted(config, plan, plan.box, configuration))  # its first checks find them
    lab = ContainerLab(nodes, config, configuration.parent, made=True)
    if not config.offload:
        for node in lab.plan.nodes:
            for interface in node.interfaces:
                lab.inside(node.name, partial(turn_off_offload, interface.name))
    lab.wait_until_bound(say)
    say(f"the lab {config.name!r} is up in containers ({time.monotonic() - began:.1f} s)")
    return lab


def remove(book: Ledger) -> None:
    """End what runs in the lab, and forget it. Of one that `up` made its containers and networks go, too."""
    book.ready(False)
    processes.end_all(book)
    made = book.state
    if made.on == state.CONTAINERS:
        engine = Engine()
        engine.remove_made(made.name)
        engine.close()
    state.forget_all(made)


@contextmanager
def opened(project: str | None, *, say: Say) -> Iterator[ContainerLab]:
    """A compose project that is up, as a lab. Its labelled containers are attached meanwhile, new ones too.

    `project` may be None where there is one box. What was put there is taken back at the end, unless it was
    attached before. LabError when the project is not whole.
    """
    engine = Engine()
    name = project or _only_project(engine)
    lab_name = f"project-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"[:32].rstrip("-")
    with ExitStack() as held:
        held.callback(engine.close)
        with state.lock(lab_name):
            if state.read(lab_name) is not None:
                raise LabError(
                    f"the project {name!r} is being rehearsed. If that was killed, "
                    f"`l4lab down --name {lab_name}` clears it, and {ledger.taken_back_by(name)} takes back "
                    f"what was attached"
                )
            book = Ledger(State(lab_name, config={}, asked={}, on=state.PROJECT))
            book.ready(True)
            book.state.directory.mkdir(mode=0o755, exist_ok=True)
        held.callback(_close, lab_name)
        held.enter_context(_attached(engine, name, say))
        nodes = Nodes(engine, name)
        lab = ContainerLab(nodes, _config(nodes, lab_name), book.state.directory, made=False)
        held.callback(lab.close)
        if not lab.plan.of(Role.CLIENT):
            raise LabError("no container has the label l4box.role=client: it is where the clients run")
        lab.wait_until_bound(say)
        for server, service in _called_otherwise(nodes, lab.config):
            say(
                f"{server} is of the service {service!r}: for compose, {{server}} names nothing; "
                f"a command finds the service in L4LAB_SERVICE and the container in L4LAB_CONTAINER"
            )
        yield lab


def _close(name: str) -> None:
    """The project is rehearsed no more."""
    with state.lock(name):
        made = state.read(name)
        if made is not None:
            remove(Ledger(made))


def _config(nodes: Nodes, name: str) -> LabConfig:
    """What the box of a project goes by, with the servers that are containers."""
    configuration = nodes.configuration()
    addresses: dict[object, str] = {
        end.address: called
        for called, one in nodes.containers().items()
        for end in one.endpoints.values()
        if end.address is not None
    }
    servers: dict[str, int] = {}
    services = []
    for service in configuration.virtual_server:
        members = [one for one in service.real_server if one.address in addresses]
        for one in members:
            if one.name != addresses[one.address]:
                raise LabError(
                    f"the box calls {one.address} {one.name!r}, and its service is "
                    f"{addresses[one.address]!r}: a server has one name"
                )
            servers[one.name] = one.weight
        if members:
            settings = service.model_dump(mode="json", exclude={"real_server"})
            services.append({**settings, "servers": [one.name for one in members]})
    if not services:
        raise LabError("no server of the box is a container with labels of ours")
    document: dict[str, Any] = {
        "name": name,
        "speed": configuration.speed,
        "server": [{"name": server, "weight": weight} for server, weight in servers.items()],
        "virtual_server": services,
        "box": configuration.model_dump(
            mode="json", include={"rewrite", "queue", "sessions", "events", "log"}
        ),
    }
    return parse(ProjectConfig, document, f"the box of {nodes.name}")


def _called_otherwise(nodes: Nodes, config: LabConfig) -> list[tuple[str, str]]:
    """Servers that have another name than their compose service, and the service: `--scale` makes a web-2."""
    there = nodes.containers()
    found = [(server.name, there[server.name].service) for server in config.server if server.name in there]
    return [(name, service) for name, service in found if service is not None and service != name]


@contextmanager
def _attached(engine: Engine, project: str, say: Say) -> Iterator[None]:
    """Attach the project, and follow what becomes of its containers."""
    everything = ledger.read(ledger.ALL) is not None
    name, scope = (ledger.ALL, None) if everything else (project, project)
    before = ledger.read(name) is not None
    attach.attach(engine, scope, say=say)
    over = threading.Event()

    def follow() -> None:
        try:
            watch.watch(engine, scope, say=say, over=over.is_set)
        except LabError as error:
            say(f"containers are not followed any more: {error}")

    watcher = threading.Thread(target=follow, name="attach")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if not before:
            attach.detach(name, say=say)


def _only_project(engine: Engine) -> str:
    found = find_box(engine.containers(None), None).labels.get(PROJECT)
    if found is None:
        raise LabError("the box is in no compose project: what is rehearsed is one")
    return found


def _refuse(config: LabConfig) -> None:
    """LabError for what containers can't be."""
    for server in config.server:
        if server.command is not None or server.web not in (None, "nginx"):
            raise LabError(f"server {server.name!r}: in a container the web server is nginx, for now")
    if config.delay_ms:
        raise LabError(f"delay_ms = {config.delay_ms:g}: containers' links have no delay, for now")
    if config.subnet.prefixlen > 16:
        raise LabError(f"subnet {config.subnet} is too small: in containers it is a /16 or larger")


def _network(config: LabConfig, peer: str) -> str:
    return f"{config.name}-{peer}"


def _wanted(config: LabConfig, plan: Plan, node: Node, configuration: Path) -> ContainerSpec:
    gateway = {interface.peer: str(interface.address.ip) for interface in plan.router.interfaces}
    match node.role:
        case Role.ROUTER:
            command, sysctls = ["router", "--box", str(plan.box.address)], ANY_WAY
        case Role.BOX:
            command, sysctls = ["box", "--via", gateway[node.name]], ANY_WAY
        case Role.SERVER:
            command, sysctls = ["server", "--via", gateway[node.name], "--only", "network"], LOOSE
        case Role.CLIENT:
            command, sysctls = ["client", "--via", gateway[node.name]], {}
    return ContainerSpec(
        node=node.name,
        role=node.role.value,
        name=f"{config.name}-{node.name}",
        image=os.environ.get("L4BOX_IMAGE", IMAGE),
        command=command,
        capabilities=["NET_ADMIN", "NET_RAW"] if node.role is Role.BOX else ["NET_ADMIN"],
        sysctls=sysctls,
        configuration=configuration,
        addresses={
            _network(config, interface.peer if node.role is Role.ROUTER else node.name): interface.address.ip
            for interface in node.interfaces
        },
    )
