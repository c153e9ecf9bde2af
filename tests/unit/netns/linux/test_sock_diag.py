"""Which ports are listened on, by this machine's own kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address

import pytest

from netns.linux.sock_diag import Listeners

OTHER = IPv4Address("127.0.0.2")


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    with closing(Listeners()) as found:
        yield found


@pytest.mark.parametrize(
    ("family", "address", "taken"),
    [
        (socket.AF_INET, "0.0.0.0", True),
        (socket.AF_INET, "127.0.0.2", True),
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET6, "::", True),
        (socket.AF_INET6, "::ffff:127.0.0.2", True),
        (socket.AF_INET6, "::1", False),
    ],
)
def test_socket_takes_what_comes_to_the_address_that_it_is_bound_to(
    listeners: Listeners, family: socket.AddressFamily, address: str, taken: bool
) -> None:
    with socket.socket(family) as listening:
        listening.bind((address, 0))
        port = listening.getsockname()[1]
        assert port not in listeners.ports()
        listening.listen()
        assert port in listeners.ports()
        assert (port in listeners.ports_at(OTHER)) is taken
    assert port not in listeners.ports()
