"""Puts the box's rules in place and takes them away: one nft transaction, one iptables transaction a family.

Nothing that is not ours is changed, and a comment says what is. Our name met without the comment is somebody
else's (`NameTaken`); with it, it was left by a daemon that was killed, and is replaced. The caller holds the
name's lock (`lock.py`), so no live daemon owns it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from lb.linux.rules import Family, FamilyRules, Ruleset, chain_name, marker, table_name

SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Where `nft` and `iptables` are looked for: Debian's `su` and cron leave sbin out of PATH."""

_IPTABLES: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}
_COMMAND_TIMEOUT_S = 30
_LOCK_WAIT_S = "5"  # the xtables lock of iptables-legacy
_MADE_BASE_CHAIN = ", made PREROUTING"


class RulesError(Exception):
    """The rules are not in place."""


class RulesRefused(RulesError):
    """`nft` or `iptables` refused; the message has the command and its own words."""


class NameTaken(RulesError):
    """Something of our name exists that l4box did not make; the message says how to get rid of it."""


def install(rules: Ruleset) -> None:
    """Put the rules in place, in place of leftovers of the same name.

    Raises NameTaken before anything is changed; RulesRefused after undoing what was done.
    """
    leftovers = [family for family in _families() if _our_table(family, rules.name)]
    for family in _families():
        _our_chain(family, rules.name)
    script = "".join(f"delete table {family} {table_name(rules.name)}\n" for family in leftovers)
    script += "".join(one.table for one in rules.families)
    try:
        _nft(script)
        for one in rules.families:
            _start_queueing(one, rules.name)
        for family in set(_families()) - {one.family for one in rules.families}:
            _stop_queueing(family, rules.name)
    except RulesRefused:
        remove(rules.name)
        raise


def update(old: Ruleset, new: Ruleset) -> None:
    """Make `new` of the installed `old`, in one nft transaction; packets in the queue stay there.

    Both have one name and one `rewrite`: another one needs another hook, and removing a hook drops what is
    queued (so does removing the last VIP of an address family). iptables is left alone unless VIPs, ports or
    the queue changed. Raises RulesRefused with `old` back in place. If the rules were removed behind our back
    (somebody ran `nft flush ruleset`) an update is refused; `install` is what helps.
    """
    if (old.name, old.rewrite) != (new.name, new.rewrite):
        raise ValueError("an update keeps the name and the way of rewriting")
    _nft(_difference(old, new))
    try:
        _queue_difference(old, new)
    except RulesRefused:
        _nft(_difference(new, old))
        _queue_difference(new, old)
        raise


def _difference(old: Ruleset, new: Ruleset) -> str:
    before = {one.family for one in old.families}
    gone = before - {one.family for one in new.families}
    return "".join(one.update if one.family in before else one.table for one in new.families) + "".join(
        f"delete table {family} {table_name(old.name)}\n" for family in gone
    )


def _queue_difference(old: Ruleset, new: Ruleset) -> None:
    before = {one.family: one.chain for one in old.families}
    for one in new.families:
        if before.get(one.family) != one.chain:
            _start_queueing(one, new.name)
    for family in before.keys() - {one.family for one in new.families}:
        _stop_queueing(family, old.name)


def remove(name: str) -> None:
    """Remove the rules of the box `name`, if there are any; nothing else. Raises RulesRefused."""
    for family in _families():
        try:
            _stop_queueing(family, name)
        except NameTaken:
            continue
    for family in _families():
        try:
            if _our_table(family, name):
                _nft(f"delete table {family} {table_name(name)}\n")
        except NameTaken:
            continue


def _families() -> list[Family]:
    return ["ip", "ip6"] if Path("/proc/sys/net/ipv6").exists() else ["ip"]


def _our_table(family: Family, name: str) -> bool:
    """Whether our table is there; raises NameTaken when it is not ours."""
    table = f"{family} {table_name(name)}"
    if f"table {table}" not in run("nft", "list", "tables").splitlines():
        return False
    if f'comment "{marker(name)}"' in run("nft", "--terse", "list", "table", *table.split()):
        return True
    raise NameTaken(
        f"the nft table {table!r} exists and was not made by l4box; "
        f"use another name or, if nobody needs it: nft delete table {table}"
    )


