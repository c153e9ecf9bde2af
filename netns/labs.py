"""Labs, whatever their nodes are: made, opened, taken down. The only door to the backends.

    lab = labs.up(load(Path("lab.toml"), speed=10))
    labs.down(lab.config.name)

A backend is a package beside `namespaces` and `docker` with a `lifecycle` that makes a lab and removes one by
its state file; its name in the state file says whose a lab is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from lb.config import parse
from netns.errors import LabError
from netns.lab import state
from netns.lab.interface import Lab, Say, quiet
from netns.lab.state import Ledger, State
from netns.linux.privileges import require_root
from netns.namespaces import lifecycle as namespaces
from netns.namespaces.lab import NamespaceLab
from netns.plan.config import DEFAULT_NAME, LabConfig, load, with_settings

if TYPE_CHECKING:
    from netns.docker.lab import ContainerLab


def up(config: LabConfig, *, wait: bool = True, say: Say = quiet) -> NamespaceLab:
    """Make a lab of namespaces and return it when every server is bound (`wait=False`: when the box answers).

    A running lab of the same configuration is returned as it is. ConfigError, MissingError or LabError when
    it can't be made or is there otherwise; what was made by then is removed again. A lab whose servers do not
    get bound in time stays up, to be looked at.
    """
    require_root()
    return namespaces.up(config, wait=wait, say=say)


def down(name: str, *, say: Say = quiet) -> bool:
    """Remove all that the lab's state file says was made; whether there was such a lab."""
    require_root()
    with state.lock(name, partial(say, f"waiting for another command on the lab {name!r}")):
        existing = state.read(name)
        if existing is not None:
            _remove(Ledger(existing), say)
        state.forget(name)
    return existing is not None


def open_lab(name: str) -> NamespaceLab:
    """The running lab of that name, of namespaces; LabError when there is none or it is not whole."""
    require_root()
    return namespaces.open_lab(name)


@overload
def own(
    config: LabConfig, *, on: Literal["namespaces"] = ..., say: Say = ...
) -> AbstractContextManager[NamespaceLab]: ...


@overload
def own(config: LabConfig, *, on: str, say: Say = ...) -> AbstractContextManager[Lab]: ...


@contextmanager
def own(config: LabConfig, *, on: str = state.NAMESPACES, say: Say = quiet) -> Iterator[Any]:
    """A lab of one's own, which goes down again whatever happens.

    `on`: what its nodes are, NAMESPACES or CONTAINERS of netns/lab/state.py. LabError when there is one of
    that name.
    """
    require_root()
    name = config.name
    if state.read(name) is not None:
        raise LabError(
            f"the lab {name!r} is up: it is in use, or its user was killed and "
            f"`l4lab down --name {name}` clears it"
        )
    try:
        lab = _containers().up(config, say=say) if on == state.CONTAINERS else up(config, say=say)
        try:
            yield lab
        finally:
            lab.close()
    finally:
        down(name)


@contextmanager
def shared(config: LabConfig, *, say: Say = quiet) -> Iterator[tuple[NamespaceLab, bool]]:
    """The lab of that name that is up, or one that goes down again afterwards; and whether it is that."""
    require_root()
    ours = state.read(config.name) is None
    lab = up(config, say=say)
    try:
        yield lab, ours
    finally:
        lab.close()
        if ours:
            down(config.name, say=say)


@contextmanager
def project(name: str | None, *, say: Say) -> Iterator[ContainerLab]:
    """A compose project that is up, as a lab (netns/docker/lifecycle.py: opened)."""
    require_root()
    with _containers().opened(name, say=say) as lab:
        yield lab


def is_up(name: str) -> bool:
    """Whether there is a lab of that name, whole or not."""
    return state.read(name) is not None


def wanted(file: Path | None, *, name: str | None, settings: Mapping[str, float | None]) -> LabConfig:
    """The configuration to rehearse with: of the file, else of the lab that is up, else the default lab's.

    `settings` that are not None go over it: "speed", "delay_ms", and those of `with_settings`. LabError where
    they contradict a lab that is up, ConfigError for what can't be.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    of_the_lab: dict[str, Any] = {key: given.pop(key) for key in ("speed", "delay_ms") if key in given}
    made = state.read(name or DEFAULT_NAME) if file is None else None
    if made is None:
        config = load(file, name=name, **of_the_lab)
        made = state.read(config.name)
    else:
        config = parse(LabConfig, {**made.asked, **of_the_lab}, f"the lab {made.name!r}")
    if given:
        config = with_settings(config, given)
    if made is None:
        return config
    namespaces.refuse_contradictions(config, made)
    return parse(LabConfig, made.asked, f"the lab {made.name!r}")


def _remove(ledger: Ledger, say: Say) -> None:
    made: State = ledger.state
    if made.on == state.NAMESPACES:
        namespaces.remove(ledger, say)
    else:
        _containers().remove(ledger)


def _containers() -> Any:
    """The backend of containers: the Docker client takes long to import."""
    from netns.docker import lifecycle

    return lifecycle
