"""What the box asks of netfilter, as text; pure. `netfilter.py` puts it in place.

iptables queues the packets for a VIP (nft's own `queue` is missing from some kernels); everything else is one
nft table per address family. The two tools never share a table; a comment in each says whose the rules are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

Address = IPv4Address | IPv6Address
Family = Literal["ip", "ip6"]
Rewrite = Literal["userspace", "kernel"]

MARK_BASE = 0x4C340000
"""Upper half of every mark of ours ("L4"); the lower half is a real server's number, 1 to 65535."""
MARK_MASK = 0xFFFF0000

_VERSIONS: dict[Family, int] = {"ip": 4, "ip6": 6}
_CHAIN_NAME_LIMIT = 28  # XT_EXTENSION_MAXNAMELEN, less its NUL


@dataclass(frozen=True, slots=True)
class Target:
    """A real server of a service, and the mark (MARK_BASE | number) that sends a packet to it."""

    mark: int
    address: Address


@dataclass(frozen=True, slots=True)
class Service:
    """A VIP and port; several services may share a VIP, and then its DSCP (1 to 63)."""

    vip: Address
    port: int
    protocol: Literal["tcp", "udp"]
    dscp: int
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class FamilyRules:
    """What the box needs of one address family."""

    family: Family
    table: str
    """nft input that creates our table."""
    update: str
    """nft input that makes a table of ours say the same as `table`, leaving chains and their hooks alone."""
    chain: str
    """iptables-restore lines of our chain in the mangle table, without the jump to it."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of the box `name`; a family without a VIP is not there."""

    name: str
    rewrite: Rewrite
    families: tuple[FamilyRules, ...]


def table_name(name: str) -> str:
    """The box's nft table; box names have dashes and no underscores, so this stays unique."""
    return f"l4box_{name.replace('-', '_')}"


def chain_name(name: str) -> str:
    """The box's iptables chain; a name too long for one is cut and told apart by a hash."""
    chain = f"l4box-{name}"
    if len(chain) <= _CHAIN_NAME_LIMIT:
        return chain
    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{chain[: _CHAIN_NAME_LIMIT - 9]}-{digest}"


def marker(name: str) -> str:
    """The comment that says an object was made by the box `name`."""
    return f"l4box:{name}"


def render(name: str, queue: int, services: Iterable[Service], rewrite: Rewrite = "userspace") -> Ruleset:
    """The rules that queue the services' packets to `queue` and send marked ones to their real server.

    With `rewrite` "userspace" only health probes carry a mark; with "kernel" the queue's verdicts do too.
    """
    services = tuple(services)
    return Ruleset(
        name,
        rewrite,
        tuple(
            _render_family(name, queue, family, own, rewrite)
            for family, version in _VERSIONS.items()
            if (own := [service for service in services if service.vip.version == version])
        ),
    )


def _render_family(
    name: str, queue: int, family: Family, services: Sequence[Service], rewrite: Rewrite
) -> FamilyRules:
    table = f"{family} {table_name(name)}"
    dscps = {service.vip: service.dscp for service in services}
    vips = ", ".join(map(str, dscps))
    servers = ", ".join(
        f"{target.mark:#x} : {target.address}" for service in services for target in service.targets
    )
    # The map comes first: a mark it does not know ends the rule before anything is written.
    rewrites = [
        f"{family} daddr {vip} {family} daddr set meta mark map @servers {family} dscp set {dscp} accept"
        for vip, dscp in dscps.items()
    ] + ["counter drop"]
    update = [
        f"flush set {table} vips",
        f"add element {table} vips {{ {vips} }}",
        f"flush map {table} servers",
        *([f"add element {table} servers {{ {servers} }}"] if servers else []),
        f"flush chain {table} to_server",
        *(f"add rule {table} to_server {rule}" for rule in rewrites),
    ]
    return FamilyRules(
        family,
        _table(name, family, vips, servers, rewrites, rewrite),
        "".join(f"{line}\n" for line in update),
        "".join(f"{line}\n" for line in _chain(name, queue, family, services)),
    )


def _table(name: str, family: Family, vips: str, servers: str, rewrites: list[str], rewrite: Rewrite) -> str:
    kind = f"ipv{_VERSIONS[family]}_addr"
    marked = f"meta mark & {MARK_MASK:#x} == {MARK_BASE:#x} {family} daddr @vips goto to_server"
    elements = f"\n\t\telements = {{ {servers} }}" if servers else ""
    to_server = "".join(f"\n\t\t{rule}" for rule in rewrites)
    packets = f"""
	# Packets that came back from the queue with a mark.
	chain packets {{
		type filter hook prerouting priority mangle + 10; policy accept;
		{marked}
	}}
"""
    return f"""\
create table {family} {table_name(name)} {{ comment "{marker(name)}"; }}
table {family} {table_name(name)} {{
	set vips {{
		type {kind}
		elements = {{ {vips} }}
	}}

	map servers {{
		type mark : {kind}{elements}
	}}

	# The box sees one direction only: conntrack could make no sense of it, and would fill up.
	chain from_clients {{
		type filter hook prerouting priority raw; policy accept;
		{family} daddr @vips notrack
	}}

	chain from_box {{
		type filter hook output priority raw; policy accept;
		{family} saddr @vips notrack
	}}

	# Never jumped to. A rule that asks for conntrack state makes the kernel put fragments together before
	# prerouting; without that all but the first have no ports, miss the queue and loop.
	chain defragment {{
		ct state untracked
	}}

	# What is still addressed to a VIP would come back from the next router until its TTL is used up.
	chain loops {{
		type filter hook forward priority filter; policy accept;
		{family} daddr @vips counter drop
	}}

	# A mark without a server must not leave: it would come back as a client's packet.
	chain to_server {{{to_server}
	}}

	# Health probes take the path of clients' packets: to the VIP, sent to the server by their mark.
	chain probes {{
		type route hook output priority mangle; policy accept;
		{marked}
	}}
{packets if rewrite == "kernel" else ""}}}
"""


def _chain(name: str, queue: int, family: Family, services: Sequence[Service]) -> Iterator[str]:
    chain, comment = chain_name(name), f'-m comment --comment "{marker(name)}"'
    to_queue = f"-j NFQUEUE --queue-num {queue}"
    yield f":{chain} - [0:0]"
    for service in services:
        protocol = service.protocol
        port = f"-p {protocol} -m {protocol} --dport {service.port}"
        yield f"-A {chain} -d {service.vip} {port} {comment} {to_queue}"
    # Errors about a session's packets (a smaller path MTU, say) must reach the session's server.
    icmp = "icmp" if family == "ip" else "ipv6-icmp"
    for vip in dict.fromkeys(service.vip for service in services):
        yield f"-A {chain} -d {vip} -p {icmp} {comment} {to_queue}"
