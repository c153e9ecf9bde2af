"""What `l4lab docker attach` has changed, on disk before each step: `detach` takes back that and no more.

/run/l4lab-docker/NAME.json; NAME is the compose project's, or "all".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from netns.docker import change
from netns.docker.change import Change
from netns.docker.configuration import Ours
from netns.docker.sandbox import Sandbox
from netns.errors import LabError
from netns.lab import state

RUN = Path("/run/l4lab-docker")
ALL = "all"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""A compose project's name: it is part of a path that gets removed."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A container whose network was changed."""

    name: str
    sandbox: Sandbox
    asked: tuple[Change, ...] = ()
    """What its network was to have, the last time that all of it was seen to."""
    attached_to: tuple[str, ...] = ()
    """Its ends of networks at that time: connected anew, it has lost routes."""
    changes: tuple[Change, ...] = ()
    """What of it was not there before, in the order it was made in."""


@dataclass(frozen=True, slots=True)
class Attached:
    """All that was changed for one project, or for all containers."""

    name: str
    box: Sandbox | None = None
    ours: Ours = field(default_factory=Ours)
    """What of the box's configuration was put there."""
    addresses: dict[str, IPv4Address] = field(default_factory=dict)
    """The last address of each server, by name."""
    containers: dict[str, Changed] = field(default_factory=dict)
    """By id."""


class AttachLedger:
    """What is attached; every note is on disk before the call returns."""

    def __init__(self, attached: Attached) -> None:
        self.attached = attached

    def note(self, **fields: Any) -> None:
        """Change fields of what is attached."""
        self.attached = replace(self.attached, **fields)
        _write(self.attached)

    def container(self, container_id: str, changed: Changed | None) -> None:
        """Note a container; None: nothing of it is changed any more."""
        others = {key: value for key, value in self.attached.containers.items() if key != container_id}
        self.note(containers=others if changed is None else {**others, container_id: changed})


def read(name: str) -> Attached | None:
    """What is attached under that name, None when nothing is; LabError when another version wrote it."""
    try:
        found = json.loads(_path(name).read_text())
    except FileNotFoundError:
        return None
    try:
        return Attached(
            name=found["name"],
            box=Sandbox(**found["box"]) if found["box"] else None,
            ours=Ours(
                tuple(found["ours"]["virtual_servers"]),
                tuple((service, server) for service, server in found["ours"]["real_servers"]),
            ),
            addresses={name: IPv4Address(address) for name, address in found["addresses"].items()},
            containers={key: _changed(value) for key, value in found["containers"].items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(f"{_path(name)} was not written by this version of l4lab: {error}") from error


def names() -> list[str]:
    """What is attached now."""
    return sorted(path.stem for path in RUN.glob("*.json"))


def taken_back_by(name: str) -> str:
    """The command that takes back what is attached under that name."""
    return "`l4lab docker detach`" if name == ALL else f"`l4lab docker detach --project {name}`"


def forget(name: str) -> None:
    """Remove the file; the lock must be held."""
    for path in (_path(name), _fresh(name)):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        RUN.rmdir()


@contextmanager
def lock() -> Iterator[None]:
    """Be the only one who attaches or detaches anything."""
    with state.lock("docker-attach"):
        yield


def _write(attached: Attached) -> None:
    document = asdict(attached)
    document["addresses"] = {name: str(address) for name, address in attached.addresses.items()}
    for key, changed in attached.containers.items():
        document["containers"][key] |= {
            "asked": [change.document(one) for one in changed.asked],
            "changes": [change.document(one) for one in changed.changes],
        }
    RUN.mkdir(mode=0o755, exist_ok=True)
    _fresh(attached.name).write_text(json.dumps(document, indent=1))
    _fresh(attached.name).replace(_path(attached.name))


def _changed(document: dict[str, Any]) -> Changed:
    return Changed(
        name=document["name"],
        sandbox=Sandbox(**document["sandbox"]),
        asked=tuple(map(change.parse, document["asked"])),
        attached_to=tuple(document["attached_to"]),
        changes=tuple(map(change.parse, document["changes"])),
    )


def _path(name: str) -> Path:
    if _NAME.fullmatch(name) is None:
        raise LabError(
            f"{name!r} is no compose project's name: lower-case letters, digits, - and _ are allowed"
        )
    return RUN / f"{name}.json"


def _fresh(name: str) -> Path:
    return RUN / f"{name}.json.new"
