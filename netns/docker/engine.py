"""The Docker Engine: containers with labels of ours, its events, and the containers of labs made in it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool
from urllib3.exceptions import HTTPError

from netns.docker.container import ONE_OFF, PROJECT, Container, Happening, happening, read
from netns.docker.labels import PREFIX
from netns.errors import LabError, MissingError, UnreachableError

WATCHED = (
    "start",
    "die",
    "pause",
    "unpause",
    "destroy",
    "health_status",
    "connect",
    "disconnect",
)
"""What is to be known of; a health check that is run, every few seconds and for each container, is not."""

LAB, NODE, ROLE = "l4lab.lab", "l4lab.node", "l4lab.role"
"""Labels of what `create_network` and `create` make: the lab, and a container's name and role in it."""

ROUTABLE = {
    "com.docker.network.bridge.enable_ip_masquerade": "false",
    "com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected",
}
"""A network whose packets an engine lets pass to others as they are; see docker-compose.yml."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to be made for a lab."""

    node: str
    role: str
    name: str
    """The engine's for it."""
    image: str
    command: Sequence[str]
    capabilities: Sequence[str]
    sysctls: Mapping[str, str]
    configuration: Path
    """The directory that is /etc/l4box in it."""
    addresses: Mapping[str, IPv4Address]
    """By network."""


class EngineError(UnreachableError):
    """The Docker Engine does not answer."""


class Engine:
    """The engine that DOCKER_HOST names, or the machine's own. EngineError when it does not answer."""

    def __init__(self) -> None:
        with _answering():
            self._client = docker.from_env()

    def close(self) -> None:
        self._client.close()

    def containers(self, project: str | None) -> list[Container]:
        """Those with labels of ours, of one compose project or of all, oldest first, whatever their state."""
        filters = {"label": f"{PROJECT}={project}"} if project is not None else {}

        def ours(labels: Mapping[str, str]) -> bool:
            return labels.get(ONE_OFF) != "True" and any(key.startswith(PREFIX) for key in labels)

        return self._inspected(filters, ours)

    def made(self, lab: str) -> list[Container]:
        """Those that were made for that lab, oldest first, whatever their state."""
        return self._inspected({"label": f"{LAB}={lab}"}, bool)

    def _inspected(
        self, filters: Mapping[str, str], wanted: Callable[[Mapping[str, str]], bool]
    ) -> list[Container]:
        found = []
        with _answering():
            for row in self._client.api.containers(all=True, filters=dict(filters)):
                if not wanted(row["Labels"] or {}):
                    continue
                try:
                    found.append(read(self._client.api.inspect_container(row["Id"])))
                except NotFound:
                    continue  # removed meanwhile
        return sorted(found, key=lambda one: one.created)

    @property
    def version(self) -> str:
        with _answering():
            return str(self._client.version()["Version"])

    def execute(self, container: Container, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of `argv` in the container, as `docker exec` runs it."""
        with _answering():
            code, output = self._client.containers.get(container.id).exec_run(list(argv))
        return code, output.decode(errors="replace")

    def launch(self, container: Container, argv: Sequence[str]) -> int:
        """Start `argv` in the container, as `docker exec --detach` does; its pid, 0 when it has ended."""
        with _answering():
            number = self._client.api.exec_create(container.id, list(argv))["Id"]
            self._client.api.exec_start(number, detach=True)
            return int(self._client.api.exec_inspect(number)["Pid"])

    def log(self, container: Container, lines: int) -> str:
        """The end of what the container's program has said."""
        with _answering():
            return str(self._client.api.logs(container.id, tail=lines).decode(errors="replace"))

    def kill(self, container: Container, number: signal.Signals) -> None:
        """Send a signal to the container's first process; SIGKILL ends all of it."""
        with _answering():
            self._client.api.kill(container.id, number.value)

    def start(self, container: Container) -> None:
        with _answering():
            self._client.api.start(container.id)

    # Labs in containers

    def create_network(self, lab: str, name: str, subnet: IPv4Network) -> None:
        """A network of its own for a lab, with the subnet's last address for the engine."""
        pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[-2]))
        with _answering():
            self._client.api.create_network(
                name,
                driver="bridge",
                ipam=IPAMConfig(pool_configs=[pool]),
                options=ROUTABLE,
                labels={LAB: lab},
                check_duplicate=True,
            )

    def create(self, lab: str, wanted: ContainerSpec) -> None:
        """Make a container for a lab, and start it; MissingError when there is no such image."""
        api = self._client.api
        first, *others = wanted.addresses
        try:
            with _answering():
                made: dict[str, Any] = api.create_container(
                    wanted.image,
                    command=list(wanted.command),
                    name=wanted.name,
                    hostname=wanted.node,
                    labels={LAB: lab, NODE: wanted.node, ROLE: wanted.role},
                    host_config=api.create_host_config(
                        init=True,
                        cap_drop=["ALL"],
                        cap_add=list(wanted.capabilities),
                        sysctls=dict(wanted.sysctls),
                        binds={str(wanted.configuration): {"bind": "/etc/l4box", "mode": "ro"}},
                        network_mode=first,
                    ),
                    networking_config=api.create_networking_config(
                        {first: api.create_endpoint_config(ipv4_address=str(wanted.addresses[first]))}
                    ),
                )
                for network in others:
                    api.connect_container_to_network(
                        made["Id"], network, ipv4_address=str(wanted.addresses[network])
                    )
                api.start(made["Id"])
        except ImageNotFound as error:
            raise MissingError(
                f"the Docker Engine has no image {wanted.image!r}: `docker compose build` makes it"
            ) from error

    def remove_made(self, lab: str) -> None:
        """Remove all that was made for the lab: containers, then networks. What is gone is fine."""
        label = {"label": f"{LAB}={lab}"}
        api = self._client.api
        with _answering():
            for container in api.containers(all=True, filters=label):
                with suppress(NotFound):
                    api.remove_container(container["Id"], force=True, v=True)
            for network in api.networks(filters=label):
                with suppress(NotFound):
                    api.remove_network(network["Id"])

    @contextmanager
    def events(self) -> Iterator[SimpleQueue[Happening | None]]:
        """A queue of what happens from now on; the last is None, when the engine has ended."""
        filters = {"type": ["container", "network"], "event": list(WATCHED)}
        with _answering():
            # From this second on, as the engine begins to listen only after it has answered.
            stream = self._client.events(since=int(time.time()), decode=True, filters=filters)
        happened: SimpleQueue[Happening | None] = SimpleQueue()

        def listen() -> None:
            try:
                with suppress(DockerException, requests.RequestException, HTTPError, OSError, ValueError):
                    for event in stream:
                        happened.put(happening(event))
            finally:
                happened.put(None)  # however it has ended: in the middle of an event, too

        reader = threading.Thread(target=listen, daemon=True, name="engine-events")
        reader.start()
        try:
            yield happened
        finally:
            stream.close()
            reader.join()


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except ImageNotFound:
        raise
    except APIError as error:
        raise LabError(f"the Docker Engine refuses: {error.explanation or error}") from error
    except (DockerException, requests.RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "this machine")
        raise EngineError(f"no Docker Engine answers ({where}): {error}") from error
