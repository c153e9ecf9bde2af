"""The Docker Engine: its containers with labels of ours, and its events."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from netns.docker.container import ONE_OFF, PROJECT, Container, Happening, happening, read
from netns.docker.labels import PREFIX
from netns.errors import LabError, UnreachableError

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
    """The engine that DOCKER_HOST names, or the machine's own. UnreachableError when it does not answer."""

    def __init__(self) -> None:
        with _answering():
            self._client = docker.from_env()

    def close(self) -> None:
        self._client.close()

    def containers(self, project: str | None) -> list[Container]:
        """Those with labels of ours, of one compose project or of all, oldest first, whatever their state."""
        filters = {"label": f"{PROJECT}={project}"} if project is not None else {}
        found = []
        with _answering():
            for row in self._client.api.containers(all=True, filters=filters):
                labels = row["Labels"] or {}
                ours = any(key.startswith(PREFIX) for key in labels)
                if not ours or labels.get(ONE_OFF) == "True":
                    continue
                try:
                    found.append(read(self._client.api.inspect_container(row["Id"])))
                except NotFound:
                    continue  # removed meanwhile
        return sorted(found, key=lambda one: one.created)

    def execute(self, container: Container, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of `argv` in the container, as `docker exec` runs it."""
        with _answering():
            code, output = self._client.containers.get(container.id).exec_run(list(argv))
        return code, output.decode(errors="replace")

    def kill(self, container: Container, number: signal.Signals) -> None:
        """Send a signal to the container's first process; SIGKILL ends all of it."""
        with _answering():
            self._client.api.kill(container.id, number.value)

    def start(self, container: Container) -> None:
        with _answering():
            self._client.api.start(container.id)

    @contextmanager
    def events(self) -> Iterator[SimpleQueue[Happening | None]]:
        """A queue of what happens from now on; the last is None, when the engine has ended."""
        filters = {"type": ["container", "network"], "event": list(WATCHED)}
        with _answering():
            # From this second on, as the engine begins to listen only after it has answered.
            stream = self._client.events(since=int(time.time()), decode=True, filters=filters)
        happened: SimpleQueue[Happening | None] = SimpleQueue()

        def listen() -> None:
            for event in stream:
                happened.put(happening(event))
            happened.put(None)

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
    except APIError as error:
        raise LabError(f"the Docker Engine refuses: {error.explanation or error}") from error
    except (DockerException, requests.RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "this machine")
        raise UnreachableError(f"no Docker Engine answers ({where}): {error}") from error
