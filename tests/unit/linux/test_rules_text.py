"""The rendered rules, as golden files: `L4BOX_GOLDEN=write pytest …` rewrites them; read the difference."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from lb.linux.rules import (
    MARK_BASE,
    Ruleset,
    Service,
    Target,
    chain_name,
    marker,
    render,
    table_name,
)

GOLDEN = Path(__file__).parent / "golden"

WEB = Service(
    ip_address("192.0.2.10"),
    80,
    "tcp",
    10,
    (
        Target(MARK_BASE | 1, ip_address("10.80.1.2")),
        Target(MARK_BASE | 2, ip_address("10.80.2.2")),
    ),
)
WEB_TLS = Service(WEB.vip, 443, "tcp", 10, (Target(MARK_BASE | 3, ip_address("10.80.1.2")),))
DNS = Service(ip_address("192.0.2.53"), 53, "udp", 46, ())
WEB_IPV6 = Service(
    ip_address("2001:db8::10"), 80, "tcp", 10, (Target(MARK_BASE | 4, ip_address("fd00:80:1::2")),)
)

RULESETS = {
    "one-vip": render("web", 0, [WEB]),
    "two-families-three-vips": render("front-end", 7, [WEB, WEB_TLS, DNS, WEB_IPV6]),
    "kernel-rewrite": render("web", 0, [WEB], rewrite="kernel"),
}


def text_of(rules: Ruleset) -> str:
    return "".join(
        f"==== {one.family} {part}\n{getattr(one, part)}"
        for one in rules.families
        for part in ("table", "update", "chain")
    )


@pytest.mark.parametrize("name", RULESETS)
def test_the_rules_are_the_golden_ones(name: str) -> None:
    golden = GOLDEN / f"{name}.txt"
    text = text_of(RULESETS[name])
    if os.environ.get("L4BOX_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


def test_a_family_without_a_vip_has_no_rules() -> None:
    assert [one.family for one in render("web", 0, [WEB_IPV6]).families] == ["ip6"]
    assert render("web", 0, []).families == ()


def test_another_server_changes_the_nft_update_and_nothing_of_iptables() -> None:
    alone = render("web", 0, [DNS]).families[0]
    served = render(
        "web", 0, [Service(DNS.vip, 53, "udp", 46, (Target(MARK_BASE | 9, ip_address("10.0.0.9")),))]
    )
    assert served.families[0].update != alone.update
    assert served.families[0].chain == alone.chain


def test_names_of_every_length_fit_and_differ() -> None:
    names = ["a", "l4box", "a-b", "x" * 22, "x" * 23, "x" * 32, "x" * 31 + "y"]
    chains = [chain_name(name) for name in names]
    assert len(set(chains)) == len(names)
    assert max(map(len, chains)) <= 28
    assert len({table_name(name) for name in names}) == len(names)
    assert "-" not in table_name("a-b")


def test_a_box_never_takes_another_ones_rules_for_its_own() -> None:
    assert f'"{marker("web")}"' not in render("web-2", 0, [WEB]).families[0].table
