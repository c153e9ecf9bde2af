"""What is to be done for the containers that there are, without one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from lb.config import BoxConfig, parse
from netns.docker.change import RepliesBy, RouteBy, Rules, Sysctl, VipOnLo
from netns.docker.configuration import Ours, without
from netns.docker.container import Container
from netns.docker.plan import AttachPlan, NoBox, find_box, plan
from netns.errors import LabError
from tests.unit.netns.docker.fake_containers import VIP, box, made, server

ROUTED = {"clients": "10.0.1.1", "box": "10.0.2.1", "servers": "10.0.3.1"}


def configuration(*servers: tuple[str, str], **more: Any) -> BoxConfig:
    service = {
        "name": "web",
        "address": VIP,
        "port": 80,
        "dscp": 10,
        "real_server": [{"name": name, "address": address} for name, address in servers],
        **more,
    }
    return parse(BoxConfig, {"virtual_server": [service]}, "test")


def planned(
    *containers: Container,
    base: BoxConfig | None = None,
    left: Ours | None = None,
    known: dict[str, str] | None = None,
) -> AttachPlan:
    addresses = {name: IPv4Address(address) for name, address in (known or {}).items()}
    return plan(containers, base or configuration(), left or Ours(), addresses, find_box(containers, None))


def real_servers(found: AttachPlan) -> dict[str, list[tuple[str, str]]]:
    return {
        service.name: [(one.name, str(one.address)) for one in service.real_server]
        for service in found.configuration.virtual_server
    }


def changes(found: AttachPlan, name: str) -> tuple[Any, ...]:
    """What the network of a container is to have, its sysctls apart."""
    (work,) = [one for one in found.work if one.container.called == name]
    return tuple(change for change in work.changes if not isinstance(change, Sysctl))


# Who is a server, and where


def test_server_on_the_boxs_network_gets_its_vip_and_rule_and_the_box_gets_it() -> None:
    found = planned(box(), server("web", "172.20.0.2"))
    vip, rules = changes(found, "web")
    assert vip == VipOnLo(VIP, "lo:0")
    assert isinstance(rules, Rules)
    assert f"ip daddr 172.20.0.2 ip dscp 10 ip daddr set {VIP} ip dscp set 0" in rules.text
    assert real_servers(found) == {"web": [("web", "172.20.0.2")]}
    assert found.ours == Ours((), (("web", "web"),))
    assert found.problems == ()


def test_server_that_shares_a_network_with_a_router_sends_its_replies_by_it() -> None:
    router = made("router", ROUTED, role="router")
    found = planned(box("10.0.2.2", network="box"), router, server("web", "10.0.3.2", network="servers"))
    assert RepliesBy(VIP, "10.0.3.1") in changes(found, "web")
    assert changes(found, "router") == (RouteBy(f"{VIP}/32", "10.0.2.2"),)


def test_client_goes_by_the_router_it_shares_a_network_with_or_else_by_the_box() -> None:
    router = made("router", ROUTED, role="router")
    one = made("one", {"clients": "10.0.1.2"}, role="client")
    other = made("other", {"box": "10.0.2.3"}, role="client")
    found = planned(box("10.0.2.2", network="box"), router, one, other)
    assert changes(found, "one") == (RouteBy(f"{VIP}/32", "10.0.1.1"),)
    found = planned(box("10.0.2.2", network="box"), other)
    assert changes(found, "other") == (RouteBy(f"{VIP}/32", "10.0.2.2"),)


def test_second_container_of_a_service_is_another_server() -> None:
    found = planned(box(), server("web", "172.20.0.2"), server("web", "172.20.0.3", number=2))
    assert real_servers(found) == {"web": [("web", "172.20.0.2"), ("web-2", "172.20.0.3")]}


@pytest.mark.parametrize(
    ("service", "name"), [("Web_One", "web-one"), ("shop.web", "shop-web"), ("w" * 40, "w" * 32)]
)
def test_service_whose_name_the_box_could_not_have_is_called_nearly_so(service: str, name: str) -> None:
    assert real_servers(planned(box(), server(service, "172.20.0.2"))) == {"web": [(name, "172.20.0.2")]}


def test_container_without_a_network_in_common_with_the_box_is_left_out_and_said() -> None:
    found = planned(box(), server("web", "172.30.0.2", network="elsewhere"))
    assert found.servers == ()
    assert found.problems == ("container shop_web_1 has no network in common with the box or a router",)


def test_container_in_its_hosts_network_is_left_out_and_said() -> None:
    found = planned(box(), server("web", "172.20.0.2", host_network=True))
    assert "shop_web_1 is in its host's network" in found.problems[0]
    assert [work.container.called for work in found.work] == []


def test_one_mistaken_label_leaves_the_others_alone() -> None:
    found = planned(box(), server("web", "172.20.0.2"), server("bad", "172.20.0.3", port="many"))
    assert real_servers(found) == {"web": [("web", "172.20.0.2")]}
    assert found.problems[0].startswith("container shop_bad_1: l4box.port = 'many'")


def test_project_without_a_box_is_named() -> None:
    with pytest.raises(NoBox, match=r"no container has the label l4box\.role=box"):
        find_box([server("web", "172.20.0.2")], None)
    with pytest.raises(NoBox, match=r"no container of the project 'shop' has the label l4box\.role=box"):
        find_box([], "shop")


@pytest.mark.parametrize("status", ["running", "exited"])
def test_of_the_boxes_of_two_projects_none_is_chosen_even_when_only_one_runs(status: str) -> None:
    with pytest.raises(LabError, match=rf"several boxes: shop_box_1 \({status}\), blog_box_1 \(running\)"):
        find_box([box(status=status), box(project="blog")], None)


def test_while_the_box_is_made_anew_the_one_that_runs_is_the_box() -> None:
    old, new = box(status="exited"), box(created="2024-01-02T00:00:00Z")
    assert find_box([old, new], None) is new


# Containers that can't be what their labels say: the others are servers all the same


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (server("bad", "172.20.0.3", health="/a b"), "l4box.health: '/a b': l4, or the path of a page"),
        (server("bad", "172.20.0.3", health="/상태"), "l4box.health: '/상태': l4, or the path of a page"),
        (server("bad", "172.20.0.3", vip="172.20.0.1"), "172.20.0.1 is the gateway of the network default"),
        (server("bad", "172.20.0.3", vip="172.20.0.2"), "172.20.0.2 is the address of shop_web_1"),
        (server("bad", "172.20.0.3", vip="172.20.0.3"), "172.20.0.3 is the address of shop_bad_1"),
        (server("___", "172.20.0.3"), "its service's name has no letter a-z or digit"),
    ],
)
def test_container_that_the_box_can_not_have_is_one_line_and_the_others_are_served(
    bad: Container, said: str
) -> None:
    found = planned(box(), server("web", "172.20.0.2"), bad)
    (problem,) = found.problems
    assert problem.startswith(f"container {bad.name}")
    assert said in problem
    assert real_servers(found) == {"web": [("web", "172.20.0.2")]}
    assert [work.container.called for work in found.work] == ["web"]


def test_virtual_server_that_the_box_can_not_have_is_not_made() -> None:
    """Its name is another's already, which only the configuration as a whole tells."""
    base = configuration(name="vip-192-0-2-20-80")
    bad = server("bad", "172.20.0.3", vip="192.0.2.20")
    found = planned(box(), server("web", "172.20.0.2"), bad, base=base)
    assert real_servers(found) == {"vip-192-0-2-20-80": [("web", "172.20.0.2")]}
    assert found.ours.virtual_servers == ()
    (problem,) = found.problems
    assert problem.startswith(
        "container shop_bad_1: virtual_server: name 'vip-192-0-2-20-80' is used 2 times"
    )


