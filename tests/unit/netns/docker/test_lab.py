"""What a compose project's containers are to a lab: pure parts."""

from __future__ import annotations

from ipaddress import IPv4Address
from signal import Signals

import pytest

from netns.docker.container import Container
from netns.docker.lab import _signal, _ways
from netns.errors import LabError
from netns.plan.topology import Role
from tests.unit.netns.docker.fake_containers import VIP, made

KNOWN = {IPv4Address("172.20.0.2")}


def ways(*containers: tuple[Container, Role]) -> dict[Role, set[str]]:
    running = {one.called: one for one, _ in containers}
    return _ways(running, {one.called: role for one, role in containers}, KNOWN)


def test_box_and_clients_take_part_by_the_network_that_the_box_has_servers_in() -> None:
    found = ways(
        (made("web", {"back": "172.21.0.2", "front": "172.20.0.2"}, vip=VIP), Role.SERVER),
        (made("box", {"front": "172.20.0.9"}, role="box"), Role.BOX),
        (made("client", {"back": "172.21.0.8", "front": "172.20.0.8"}, role="client"), Role.CLIENT),
    )
    assert found == {Role.BOX: {"front"}, Role.CLIENT: {"front"}}


def test_box_and_clients_take_part_by_the_routers_networks_where_there_is_one() -> None:
    found = ways(
        (made("web", {"front": "172.20.0.2"}, vip=VIP), Role.SERVER),
        (made("router", {"clients": "10.0.1.1", "front": "172.20.0.7"}, role="router"), Role.ROUTER),
        (made("box", {"front": "172.20.0.9", "metrics": "172.22.0.9"}, role="box"), Role.BOX),
    )
    assert found == {Role.BOX: {"clients", "front"}, Role.CLIENT: {"clients", "front"}}


@pytest.mark.parametrize("name", ["SIGQUIT", "quit", "3"])
def test_stop_signal_by_name_or_number(name: str) -> None:
    assert _signal("web1", name) is Signals.SIGQUIT


def test_real_time_stop_signal_is_refused_with_what_to_do() -> None:
    with pytest.raises(LabError, match=r"web1: .* SIGRTMIN\+3 .* set stop_signal in the compose file"):
        _signal("web1", "SIGRTMIN+3")
