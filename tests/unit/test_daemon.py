"""What the daemon makes of its configuration; it takes nothing of the machine before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lb.config import BoxConfig, parse
from lb.daemon import Daemon
from lb.linux import probe

from .fake_daemon import WEB


def request(speed: float = 1.0, **virtual_server: Any) -> probe.Request:
    """The health check of rs1 of the one virtual server."""
    document = {"speed": speed, "virtual_server": [{**WEB, **virtual_server}]}
    daemon = Daemon(Path("box.toml"), parse(BoxConfig, document, "test"))
    daemon._configure()
    return daemon._request(daemon.box.services.servers[1])


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


def test_half_open_timeout_reaches_the_session_table() -> None:
    document = {"virtual_server": [{**WEB, "syn_timeout_s": 5.0}]}
    daemon = Daemon(Path("box.toml"), parse(BoxConfig, document, "test"))
    daemon._configure()
    syn_s, aging_s, fin_s, _ = daemon.box.table.timeouts_s

    assert (syn_s[1], aging_s[1], fin_s[1]) == (5, 600, 8)
