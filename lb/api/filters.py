"""Which sessions are meant: addresses as people write them, and looking for them a slice at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Self

from lb.core.box import Box
from lb.core.packet import join, split
from lb.core.session import SessionState

SLICE: Final = 250
"""Slots looked at before packets get their turn again: two milliseconds if each is a row to be described."""

_WITH_PORT: Final = re.compile(r"\[([^]]+)\](?::(\d{1,5}))?|([^]:[]+):(\d{1,5})", re.ASCII)
"""[v6], [v6]:port, v4:port."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address or a network of `size` bytes, and a port or any."""

    text: str
    size: int
    base: int
    mask: int
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "10.0.0.2", "10.0.0.2:80", "[2001:db8::1]:80", a network; anything else is a ValueError."""
        found = _WITH_PORT.fullmatch(text)
        address = (found[1] or found[3]) if found else text
        port = (found[2] or found[4]) if found else None
        try:
            network = ip_network(address, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is not an address, address:port, [v6]:port or network") from None
        if found and "/" in address:
            raise ValueError(f"{text!r}: a network has no port")
        if port is not None and not 0 < int(port) < 65536:
            raise ValueError(f"{text!r}: a port is 1 to 65535")
        return cls(
            text,
            network.max_prefixlen // 8,
            int(network.network_address),
            int(network.netmask),
            int(port) if port is not None else None,
        )

    @property
    def single(self) -> bool:
        """Whether it is one address."""
        return self.mask == (1 << self.size * 8) - 1

    @property
    def address(self) -> bytes:
        """The address, or the network's first."""
        return self.base.to_bytes(self.size, "big")

    def covers(self, address: bytes, port: int) -> bool:
        return (
            len(address) == self.size
            and (self.port is None or self.port == port)
            and int.from_bytes(address, "big") & self.mask == self.base
        )


@dataclass(frozen=True, slots=True)
class Filters:
    """Sessions of any of these servers, and of this client, to this VIP, in this state; None is any.

    `tombstones`: those too that were reset and are remembered.
    """

    servers: frozenset[int] | None = None
    client: Place | None = None
    vip: Place | None = None
    state: SessionState | None = None
    tombstones: bool = False


def look(box: Box, filters: Filters, cursor: int) -> tuple[list[int], int]:
    """Slots of the sessions meant among the SLICE slots from `cursor` on, and the next cursor (0 at the end).

    One client address and port is looked up rather than looked for.
    """
    table, client = box.table, filters.client
    if client and client.single and client.port:
        places = (service.settings for service in box.services.by_name.values())
        found = (
            table.find(place.protocol, join(client.address, client.port, place.vip, place.port))
            for place in places
            if len(place.vip) == client.size
        )
        return [slot for slot in found if _meant(box, filters, slot)], 0
    start = max(cursor, 1)
    stop = min(start + SLICE, len(table.key))
    slots = [slot for slot in range(start, stop) if _meant(box, filters, slot)]
    return slots, stop if stop < len(table.key) else 0


def _meant(box: Box, filters: Filters, slot: int) -> bool:
    table = box.table
    server = table.server[slot]
    if not server:  # a free slot
        return False
    if not filters.tombstones and table.is_tombstone(slot):
        return False
    if filters.servers is not None and server not in filters.servers:
        return False
    if filters.state is not None and table.state[slot] != filters.state:
        return False
    if filters.client is None and filters.vip is None:
        return True
    client, client_port, vip, port = split(table.key[slot])
    return (filters.client is None or filters.client.covers(client, client_port)) and (
        filters.vip is None or filters.vip.covers(vip, port)
    )
