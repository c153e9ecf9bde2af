"""What the configuration means to the core, to the rules and to a health check."""

from __future__ import annotations

from typing import Any

import pytest

from lb.clock import Clock
from lb.config import BoxConfig, parse
from lb.core.box import Box
from lb.core.packet import TCP, UDP
from lb.core.service import CheckSettings, Policy, PortReuse, ResetSettings
from lb.linux import probe
from lb.linux.rules import MARK_BASE
from lb.translation import check_request, ruleset, service_settings

from .fake_daemon import WEB, packed


def configured(speed: float = 1.0, **virtual_server: Any) -> tuple[BoxConfig, Box]:
    """A configuration of one virtual server, and a box that has taken it."""
    document = {"speed": speed, "virtual_server": [{**WEB, **virtual_server}]}
    config, box = parse(BoxConfig, document, "test"), Box()
    box.configure(0.0, [service_settings(virtual) for virtual in config.virtual_server])
    return config, box


def request(speed: float = 1.0, **virtual_server: Any) -> probe.Request:
    """The health check of rs1 of the one virtual server."""
    config, box = configured(speed, **virtual_server)
    return check_request(config, box.services.servers[1], Clock(speed).real)


IPV6: dict[str, Any] = {
    "address": "2001:db8:10::10",
    "real_server": [{"name": "rs1", "address": "2001:db8:1::2"}],
}


@pytest.mark.parametrize(
    ("virtual_server", "host"),
    [
        ({}, "192.0.2.10"),
        ({"port": 8080}, "192.0.2.10:8080"),
        ({"port": 443}, "192.0.2.10:443"),
        (IPV6, "[2001:db8:10::10]"),
        ({**IPV6, "port": 3000}, "[2001:db8:10::10]:3000"),
        ({"port": 8080, "health_check": {"path": "direct"}}, "192.0.2.10:8080"),
        ({"port": 8080, "health_check": {"host": "www.example.com"}}, "www.example.com"),
    ],
)
def test_check_names_the_vip_and_a_port_other_than_80_unless_told_what_to_name(
    virtual_server: dict[str, Any], host: str
) -> None:
    assert request(**virtual_server).host == host


def test_check_waits_for_its_timeout_in_real_seconds() -> None:
    assert request(speed=10, health_check={"timeout_s": 2.0}).timeout_s == 0.2


def test_check_goes_to_the_vip_by_the_servers_mark_and_a_direct_one_to_the_server() -> None:
    through, direct = request(), request(health_check={"path": "direct"})
    assert (str(through.address), through.mark) == ("192.0.2.10", MARK_BASE | 1)
    assert (str(direct.address), direct.mark) == ("10.0.0.1", None)


def test_half_open_timeout_reaches_the_session_table() -> None:
    _, box = configured(syn_timeout_s=5.0)
    syn_s, aging_s, fin_s, _ = box.table.timeouts_s

    assert (syn_s[1], aging_s[1], fin_s[1]) == (5, 600, 8)


def test_every_setting_reaches_the_core() -> None:
    config, _ = configured(
        port=8080,
        scheduler="source-hash",
        aging_s=300.0,
        on_port_reuse="keep",
        on_no_entry="forward",
        on_no_server="drop",
        on_table_full="drop",
        reset_on_aging=True,
        drain_timeout_s=30.0,
        health_check={"interval_s": 5.0, "retries": 2, "on_bad_status": "immediate"},
        reset_on_port_fail={"enabled": True, "sides": "server", "mode": "naive", "pace": 9.0},
    )
    settings = service_settings(config.virtual_server[0])

    assert settings.place == (TCP, packed("192.0.2.10"), 8080)
    assert [(server.name, server.address) for server in settings.servers] == [
        ("rs1", packed("10.0.0.1")),
        ("rs2", packed("10.0.0.2")),
    ]
    assert (settings.scheduler, settings.dscp, settings.aging_s) == ("source-hash", 10, 300)
    assert (settings.on_port_reuse, settings.on_no_entry) == (PortReuse.KEEP, Policy.FORWARD)
    assert settings.on_no_server is settings.on_table_full is Policy.DROP
    assert (settings.reset_on_aging, settings.drain_timeout_s) == (True, 30)
    assert settings.check == CheckSettings(5.0, 2, fail_on_bad_status=True)
    assert settings.reset == ResetSettings(True, client=False, server=True, precise=False, pace=9.0)


@pytest.mark.parametrize(
    ("sides", "client", "server"), [("client", True, False), ("server", False, True), ("both", True, True)]
)
def test_sides_that_are_reset(sides: str, client: bool, server: bool) -> None:
    config, _ = configured(reset_on_port_fail={"sides": sides})
    reset = service_settings(config.virtual_server[0]).reset
    assert (reset.client, reset.server) == (client, server)


def test_udp_virtual_server_has_the_protocols_number() -> None:
    config, _ = configured(protocol="udp", health_check={"path": "direct"})
    assert service_settings(config.virtual_server[0]).protocol == UDP


def test_rules_send_each_mark_to_its_server() -> None:
    config, box = configured(port=8080)
    (family,) = ruleset(config, box.services).families
    for number, address in ((1, "10.0.0.1"), (2, "10.0.0.2")):
        assert f"{MARK_BASE | number:#x}" in family.table
        assert address in family.table
    assert "--dport 8080" in family.chain