def _our_chain(family: Family, name: str) -> list[str] | None:
    """The jumps to our chain, as iptables-save prints them; None without a chain; raises NameTaken."""
    chain = chain_name(name)
    saved = run(f"{_IPTABLES[family]}-save", "-t", "mangle").splitlines()
    if not any(line.startswith(f":{chain} ") for line in saved):
        return None
    ours = [line for line in saved if line.startswith("-A ") and _is_ours(line, name)]
    if not ours:
        jumps = [line for line in saved if line.endswith((f" -j {chain}", f" -g {chain}"))]
        deletions = [*(f"-D{jump[2:]}" for jump in jumps), f"-F {chain}", f"-X {chain}"]
        commands = " && ".join(f"{_IPTABLES[family]} -t mangle {deletion}" for deletion in deletions)
        raise NameTaken(
            f"the {_IPTABLES[family]} chain {chain!r} exists in the mangle table and was not made by l4box; "
            f"use another name or, if nobody needs it: {commands}"
        )
    return [line for line in ours if line.startswith("-A PREROUTING ") and line.endswith(f" -j {chain}")]


def _is_ours(line: str, name: str) -> bool:
    words = shlex.split(line)
    return marker(name) in words or marker(name) + _MADE_BASE_CHAIN in words


def _start_queueing(one: FamilyRules, name: str) -> None:
    """Fill our chain, in place of what it has, and jump to it if nothing does."""
    jump = ""
    if not _our_chain(one.family, name):
        chain, made = chain_name(name), "" if _has_base_chain(one.family) else _MADE_BASE_CHAIN
        jump = f'-A PREROUTING -m comment --comment "{marker(name)}{made}" -j {chain}\n'
    _restore(one.family, one.chain + jump)


def _stop_queueing(family: Family, name: str) -> None:
    """Remove our chain and the jumps to it, and the base chain and table that iptables made for it."""
    jumps = _our_chain(family, name)
    if jumps is None:
        return
    chain = chain_name(name)
    deletions = "".join(f"-D{jump[2:]}\n" for jump in jumps)
    _restore(family, f"{deletions}-F {chain}\n-X {chain}\n")
    if any(_MADE_BASE_CHAIN in jump for jump in jumps):
        _remove_empty_mangle_table(family)


def _has_base_chain(family: Family) -> bool:
    try:
        run("nft", "list", "chain", family, "mangle", "PREROUTING")
    except RulesRefused:
        return False
    return True


def _remove_empty_mangle_table(family: Family) -> None:
    """Remove PREROUTING and then the table, each only if nobody has put anything in it since."""
    # iptables refuses to delete a chain that has rules or a policy. `create` fails if the chain is there by
    # now, and with it the deletion of the table, which is in the same transaction.
    builtin = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
    no_chains = "".join(f"create chain {family} mangle {chain}\n" for chain in builtin)
    try:
        run(_IPTABLES[family], "-w", _LOCK_WAIT_S, "-t", "mangle", "-X", "PREROUTING")
        _nft(f"{no_chains}delete table {family} mangle\n")
    except RulesRefused:
        return


def _nft(script: str) -> None:
    """Run a script as one transaction."""
    run("nft", "-f", "-", text=script)


def _restore(family: Family, lines: str) -> None:
    """Change the mangle table in one transaction."""
    command = (f"{_IPTABLES[family]}-restore", "--noflush", "--wait", _LOCK_WAIT_S)
    run(*command, text=f"*mangle\n{lines}COMMIT\n")


def run(*command: str, text: str = "") -> str:
    """The command's output for an input; raises RulesRefused."""
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            env={**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RulesRefused(f"{shlex.join(command)}: {error}") from error
    if done.returncode:
        raise RulesRefused(f"{shlex.join(command)}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout
