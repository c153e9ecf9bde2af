"""Makes real servers of labelled containers, from outside, and takes all of it back.

    attach(engine, "shop", say=print)   first their networks, then the box: none gets what it can't take
    detach("shop", say=print)           the other way round

Events of the engine only say when to look again: what is done follows from what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue

from pyroute2 import NetlinkError

from lb.client import BoxClient, BoxError
from lb.config import BoxConfig, parse
from netns.docker import ledger, sandbox
from netns.docker.change import Change, noted
from netns.docker.configuration import Ours, without
from netns.docker.container import Container, Happening
from netns.docker.engine import Engine
from netns.docker.ledger import ALL, Attached, Changed, Ledger
from netns.docker.plan import Plan, Work, find_box, plan
from netns.docker.sandbox import Sandbox
from netns.docker.servers import Problem
from netns.errors import Gone, LabError, UnreachableError

Say = Callable[[str], None]

BOX_S = 20.0
"""A box that does not answer so long after its container has started will not."""
LOOK_S = 5.0
"""How often a watch looks unasked: Docker can't tell that the box has read its file again."""
POLL_S = 0.25


def attach(engine: Engine, project: str | None, *, say: Say) -> Plan:
    """Make real servers of the labelled containers of the project, or of all, once.

    Problem, with nothing changed, when a label can't be followed. Done again, it does what is new.
    """
    with ledger.lock():
        try:
            return _attach(engine, project, say, strict=True)
        except BoxError as error:
            raise LabError(f"the box refused: {error}") from error


def watch(engine: Engine, project: str | None, *, say: Say, over: Callable[[], bool] = lambda: False) -> None:
    """Attach, and do so again whenever something happens to a container, until KeyboardInterrupt, `detach`,
    or `over`.

    A container that can't be what its labels say is told and left out. LabError when the engine ends.
    """
    name = project or ALL
    known: dict[str, str] = {}
    told: tuple[str, ...] = ()
    with engine.events() as happened:  # before the first look: what happens during it is not missed
        attach(engine, project, say=say)
        while True:
            events = _next(happened, lambda: over() or ledger.read(name) is None)
            if over():
                return
            if None in events:
                raise UnreachableError("the Docker Engine has ended")
            known.update((one.id, one.name) for one in engine.containers(project))
            for event in events:
                if event is not None and event.container in known:
                    _report(event, known[event.container], say)
            with ledger.lock():
                if ledger.read(name) is None:
                    say("detached: there is nothing to watch any more")
                    return
                try:
                    problems = _attach(engine, project, say, strict=False).problems
                except (BoxError, LabError) as error:
                    problems = (str(error),)
            for problem in problems:
                if problem not in told:
                    say(f"problem: {problem}")
            told = problems


def detach(name: str, *, say: Say) -> bool:
    """Take back all that is attached under that name; whether anything was.

    LabError when something could not be taken back; it stays on record, for another try.
    """
    with ledger.lock():
        attached = ledger.read(name)
        if attached is None:
            return False
        book = Ledger(attached)
        failures = [*_take_out_of_box(book), *_restore_all(book, say)]
        if failures:
            raise LabError("not taken back, try again: " + "; ".join(failures))
        ledger.forget(name)
    return True


def answering(box: Sandbox) -> BoxClient:
    """A client of the API of the box in that container; UnreachableError when it does not answer in time."""
    deadline = time.monotonic() + BOX_S
    while True:
        try:
            api = _client(box)
        except LabError:
            api = None
        if api is not None:
            try:
                api.healthz()
            except BoxError:
                api.close()
            else:
                return api
        if time.monotonic() > deadline or not box.there:
            raise UnreachableError("the box in its container does not answer: `docker logs` says why")
        time.sleep(POLL_S / 10)


def _client(box: Sandbox) -> BoxClient:
    sockets = sorted((box.root / "run/l4box").glob("*.sock"))
    if not sockets:
        raise UnreachableError("the box in its container has no API yet")
    return BoxClient(sockets[0])


