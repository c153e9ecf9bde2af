"""The containers with labels of ours as they are, and as the box sees them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lb.client import BoxError
from lb.config import BoxConfig, parse
from netns.docker import ledger, sandbox
from netns.docker.attach import answering
from netns.docker.configuration import Ours
from netns.docker.engine import Engine
from netns.docker.ledger import ALL, Attached
from netns.docker.plan import find_box, plan
from netns.errors import LabError


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A container that is a real server."""

    name: str
    """As the box knows it."""
    container: str
    status: str
    """running, paused, exited, …"""
    health: str | None
    """By its own health check, which is nothing to the box; None when it has none."""
    vip: str
    port: int
    address: str
    attached: bool
    """Its network has been seen to."""
    changes: tuple[str, ...]
    """What was changed in it; none when it had all by itself."""
    box: dict[str, Any] | None
    """Its row of the box's /v1/servers; None when the box doesn't have it."""


@dataclass(frozen=True, slots=True)
class Status:
    name: str
    """The project, or "all"."""
    attached: bool
    box: str
    """The box's container."""
    servers: tuple[ServerStatus, ...]
    problems: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The status as JSON."""
        return asdict(self)


def look(engine: Engine, project: str | None) -> Status:
    """How the containers of the project are, or all; LabError when no box is among them or it doesn't run."""
    name = project or ALL
    found = ledger.read(name)
    attached = found or Attached(name)
    containers = engine.containers(project)
    box = find_box(containers, project)
    if not box.pid:
        raise LabError(f"the box ({box.name}) does not run")
    here = sandbox.of(box)
    try:
        with answering(here) as api:
            configuration = parse(BoxConfig, api.configuration(), box.name)
            rows = api.servers()
    except BoxError as error:
        raise LabError(str(error)) from error
    seen = plan(
        containers,
        configuration,
        attached.ours if attached.box == here else Ours(),
        attached.addresses,
        box,
    )
    return Status(
        name=name,
        attached=found is not None,
        box=box.name,
        servers=tuple(
            ServerStatus(
                name=one.name,
                container=one.container.name,
                status=one.container.status,
                health=one.container.health,
                vip=str(one.vip),
                port=one.labels.port,
                address=str(one.address),
                attached=one.container.id in attached.containers,
                changes=tuple(
                    map(str, attached.containers[one.container.id].changes)
                    if one.container.id in attached.containers
                    else ()
                ),
                box=next(
                    (row for row in rows if (row["name"], row["address"]) == (one.name, str(one.address))),
                    None,
                ),
            )
            for one in seen.servers
        ),
        problems=seen.problems,
    )
