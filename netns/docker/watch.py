"""`l4lab docker attach --watch`: attach again whenever something happens to a container.

Events of the engine only say when to look again: what is done follows from what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from netns.docker import ledger
from netns.docker.attach import Say, follow
from netns.docker.container import Happening
from netns.docker.engine import Engine, EngineError
from netns.docker.ledger import ALL
from netns.docker.plan import NoBox
from netns.errors import LabError

LOOK_S = 5.0
"""How often a watch looks unasked: Docker can't tell that the box has read its file again."""
POLL_S = 0.25


def watch(engine: Engine, project: str | None, *, say: Say, over: Callable[[], bool] = lambda: False) -> None:
    """Attach what can be, and do so again whenever something happens to a container, until KeyboardInterrupt,
    `detach`, or `over`.

    A container that can't be what its labels say is named and left out. LabError when at the beginning there
    is no box, or no engine; when they go later, they are waited for.
    """
    watching = _Watch(engine, project, say)

    def done() -> bool:
        return over() or watching.is_detached

    while not done():
        try:
            with engine.events() as happened:  # before the look: what happens during it is not missed
                watching.begin()
                while not done():
                    events = _next(happened, done)
                    if not done():
                        watching.hear(events)
                        watching.look()
        except EngineError:
            if not watching.has_begun:
                raise
            watching.tell(("the Docker Engine has ended: waiting for it",))
            time.sleep(POLL_S)
    if watching.is_detached:
        say("detached: there is nothing to watch any more")


class _Watch:
    """What a watch does, knows and has said."""

    def __init__(self, engine: Engine, project: str | None, say: Say) -> None:
        self._engine = engine
        self._project = project
        self._name = project or ALL
        self._say = say
        self._names: dict[str, str] = {}
        """Of containers by id, those that are gone among them."""
        self._told: tuple[str, ...] = ()
        self.has_begun = False

    @property
    def is_detached(self) -> bool:
        """`detach` has taken back what this watch has attached."""
        return self.has_begun and ledger.read(self._name) is None

    def begin(self) -> None:
        """The first look at an engine; LabError when there is nothing to attach to, and never was."""
        if self.has_begun:
            self._say("the Docker Engine answers")
            self.look()
            return
        with ledger.lock():
            self.tell(follow(self._engine, self._project, say=self._say).problems)
        self.has_begun = True

    def hear(self, events: Sequence[Happening | None]) -> None:
        """Say what has happened; EngineError when it is that the engine has ended."""
        if None in events:
            raise EngineError("the Docker Engine has ended")
        self._names.update((one.id, one.name) for one in self._engine.containers(self._project))
        for event in events:
            if event is not None and event.container in self._names:
                self._say(_told(event, self._names[event.container]))

    def look(self) -> None:
        """Attach what can be now, unless `detach` has ended this."""
        with ledger.lock():
            if self.is_detached:
                return
            try:
                problems = follow(self._engine, self._project, say=self._say).problems
            except EngineError:
                raise
            except NoBox as error:
                problems = (f"{error}. Waiting for it: {ledger.taken_back_by(self._name)} ends the watch",)
            except LabError as error:
                problems = (str(error),)
        self.tell(problems)

    def tell(self, problems: tuple[str, ...]) -> None:
        """Say those that are new."""
        for problem in problems:
            if problem not in self._told:
                self._say(f"problem: {problem}")
        self._told = problems


def _next(happened: SimpleQueue[Happening | None], over: Callable[[], bool]) -> list[Happening | None]:
    """What has happened, once something has; nothing when it is time to look anyway, or over."""
    deadline = time.monotonic() + LOOK_S
    events: list[Happening | None] = []
    while not events and time.monotonic() < deadline and not over():
        with suppress(Empty):
            events.append(happened.get(timeout=POLL_S))
    while not happened.empty():
        events.append(happened.get())
    return events


def _told(event: Happening, name: str) -> str:
    """An event in words."""
    match event.action:
        case "die":
            return f"{name} has ended (exit {event.detail})"
        case "connect":
            return f"{name} is connected to {event.detail}"
        case "disconnect":
            return f"{name} is disconnected from {event.detail}"
        case "health_status: unhealthy":
            return f"{name} is unhealthy to Docker; the box goes by its own checks"
        case action:
            return f"{name}: {action}"
