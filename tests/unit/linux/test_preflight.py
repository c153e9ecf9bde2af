"""What is said about a machine that can't run the box, or can but will not do L3DSR."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lb.linux import netfilter, preflight

ROOT = "Name:\tl4box\nCapEff:\t000001ffffffffff\n"
NOBODY = "Name:\tl4box\nCapEff:\t0000000000000000\n"
CONTAINER = "Name:\tl4box\nCapEff:\t00000000a80425fb\n"  # what an engine gives by default: NET_RAW only

Machine = Callable[[dict[str, str]], Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A /proc/sys/net as a router in front of no trap has it, with some settings changed."""

    def make(settings: dict[str, str]) -> Path:
        right = {
            "ipv4/ip_forward": "1",
            **{
                f"ipv4/conf/{name}/send_redirects": "0" for name in ("all", "default", "lo", "eth0", "eth1.5")
            },
            **{f"ipv4/conf/{name}/rp_filter": "0" for name in ("all", "default", "lo", "eth0", "eth1.5")},
            "ipv6/conf/all/forwarding": "1",
        }
        for key, value in (right | settings).items():
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
        return tmp_path

    return make


def test_a_machine_set_up_for_l3dsr_gets_no_warning(machine: Machine) -> None:
    assert preflight.warnings((4, 6), machine({})) == []


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"ipv4/ip_forward": "0"}, "packets will not leave the box: sysctl -w net.ipv4.ip_forward=1"),
        ({"ipv4/conf/all/send_redirects": "1"}, "net/ipv4/conf/all/send_redirects=0"),
        ({"ipv4/conf/eth1.5/send_redirects": "1"}, "net/ipv4/conf/eth1.5/send_redirects=0"),
        ({"ipv4/conf/eth0/rp_filter": "1"}, "filter of eth0 drops"),
        ({"ipv4/conf/all/rp_filter": "1"}, "filter of eth0, eth1.5 drops"),
        ({"ipv6/conf/all/forwarding": "0"}, "sysctl -w net.ipv6.conf.all.forwarding=1"),
    ],
)
def test_a_setting_that_breaks_l3dsr_is_named_with_its_fix(
    machine: Machine, settings: dict[str, str], warning: str
) -> None:
    (found,) = preflight.warnings((4, 6), machine(settings))
    assert warning in found


def test_a_loose_reverse_path_filter_outweighs_a_strict_one(machine: Machine) -> None:
    settings = {"ipv4/conf/all/rp_filter": "2", "ipv4/conf/eth0/rp_filter": "1"}
    assert preflight.warnings((4,), machine(settings)) == []


def test_settings_of_a_family_without_a_vip_do_not_matter(machine: Machine) -> None:
    assert preflight.warnings((4,), machine({"ipv6/conf/all/forwarding": "0"})) == []
    assert preflight.warnings((6,), machine({"ipv4/ip_forward": "0"})) == []


@pytest.mark.parametrize(
    ("status", "problems"),
    [
        (ROOT, []),
        (NOBODY, ["CAP_NET_ADMIN and CAP_NET_RAW missing"]),
        (CONTAINER, ["CAP_NET_ADMIN missing"]),
    ],
)
def test_missing_capabilities_are_named(status: str, problems: list[str]) -> None:
    found = list(preflight._missing_capabilities(status))
    assert [problem.split(":")[0] for problem in found] == problems


def test_missing_tools_are_named_with_the_package_they_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tool(tmp_path, "iptables", "exit 0")
    monkeypatch.setattr(netfilter, "SEARCH_PATH", str(tmp_path))
    assert list(preflight._missing_tools((4,))) == [
        "nft not found: apt-get install nftables",
        "iptables-save not found: apt-get install iptables",
        "iptables-restore not found: apt-get install iptables",
    ]


def test_a_kernel_that_refuses_the_rules_is_reported_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tool(tmp_path, "nft", "echo 'Operation not supported' >&2; exit 1")
    fake_tool(tmp_path, "iptables-restore", "echo 'unknown option \"--queue-balance\"' >&2; exit 2")
    monkeypatch.setattr(netfilter, "SEARCH_PATH", f"{tmp_path}:/usr/bin:/bin")
    rules, queue = preflight._missing_kernel_features((4,))
    assert "IPv4 nft rules" in rules
    assert "Operation not supported" in rules
    assert "modprobe xt_NFQUEUE" in queue
    assert "--queue-balance" in queue


def fake_tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