def test_box_that_has_no_virtual_server_by_itself_gets_those_of_the_labels_and_gives_them_back() -> None:
    empty = BoxConfig(virtual_server=())
    found = planned(box(), server("web", "172.20.0.2"), base=empty)
    assert real_servers(found) == {"vip-192-0-2-10-80": [("web", "172.20.0.2")]}
    assert without(found.configuration, found.ours) == empty.model_dump(mode="json")


# Servers that don't run


def test_stopped_server_stays_in_the_box_at_its_last_address_and_nothing_is_done_to_it() -> None:
    stopped = server("web", "", status="exited")
    found = planned(box(), stopped, known={"web": "172.20.0.2"})
    assert real_servers(found) == {"web": [("web", "172.20.0.2")]}
    assert found.work == ()


def test_server_that_was_never_seen_running_waits() -> None:
    found = planned(box(), server("web", "", status="created"))
    assert (real_servers(found), found.problems) == ({"web": []}, ())


def test_disconnected_server_stays_in_the_box_and_its_network_is_left_as_it_is() -> None:
    found = planned(box(), made("web", {"other": "172.30.0.2"}, vip=VIP), known={"web": "172.20.0.2"})
    assert real_servers(found) == {"web": [("web", "172.20.0.2")]}
    assert found.work == ()


