"""Containers as the nodes of a lab: found by name at each use, as another may have taken a container's place.

A node is called as the box knows it: web1. Its network is the container's; programs that run there, and the
files they see, are this machine's, as in a namespace. `execute` is for what has to run in the container.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from lb.client import BoxClient
from lb.config import BoxConfig, parse
from netns.docker import labels, sandbox
from netns.docker.attach import answering
from netns.docker.container import Container
from netns.docker.engine import NODE, ROLE, Engine
from netns.docker.plan import find_box
from netns.docker.sandbox import Sandbox
from netns.errors import Gone, LabError
from netns.linux import namespace
from netns.plan.topology import Role

Result = TypeVar("Result")

DYING_S: Final = 0.5
"""Real seconds in which a container's process that cannot be entered any more is seen to be gone."""
POLL_S: Final = 0.02


class Nodes:
    """Of a compose project that has a box among its containers, or of a lab that was made in containers."""

    def __init__(self, engine: Engine, name: str, *, made: bool = False) -> None:
        """`name` is the project's or, `made`, the lab's."""
        self.name = name
        self.engine = engine
        self._made = made
        self._sandboxes: dict[str, Sandbox] = {}

    def containers(self) -> dict[str, Container]:
        """By node, as they are now; where one is taking another's place, the one that runs."""
        if self._made:
            return {one.labels[NODE]: one for one in self.engine.made(self.name)}
        found = sorted(self.engine.containers(self.name), key=lambda one: bool(one.pid))
        return {one.called: one for one in found}

    def container(self, node: str) -> Container:
        """The container of that node as it is now; LabError when there is none."""
        found = self.containers()
        if node not in found:
            raise LabError(f"no node {node!r}: {self.name!r} has {', '.join(found)}")
        return found[node]

    def sandbox(self, node: str) -> Sandbox:
        """Where the node's container runs; Gone when it doesn't."""
        known = self._sandboxes.get(node)
        if known is None or not known.there:
            known = self._sandboxes[node] = sandbox.of(self.container(node))
        return known

    def role(self, node: str) -> Role:
        """What the node is to the lab; LabError when there is none."""
        container = self.container(node)
        if self._made:
            return Role(container.labels[ROLE])
        found = labels.read(container.name, container.labels)
        return Role(found.role) if found is not None and found.role else Role.SERVER

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the node's network."""
        return namespace.command(self.sandbox(node).path, list(argv))

    def run(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run() on the node, with text captured unless `options` say otherwise."""
        settings: dict[str, Any] = {"capture_output": True, "text": True, "check": False, **options}
        command = self.command(node, argv)
        try:
            return subprocess.run(command, **settings)
        except subprocess.CalledProcessError as error:
            if self._ends(node):
                raise Gone(f"{node} has ended") from error
            raise

    def _ends(self, node: str) -> bool:
        """Whether its network is gone, or goes now: a process that is dying cannot be entered any more."""
        deadline = time.monotonic() + DYING_S
        while self._sandboxes[node].there:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """subprocess.Popen() on the node, with text unless `options` say otherwise."""
        return subprocess.Popen(self.command(node, argv), **{"text": True, **options})

    def execute(self, node: str, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of `argv` in the container, as `docker exec` runs it."""
        return self.engine.execute(self.container(node), argv)

    def inside(self, node: str, function: Callable[[], Result]) -> Result:
        """What `function` returns, or raises, when called in the node's network, in a thread of its own."""
        return self.sandbox(node).inside(function)

    @property
    def box(self) -> BoxClient:
        """A client of the box's API, for the caller to close."""
        return answering(self.sandbox(self.box_node))

    @property
    def box_node(self) -> str:
        """What the box's node is called."""
        return "box" if self._made else find_box(self.containers().values(), self.name).called

    def configuration(self) -> BoxConfig:
        """What the box goes by now."""
        with self.box as api:
            return parse(BoxConfig, api.configuration(), "the box")
