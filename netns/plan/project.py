"""The configuration of a lab that is a compose project: its servers are called as its services are."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lb.config import Name
from netns.plan.config import LabConfig, LabVirtualServer, Server


class ProjectServer(Server):
    """A name is no interface's here: it may be as long as the box allows."""

    name: Name


class ProjectVirtualServer(LabVirtualServer):
    servers: tuple[Name, ...] | None = Field(default=None, min_length=1)


class ProjectConfig(LabConfig):
    server: tuple[ProjectServer, ...] = Field(min_length=1)
    virtual_server: tuple[ProjectVirtualServer, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _room(self) -> Self:
        """There is always: the links are the project's own networks."""
        return self
