"""Watches what happens to the servers while something else acts on them: a deploy's own commands, say.

Whoever renames a health file, stops a web server, takes a VIP down or changes the packet filter need not
tell: a server is looked at every POLL_S, and each change is noted with its time. One whose container is gone,
with its network, does not listen; of the rest nothing is known until it has a container again.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address

from netns.errors import Gone, LabError
from netns.lab.interface import Lab, Network
from netns.linux.packet_filter import PacketFilter, Rule, is_about, spares
from netns.linux.sock_diag import Listeners
from netns.plan.topology import Node, Role
from netns.record.recording import Change, Fact

POLL_S = 0.01
"""Real seconds between two looks at a server: by so much a change's time may be late."""

GONE_POLL_S = 0.05
"""One whose container is gone is asked for less often: that takes the engine's time."""


class ServerWatch:
    """Runs from start() to stop(). `changes` only grows, so it may be read meanwhile.

    It begins with what held at the start: a change per server and fact.
    """

    def __init__(self, lab: Lab, at: Callable[[float], float]) -> None:
        """`at` turns CLOCK_MONOTONIC seconds into the run's time."""
        self.changes: list[Change] = []
        self._at = at
        self._over = threading.Event()
        self._begun = threading.Barrier(len(lab.plan.servers) + 1)
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._watch, args=(lab, node.name), daemon=True)
            for node in lab.plan.servers
        ]

    def start(self) -> None:
        """Return when each server has been looked at once."""
        for thread in self._threads:
            thread.start()
        try:
            self._begun.wait()
        except threading.BrokenBarrierError:
            self.check()

    def check(self) -> None:
        """Raise LabError when the watch has ended by itself."""
        if self._failure is not None:
            raise LabError(f"the servers can't be watched any more: {self._failure}") from self._failure

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _watch(self, lab: Lab, server: str) -> None:
        known: dict[Fact, bool] = {}
        try:
            while not self._over.is_set():
                with suppress(Gone):
                    network = lab.network(server)
                    network.inside(partial(self._look_on, lab, server, network, known))
                if not self._over.is_set():
                    self._note(server, known, {Fact.CONTAINER: False, Fact.LISTENING: False})
                    self._over.wait(GONE_POLL_S)
        except Exception as error:  # noqa: BLE001 - check() raises it where the run is
            self._failure = error
            self._begun.abort()

    def _look_on(self, lab: Lab, server: str, network: Network, known: dict[Fact, bool]) -> None:
        """Look at the server, from within its network, until that is gone or it is over."""
        files = lab.health_files(server)
        vips = [entry.address for entry in lab.plan.node(server).vips]
        clients = [node.address for node in lab.plan.of(Role.CLIENT)]
        services = [(service.vip, service.port) for service in lab.config.services_of(server)]
        listeners, rules = Listeners(), _Rules(lab, server)
        try:
            while network.there:
                facts = {
                    **rules.facts(),
                    Fact.LISTENING: all(port in listeners.ports_at(vip) for vip, port in services),
                    Fact.VIP: all(map(_is_local, vips)),
                    Fact.ROUTE: all(map(_has_route, clients)),
                }
                if files:  # else it is not known where they are
                    facts[Fact.HEALTH_FILE] = all(file.exists() for file in files)
                if Fact.CONTAINER in known:  # it was gone: elsewhere there is nothing to tell
                    facts[Fact.CONTAINER] = True
                if network.there:  # else its files have gone before they were looked at
                    self._note(server, known, facts)
                if self._over.wait(POLL_S):
                    return
        finally:
            listeners.close()
            rules.close()

    def _note(self, server: str, known: dict[Fact, bool], facts: Mapping[Fact, bool]) -> None:
        now = self._at(time.monotonic())  # after the look: a change is never dated before it was
        first = not known
        for fact, holds in facts.items():
            if known.get(fact) is not holds:
                self.changes.append(Change(now, server, fact, holds))
        known.update(facts)
        if first:
            self._begun.wait()


class _Rules:
    """A server's packet filter, against what it was at first in this network."""

    def __init__(self, lab: Lab, server: str) -> None:
        self._filter = PacketFilter()
        self._node = lab.plan.node(server)
        self._checker = str(lab.plan.box.address)
        self._ports = frozenset(lab.config.ports_of(server))
        first = self._filter.rules()
        self._stopping = self._stopping_clients(first)
        self._had_dsr = _has_dsr_rules(first, self._node)

    def facts(self) -> dict[Fact, bool]:
        rules = self._filter.rules()
        facts = {Fact.FILTER: self._stopping_clients(rules) <= self._stopping}
        if self._had_dsr:
            facts[Fact.DSR_RULE] = _has_dsr_rules(rules, self._node)
        return facts

    def close(self) -> None:
        self._filter.close()

    def _stopping_clients(self, rules: frozenset[Rule]) -> frozenset[Rule]:
        """Those that may stop packets of others than the box's health checks to a virtual server."""
        return frozenset(
            rule
            for rule in rules
            if rule.stops and not is_about(rule, self._checker) and not spares(rule, self._ports)
        )


def _has_dsr_rules(rules: frozenset[Rule], node: Node) -> bool:
    """Whether there is one for each of the node's VIPs (netns/plan/topology.py: dsr_ruleset)."""
    return all(
        any(
            f"ip daddr {node.address} " in rule.text and f"ip daddr set {vip.address}" in rule.text
            for rule in rules
        )
        for vip in node.vips
    )


def _has_route(address: IPv4Address) -> bool:
    """Whether this namespace's kernel knows a way to the address: connecting a UDP socket asks it, and sends
    nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                return False  # no route, or one of type unreachable, prohibit or blackhole
            raise
    return True


def _is_local(address: IPv4Address) -> bool:
    """Whether the address is one of this namespace's: only then can a socket have it for its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True
