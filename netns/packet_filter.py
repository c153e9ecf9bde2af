"""The packet filter's rules in the caller's network namespace: nftables, and iptables of either kind.

Asked so often during a run that the rules are listed only when the kernel says that they have changed: by the
generation of nftables' rules, which iptables-nft shares. iptables-legacy has none.
"""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from netns.errors import LabError

LEGACY_POLL_S: Final = 0.25
"""Real seconds between two looks at iptables-legacy's rules: by so much a change of them may be late."""
LIST_S: Final = 10.0
"""Real seconds that listing the rules may take."""

NETLINK_NETFILTER: Final = 12
NFT_MSG_GETGEN: Final = 10 << 8 | 16
"""NFNL_SUBSYS_NFTABLES and the message of it: linux/netfilter/nf_tables.h."""
NLM_F_REQUEST: Final = 1
NLMSG_ERROR: Final = 2
NFTA_GEN_ID: Final = 1
_HEADER = struct.Struct("=IHHII")
_NFGENMSG: Final = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)

LEGACY_TABLES = Path("/proc/thread-self/net/ip_tables_names")
_STOPS = re.compile(r"\b(drop|reject|DROP|REJECT|TARPIT|STEAL)\b")
_POLICY = re.compile(r"policy (\w+);")


class PacketFilter:
    """Asks about the namespace that it was made in, from the thread that made it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._generation = -1
        self._nft: frozenset[str] = frozenset()
        self._legacy: frozenset[str] = frozenset()
        self._legacy_due = 0.0

    def rules(self) -> frozenset[str]:
        """Every rule, and every policy that drops, after its table and chain; without counters.

        LabError when they can't be listed.
        """
        generation = self._ask_generation()
        if generation != self._generation:
            self._nft = frozenset(nft_rules(_listed(["nft", "--stateless", "list", "ruleset"])))
            self._generation = generation
        if time.monotonic() >= self._legacy_due:
            self._legacy_due = time.monotonic() + LEGACY_POLL_S
            self._legacy = frozenset(legacy_rules(_legacy()))
        return self._nft | self._legacy

    def close(self) -> None:
        self._socket.close()

    def _ask_generation(self) -> int:
        """The number that each change of nftables' rules raises; 0 where the kernel has no nftables."""
        size = _HEADER.size + len(_NFGENMSG)
        self._socket.send(_HEADER.pack(size, NFT_MSG_GETGEN, NLM_F_REQUEST, 0, 0) + _NFGENMSG)
        data = self._socket.recv(4096)
        _, kind, *_ = _HEADER.unpack_from(data)
        if kind == NLMSG_ERROR:
            return 0
        place = size
        while place < len(data):
            length, attribute = struct.unpack_from("=HH", data, place)
            if attribute == NFTA_GEN_ID:
                return int.from_bytes(data[place + 4 : place + 8], "big")
            place += (length + 3) & ~3
        return 0


def stops(rule: str) -> bool:
    """Whether it drops or refuses what it matches."""
    return bool(_STOPS.search(rule.rpartition(": ")[2]))


def comes_from(rule: str, address: str) -> bool:
    """Whether it matches only packets from that address."""
    return bool(re.search(rf"(saddr|(?<!! )-s) {re.escape(address)}(/32)?(\s|$)", rule))


def spares(rule: str, ports: frozenset[int]) -> bool:
    """Whether it matches one port, and none of these."""
    found = re.search(r"\b[ds]port (\d+)(?:\s|$)", rule)
    return found is not None and int(found[1]) not in ports


def nft_rules(listing: str) -> Iterator[str]:
    """The rules of `nft list ruleset`: "ip filter INPUT: tcp dport 80 counter drop"."""
    table = chain = ""
    for line in map(str.strip, listing.splitlines()):
        match line.split():
            case ["table", family, name, "{"]:
                table = f"{family} {name}"
            case ["chain", name, "{"]:
                chain = name
            case ["}"]:
                chain = ""
            case ["type", *_] if chain and (policy := _POLICY.search(line)):
                if policy[1] != "accept":
                    yield f"{table} {chain}: policy {policy[1]}"
            case [_, *_] if chain:
                yield f"{table} {chain}: {line}"


def legacy_rules(listing: str) -> Iterator[str]:
    """The rules of `iptables-legacy-save`: "filter INPUT: -p tcp -m tcp --dport 80 -j DROP"."""
    table = ""
    for line in listing.splitlines():
        match line.split():
            case [mark] if mark.startswith("*"):
                table = mark[1:]
            case [chain, policy, _] if chain.startswith(":") and policy not in ("ACCEPT", "-"):
                yield f"{table} {chain[1:]}: policy {policy}"
            case ["-A", chain, *rule]:
                yield f"{table} {chain}: {' '.join(rule)}"


def _legacy() -> str:
    """What iptables-legacy says; "" where no table of it is in use: asking would load one."""
    try:
        used = LEGACY_TABLES.read_text().split()
    except OSError:
        used = []
    program = shutil.which("iptables-legacy-save")
    return _listed([program]) if used and program else ""


def _listed(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIST_S, check=False)
    if done.returncode:
        raise LabError(f"{argv[0]} can't list the packet filter's rules: {done.stderr.strip()}")
    return done.stdout
