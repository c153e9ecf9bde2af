"""Makes real servers of labelled containers, from outside, and takes all of it back.

attach(engine, "shop", say=print)   first their networks, then the box: none gets what it can't take
detach("shop", say=print)           the other way round
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pyroute2 import NetlinkError

from lb.client import BoxClient, BoxError
from lb.config import BoxConfig, ConfigError, parse
from netns.docker import ledger, sandbox
from netns.docker.change import Change, noted
from netns.docker.configuration import Ours, without
from netns.docker.container import Container
from netns.docker.engine import Engine
from netns.docker.ledger import ALL, Attached, AttachLedger, Changed
from netns.docker.plan import AttachPlan, Work, find_box, plan
from netns.docker.sandbox import Sandbox
from netns.docker.servers import Problem
from netns.errors import Gone, LabError, MissingError, UnreachableError

Say = Callable[[str], None]

BOX_S = 20.0
"""A box that does not answer so long after its container has started will not."""
POLL_S = 0.25


def attach(engine: Engine, project: str | None, *, say: Say) -> AttachPlan:
    """Make real servers of the labelled containers of the project, or of all, once.

    Problem, with nothing changed, when a label can't be followed. LabError when a container's network could
    not be changed; the others' are. Done again, it does what is new.
    """
    with ledger.lock():
        done = _attach(engine, project, say, strict=True)
    if done.problems:
        raise LabError("\n".join(done.problems))
    return done


def follow(engine: Engine, project: str | None, *, say: Say) -> AttachPlan:
    """The same as far as it goes, for who holds the lock: what can't be is in the plan's problems."""
    return _attach(engine, project, say, strict=False)


def detach(name: str, *, say: Say) -> bool:
    """Take back all that is attached under that name; whether anything was.

    LabError when something could not be taken back; it stays on record, for another try.
    """
    with ledger.lock():
        attached = ledger.read(name)
        if attached is None:
            return False
        book = AttachLedger(attached)
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


def _attach(engine: Engine, project: str | None, say: Say, *, strict: bool) -> AttachPlan:
    try:
        return _attach_to_box(engine, project, say, strict=strict)
    except BoxError as error:
        raise LabError(f"the box refused: {error}") from error
    except ConfigError as error:  # of another version
        raise LabError(f"the box's configuration is not understood: {error}") from error


def _attach_to_box(engine: Engine, project: str | None, say: Say, *, strict: bool) -> AttachPlan:
    containers = engine.containers(project)
    container = find_box(containers, project)
    if not container.pid:
        raise UnreachableError(f"the box ({container.name}) does not run")
    name = project or ALL
    _refuse_twice(containers, name)
    box = sandbox.of(container)
    book = AttachLedger(ledger.read(name) or Attached(name))
    left, addresses = book.attached.ours, book.attached.addresses
    if book.attached.box != box:
        left = Ours()  # another one, or the same again: it has what its file says
    with answering(box) as api:
        current = parse(BoxConfig, api.configuration(), container.name)
        wanted = plan(containers, current, left, addresses, container)
        if strict and wanted.problems:
            raise Problem("\n".join(wanted.problems))
        addresses = {**addresses, **{one.name: one.address for one in wanted.servers}}
        book.note(box=box, ours=left | wanted.ours, addresses=addresses)
        for gone in book.attached.containers.keys() - {one.id for one in containers if one.pid}:
            book.container(gone, None)
        refused = []
        for work in wanted.work:
            try:
                _do(work, book, say)
            except Gone:
                continue  # an event will tell
            except MissingError:
                raise  # of this machine, not of the container
            except LabError as error:
                refused.append(f"container {work.container.name}: {error}")
        if wanted.configuration != current:
            api.configure(wanted.configuration.model_dump(mode="json"))
            _tell(current, wanted.configuration, say)
        book.note(ours=wanted.ours)
    return replace(wanted, problems=(*wanted.problems, *refused))


def _do(work: Work, book: AttachLedger, say: Say) -> None:
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
        raise LabError(f"the kernel refused a change: {error}") from error
    new = [str(change) for change in made if change not in changed.changes]
    if new:
        say(f"{container.name}: {', '.join(new)}")
    done = replace(changed, asked=work.changes, attached_to=container.attached_to, changes=tuple(made))
    book.container(container.id, done)


def _take_out_of_box(book: AttachLedger) -> Iterator[str]:
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


def _restore_all(book: AttachLedger, say: Say) -> Iterator[str]:
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
            raise LabError(f"some of these are attached already: {ledger.taken_back_by(other)} first")


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
