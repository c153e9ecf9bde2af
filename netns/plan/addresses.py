"""Which part of the lab's subnet each link has, and which address each server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import islice


def server_addresses(subnet: IPv4Network, servers: Sequence[str]) -> dict[str, IPv4Address]:
    """Where each server lives: its address depends on its place in the list and on nothing else."""
    links = islice(link_subnets(subnet), 1, None)
    return {name: next(links)[2] for name in servers}


def link_subnets(subnet: IPv4Network) -> Iterator[IPv4Network]:
    """The links' subnets: /24 where there are 256 of them, for addresses that are easy to read, else /30."""
    return subnet.subnets(new_prefix=24 if subnet.prefixlen <= 16 else 30)