def test_while_a_service_is_made_anew_the_container_that_runs_is_the_server() -> None:
    old = server("web", "172.20.0.2", created="2024-01-01T00:00:00Z")
    new = server("web", "", status="created", created="2024-01-02T00:00:00Z")
    assert planned(box(), old, new).servers[0].container is old
    gone, next_ = (
        server("web", "", status="exited", created="2024-01-01T00:00:00Z"),
        server("web", "172.20.0.3", created="2024-01-02T00:00:00Z"),
    )
    found = planned(box(), gone, next_, known={"web": "172.20.0.2"})
    assert real_servers(found) == {"web": [("web", "172.20.0.3")]}


def test_address_of_a_stopped_server_that_another_has_by_now_is_the_others() -> None:
    stopped = server("one", "", status="exited")
    found = planned(box(), stopped, server("two", "172.20.0.2"), known={"one": "172.20.0.2"})
    assert (real_servers(found), found.problems) == ({"web": [("two", "172.20.0.2")]}, ())


def test_two_projects_with_a_service_of_one_name_need_a_choice() -> None:
    found = planned(box(), server("web", "172.20.0.2"), server("web", "172.20.0.3", project="blog"))
    assert "would both be web to the box: choose one project by --project" in found.problems[0]


# The box's configuration


def test_server_that_the_box_has_by_itself_is_not_ours_to_remove() -> None:
    base = configuration(("web", "172.20.0.2"))
    found = planned(box(), server("web", "172.20.0.2"), base=base)
    assert (found.configuration, found.ours) == (base, Ours())


def test_what_was_put_there_before_is_replaced() -> None:
    base = configuration(("own", "172.20.0.7"), ("gone", "172.20.0.2"))
    found = planned(box(), server("web", "172.20.0.3"), base=base, left=Ours((), (("web", "gone"),)))
    assert real_servers(found) == {"web": [("own", "172.20.0.7"), ("web", "172.20.0.3")]}


def test_name_that_the_box_has_for_another_address_is_said() -> None:
    found = planned(box(), server("web", "172.20.0.2"), base=configuration(("web", "172.20.0.7")))
    assert found.problems == (
        "container shop_web_1 would be web at 172.20.0.2: the box has web at 172.20.0.7",
    )
    assert found.servers == ()


def test_new_vip_gets_the_first_free_dscp_and_its_second_port_the_same() -> None:
    found = planned(
        box(),
        server("mail", "172.20.0.2", vip="192.0.2.20", port="25", health="l4", weight="3"),
        server("shop", "172.20.0.3", vip="192.0.2.20", port="80", health="/up"),
        base=configuration(dscp=1),
    )
    _, mail, shop = found.configuration.virtual_server
    assert (mail.name, mail.dscp, mail.health_check.kind) == ("vip-192-0-2-20-25", 2, "l4")
    assert mail.real_server[0].weight == 3
    assert (shop.name, shop.dscp, shop.health_check.url) == ("vip-192-0-2-20-80", 2, "/up")
    assert found.ours.virtual_servers == ("vip-192-0-2-20-25", "vip-192-0-2-20-80")


def test_servers_of_one_virtual_server_are_checked_alike_or_said() -> None:
    found = planned(box(), server("web", "172.20.0.2", health="l4"))
    assert "l4box.health = 'l4': the servers of web are checked by /health_check.html" in found.problems[0]


def test_without_gives_back_what_was_before() -> None:
    base = configuration(("own", "172.20.0.7"))
    found = planned(
        box(), server("web", "172.20.0.2"), server("mail", "172.20.0.3", vip="192.0.2.20"), base=base
    )
    assert found.configuration != base
    assert without(found.configuration, found.ours) == base.model_dump(mode="json")


def test_network_of_a_container_that_sets_itself_up_is_left_alone_while_it_is_at_it() -> None:
    starting = replace(server("web", "172.20.0.2", setup="self"), health="starting")
    found = planned(box(), starting)
    assert real_servers(found) == {"web": [("web", "172.20.0.2")]}
    assert [work.container.called for work in found.work] == []
    up = replace(starting, health="healthy")
    assert [work.container.called for work in planned(box(), up).work] == ["web"]
    stock = replace(server("web", "172.20.0.2"), health="starting")
    assert [work.container.called for work in planned(box(), stock).work] == ["web"]
