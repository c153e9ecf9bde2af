"""The packet filter's rules in the caller's network namespace: nftables, and iptables of either kind.

Asked so often during a run that the rules are listed only when the kernel says that they have changed: by the
generation of nftables' rules, which iptables-nft shares. iptables-legacy has none.

A rule is read as words. A quoted string (a comment, a log prefix, an interface) is one word, and no verdict.
"""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
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
_NFT_WORD = re.compile(r'"[^"]*"|[^\s,;"]+')
"""nft has no escapes in a string: a backslash may be its last character."""
_LEGACY_WORD = re.compile(r'"(?:\\.|[^"\\])*"|[^\s"]+')
"""iptables-save puts a backslash before a quotation mark in a string."""
_REFUSING_TARGETS: Final = frozenset({"DROP", "REJECT", "TARPIT", "STEAL"})
"""Of iptables and xtables-addons."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, or the policy of a chain."""

    table: str
    """nftables' with its family, "ip filter"; iptables-legacy's "filter"."""
    chain: str
    text: str
    """As it is listed; "policy drop" for a policy."""
    words: tuple[str, ...]
    """Of the text."""
    stops: bool
    """It drops or refuses what it matches."""


class PacketFilter:
    """Asks about the namespace that it was made in, from the thread that made it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._generation = -1
        self._nft: frozenset[Rule] = frozenset()
        self._legacy: frozenset[Rule] = frozenset()
        self._legacy_due = 0.0
        self._listed_once = False

    def rules(self) -> frozenset[Rule]:
        """Every rule, and every policy that does not accept; without counters.

        LabError when the first look fails. When a later one fails, the rules are those of the last that did
        not, and the next look tries again.
        """
        try:
            self._look()
            self._listed_once = True
        except LabError:
            if not self._listed_once:
                raise
        return self._nft | self._legacy

    def _look(self) -> None:
        generation = self._ask_generation()
        if generation != self._generation:
            self._nft = frozenset(nft_rules(_listed(["nft", "--stateless", "list", "ruleset"])))
            self._generation = generation
        if time.monotonic() >= self._legacy_due:
            self._legacy_due = time.monotonic() + LEGACY_POLL_S
            self._legacy = frozenset(legacy_rules(_legacy()))

    def close(self) -> None:
        self._socket.close()

    def _ask_generation(self) -> int:
        """The number that each change of nftables' rules raises; 0 where the kernel has no nftables."""
        size = _HEADER.size + len(_NFGENMSG)
        try:
            self._socket.send(_HEADER.pack(size, NFT_MSG_GETGEN, NLM_F_REQUEST, 0, 0) + _NFGENMSG)
            data = self._socket.recv(4096)
        except OSError as error:  # ENOBUFS, say
            raise LabError(f"the kernel can't be asked for its packet filter's rules: {error}") from error
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


def is_about(rule: Rule, address: str) -> bool:
    """Whether it matches only packets from that address, or only those to it."""
    options = {"saddr", "daddr", "-s", "-d"}
    return _matches(rule, lambda option, value: option in options and value in (address, f"{address}/32"))


def spares(rule: Rule, ports: frozenset[int]) -> bool:
    """Whether it matches one port, and none of these."""
    options = {"sport", "dport", "--sport", "--dport"}
    return _matches(
        rule, lambda option, value: option in options and value.isdigit() and int(value) not in ports
    )


def _matches(rule: Rule, wanted: Callable[[str, str], bool]) -> bool:
    """Whether one of its options has a value that is wanted; an option that iptables negates (!) has not."""
    before = ("", *rule.words)
    return any(
        wanted(option, value) and previous != "!"
        for previous, (option, value) in zip(before, pairwise(rule.words), strict=False)
    )


def nft_rules(listing: str) -> Iterator[Rule]:
    """The rules of `nft list ruleset`; a dormant table has none that apply."""
    table = chain = begun = ""
    dormant = False
    for line in map(str.strip, listing.splitlines()):
        text = f"{begun} {line}" if begun else line
        words = tuple(_NFT_WORD.findall(text))
        if chain and line != "}" and words.count("{") > words.count("}"):
            begun = text  # a set in the rule goes on in the next line
            continue
        begun = ""
        match words:
            case ["table", family, name, "{"]:
                table, dormant = f"{family} {name}", False
            case ["flags", *flags] if not chain:
                dormant |= "dormant" in flags
            case ["chain", name, "{"]:
                chain = name
            case ["}"]:
                chain = ""
            case [] | ["comment", _]:
                pass
            case ["type", *rest] if chain:
                policy = rest[rest.index("policy") + 1] if "policy" in rest else "accept"
                if policy != "accept" and not dormant:
                    yield Rule(table, chain, f"policy {policy}", ("policy", policy), stops=True)
            case _ if chain and not dormant:
                yield Rule(table, chain, text, words, _nft_stops(words))


def _nft_stops(words: tuple[str, ...]) -> bool:
    """By a verdict, of a verdict map too, or by a target of iptables-nft: `xt target "REJECT"`."""
    return any(
        (word in ("drop", "reject") and before not in ("jump", "goto"))
        or (before == "target" and word.strip('"') in _REFUSING_TARGETS)
        for before, word in pairwise(("", *words))
    )


def legacy_rules(listing: str) -> Iterator[Rule]:
    """The rules of `iptables-legacy-save`."""
    table = ""
    for line in listing.splitlines():
        match _LEGACY_WORD.findall(line):
            case [mark] if mark.startswith("*"):
                table = mark[1:]
            case [chain, policy, _] if chain.startswith(":") and policy not in ("ACCEPT", "-"):
                yield Rule(table, chain[1:], f"policy {policy}", ("policy", policy), stops=True)
            case ["-A", chain, *words]:
                refuses = any(
                    option == "-j" and target in _REFUSING_TARGETS for option, target in pairwise(words)
                )
                yield Rule(table, chain, " ".join(words), tuple(words), refuses)


def _legacy() -> str:
    """What iptables-legacy says; "" where no table of it is in use: asking would load one."""
    try:
        used = LEGACY_TABLES.read_text().split()
    except OSError:
        used = []
    program = shutil.which("iptables-legacy-save")
    return _listed([program]) if used and program else ""


def _listed(argv: list[str]) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=LIST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{argv[0]} can't list the packet filter's rules: {error}") from error
    if done.returncode:
        raise LabError(f"{argv[0]} can't list the packet filter's rules: {done.stderr.strip()}")
    return done.stdout
