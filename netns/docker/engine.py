"""The Docker Engine: its containers with labels of ours, and its events."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import docker
import requests
from docker.errors import DockerException, NotFound

from netns.docker import container
from netns.docker.container import Container, Happening
from netns.docker.labels import PREFIX
from netns.errors import UnreachableError

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


class Engine:
    """The engine that DOCKER_HOST names, or the machine's own. Every method raises UnreachableError."""

    def __init__(self) -> None:
        with _answering():
            self._client = docker.from_env()

    def close(self) -> None:
        self._client.close()

    def containers(self, project: str | None) -> list[Container]:
        """Those with labels of ours, of one compose project or of all, oldest first, whatever their state."""
        filters = {"label": f"{container.PROJECT}={project}"} if project is not None else {}
        found = []
        with _answering():
            for row in self._client.api.containers(all=True, filters=filters):
                labels = row["Labels"] or {}
                if labels.get(container.ONE_OFF) == "True" or not any(
                    key.startswith(PREFIX) for key in labels
                ):
                    continue
                try:
                    found.append(container.read(self._client.api.inspect_container(row["Id"])))
                except NotFound:
                    continue  # removed meanwhile
        return sorted(found, key=lambda one: one.created)

    @contextmanager
    def events(self) -> Iterator[SimpleQueue[Happening | None]]:
        """A queue of what happens from now on; the last is None, when the engine has ended."""
        filters = {"type": ["container", "network"], "event": list(WATCHED)}
        with _answering():
            # From this second on, as the engine begins to listen only after it has answered.
            stream = self._client.events(since=int(time.time()), decode=True, filters=filters)
        happened: SimpleQueue[Happening | None] = SimpleQueue()

        def read() -> None:
            for event in stream:
                happened.put(container.happening(event))
            happened.put(None)

        reader = threading.Thread(target=read, daemon=True, name="engine-events")
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
    except (DockerException, requests.RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "this machine")
        raise UnreachableError(f"no Docker Engine answers ({where}): {error}") from error
