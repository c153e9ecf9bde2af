"""What the labels of a container say: what it is to the box."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from lb.config import HealthCheck, Strict, parse

PREFIX = "l4box."


def _l4_or_path(text: str) -> str:
    if text != "l4":
        try:
            HealthCheck(url=text)
        except ValidationError:
            raise ValueError(
                f"{text!r}: l4, or the path of a page (/health_check.html, in ASCII and without blanks), "
                f"is allowed"
            ) from None
    return text


def _unicast(address: IPv4Address) -> IPv4Address:
    if (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_link_local
        or address.is_reserved
    ):
        raise ValueError(f"{address} can't be a VIP: a routable unicast address is allowed")
    return address


class Labels(Strict):
    """The labels that begin with `l4box.`. Those of a real server are all but `role`."""

    role: Literal["box", "router", "client"] | None = None
    vip: Annotated[IPv4Address, AfterValidator(_unicast)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = 80
    weight: Annotated[int, Field(ge=1, le=65535)] = 1
    health: Annotated[str, AfterValidator(_l4_or_path)] | None = None
    """How the box checks it: "l4", or the page it asks for; None: as its virtual server is configured."""
    setup: Literal["self"] | None = None
    """Its image sets up VIP and rule: that is awaited, as long as Docker calls its health "starting"."""

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        others = sorted(self.model_fields_set - {"role", "vip"})
        if self.vip is None and others:
            raise ValueError(f"l4box.vip is missing, a real server ({', '.join(others)}) needs it")
        if self.vip is not None and self.role is not None:
            raise ValueError(f"l4box.role = {self.role} and l4box.vip exclude each other")
        return self


class _Table(Strict):
    l4box: Labels


def read(container: str, labels: Mapping[str, str]) -> Labels | None:
    """What the labels of that container say, None when there are none of ours; raises ConfigError."""
    ours = {key.removeprefix(PREFIX): value for key, value in labels.items() if key.startswith(PREFIX)}
    return parse(_Table, {"l4box": ours}, f"container {container}").l4box if ours else None