def _attach(engine: Engine, project: str | None, say: Say, *, strict: bool) -> Plan:
    containers = engine.containers(project)
    container = find_box(containers)
    if not container.pid:
        raise UnreachableError(f"the box ({container.name}) does not run")
    name = project or ALL
    _refuse_twice(containers, name)
    box = sandbox.of(container)
    book = Ledger(ledger.read(name) or Attached(name))
    left, addresses = book.attached.ours, book.attached.addresses
    if book.attached.box != box:
        left = Ours()  # another one, or the same again: it has what its file says
    with answering(box) as api:
        current = parse(BoxConfig, api.configuration(), container.name)
        wanted = plan(containers, current, left, addresses)
        if strict and wanted.problems:
            raise Problem("\n".join(wanted.problems))
        addresses = {**addresses, **{one.name: one.address for one in wanted.servers}}
        book.note(box=box, ours=left | wanted.ours, addresses=addresses)
        for gone in book.attached.containers.keys() - {one.id for one in containers if one.pid}:
            book.container(gone, None)
        for work in wanted.work:
            with suppress(Gone):  # an event will tell
                _do(work, book, say)
        if wanted.configuration != current:
            api.configure(wanted.configuration.model_dump(mode="json"))
            _tell(current, wanted.configuration, say)
        book.note(ours=wanted.ours)
    return wanted


def _do(work: Work, book: Ledger, say: Say) -> None:
    """Make what is missing of the changes, unless nothing is new: what was put there may be taken by hand."""
    container = work.container
    here = sandbox.of(container)
    known = book.attached.containers.get(container.id)
    changed = known if known is not None and known.sandbox == here else Changed(container.name, here)
    if (changed.asked, changed.attached_to) == (work.changes, container.attached_to):
        return

    def do() -> list[Change]:
        mine = list(changed.changes)
        for change in reversed(changed.changes):
            if change not in work.changes:
                change.undo()
                mine.remove(change)
        for change in work.changes:
            if change in mine:
                change.make()  # it may have gone with its network
            elif not change.there():
                mine.append(noted(change))
                book.container(container.id, replace(changed, changes=tuple(mine)))
                change.make()
        return mine

    try:
        made = here.inside(do)
    except (NetlinkError, OSError) as error:
        raise LabError(f"{container.name}: the kernel refused a change: {error}") from error
    new = [str(change) for change in made if change not in changed.changes]
    if new:
        say(f"{container.name}: {', '.join(new)}")
    done = replace(changed, asked=work.changes, attached_to=container.attached_to, changes=tuple(made))
    book.container(container.id, done)


def _take_out_of_box(book: Ledger) -> Iterator[str]:
    """Have the box without what was put there; what went wrong."""
    box = book.attached.box
    if box is not None and box.there:
        try:
            with answering(box) as api:
                current = api.configuration()
                wanted = without(parse(BoxConfig, current, "the box"), book.attached.ours)
                if wanted != current:
                    api.configure(wanted)
        except (BoxError, LabError) as error:
            yield f"the box's configuration: {error}"
            return
    book.note(box=None, ours=Ours())


def _restore_all(book: Ledger, say: Say) -> Iterator[str]:
    """Undo what was changed in networks, the last first; what went wrong."""
    for container_id, changed in reversed(book.attached.containers.items()):

        def undo(of: Changed = changed) -> None:
            for change in reversed(of.changes):
                change.undo()

        try:
            changed.sandbox.inside(undo)
        except Gone:
            pass
        except (NetlinkError, OSError, LabError) as error:
            yield f"{changed.name}: {error}"
            continue
        else:
            if changed.changes:
                say(f"{changed.name} is as it was")
        book.container(container_id, None)


def _refuse_twice(containers: Sequence[Container], name: str) -> None:
    ids = {container.id for container in containers}
    for other in ledger.names():
        attached = ledger.read(other) if other != name else None
        if attached is not None and ids & attached.containers.keys():
            option = "" if other == ALL else f" --project {other}"
            raise LabError(f"some of these are attached already: `l4lab docker detach{option}` first")


def _tell(before: BoxConfig, after: BoxConfig, say: Say) -> None:
    """Say which servers have come and gone."""
    old, new = _members(before), _members(after)
    for service, server, address in new - old:
        say(f"the box has {server} ({address}) in {service}")
    for service, server, address in old - new:
        say(f"the box has {server} ({address}) in {service} no more")


def _members(configuration: BoxConfig) -> set[tuple[str, str, str]]:
    return {
        (service.name, server.name, str(server.address))
        for service in configuration.virtual_server
        for server in service.real_server
    }


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


def _report(event: Happening, name: str, say: Say) -> None:
    match event.action:
        case "die":
            say(f"{name} has ended (exit {event.detail})")
        case "connect":
            say(f"{name} is connected to {event.detail}")
        case "disconnect":
            say(f"{name} is disconnected from {event.detail}")
        case "health_status: unhealthy":
            say(f"{name} is unhealthy to Docker; the box goes by its own checks")
        case action:
            say(f"{name}: {action}")
