"""Which clients ask which virtual servers, and what cannot be rehearsed."""

from __future__ import annotations

from typing import Any

import pytest

from lb.config import parse
from netns.plan.config import LabConfig
from netns.rehearsal.spec import RehearsalSpec, specify


def config(**protocols: str) -> LabConfig:
    """A virtual server for each name, with two servers of its own: web1, web2, api1, …"""
    services = [
        {
            "name": name,
            "address": f"192.0.2.{10 * number}",
            "port": 80,
            "dscp": number,
            "protocol": protocol,
            "servers": [f"{name}1", f"{name}2"],
            "health_check": {"kind": "l4", "path": "direct" if protocol == "udp" else "dsr"},
        }
        for number, (name, protocol) in enumerate(protocols.items(), 1)
    ]
    servers = [{"name": f"{name}{number}"} for name in protocols for number in (1, 2)]
    return parse(LabConfig, {"server": servers, "virtual_server": services}, "the test's lab")


TWO = {"web": "tcp", "api": "tcp"}


def specified(lab: LabConfig, *command: str, **options: Any) -> RehearsalSpec:
    return specify(lab, command or ("./deploy.sh", "{server}"), say=lambda _: None, **options)


def asked(found: RehearsalSpec) -> list[tuple[str, str, int]]:
    return [(one.group, one.service, one.count) for one in found.clients]


def test_clients_ask_every_virtual_server_that_a_deployed_server_is_behind() -> None:
    assert asked(specified(config(**TWO), clients="curl:4")) == [
        ("curl@web", "web", 4),
        ("curl@api", "api", 4),
    ]
    assert asked(specified(config(**TWO), clients="curl:4", servers=["api2"])) == [("curl", "api", 4)]


def test_a_client_is_told_whom_to_ask_by_its_virtual_servers_name() -> None:
    found = specified(config(**TWO), clients="curl:4@api,curl-new:2")
    assert asked(found) == [("curl@api", "api", 4), ("curl-new@web", "web", 2), ("curl-new@api", "api", 2)]


def test_the_default_fleet_is_shared_among_virtual_servers() -> None:
    alone = {one.group: one.count for one in specified(config(web="tcp")).clients}
    both = {one.group: one.count for one in specified(config(**TWO)).clients}
    assert alone["curl"] == 6
    assert (both["curl@web"], both["curl@api"]) == (3, 3)


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        ("curl:4@nope", "no virtual server 'nope': the lab has web, api"),
        ("curl:4@", "the virtual server is missing, as in curl:4@web"),
        ("curl@web", "a number of clients is missing"),
    ],
)
def test_clients_of_nowhere_are_refused(clients: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        specified(config(**TWO), clients=clients)


def test_a_udp_virtual_server_is_refused_unless_other_clients_are_chosen() -> None:
    lab = config(web="tcp", dns="udp")
    with pytest.raises(ValueError, match="'dns' is UDP, and the lab's clients speak HTTP over TCP"):
        specified(lab, clients="curl:1")
    assert asked(specified(lab, clients="curl:1@web")) == [("curl", "web", 1)]
    assert asked(specified(lab, clients="curl:1", servers=["web1"])) == [("curl", "web", 1)]


def test_a_command_that_names_no_server_runs_once() -> None:
    lab = config(web="tcp")
    assert specified(lab, "ansible-playbook", "deploy.yml", clients="curl:1").fleet
    assert not specified(lab, "./deploy.sh", "--host={server}", clients="curl:1").fleet
    with pytest.raises(ValueError, match="--parallel is for a command with"):
        specified(lab, "ansible-playbook", "deploy.yml", clients="curl:1", parallel=2)
