"""Each scheduler against an oracle of its own, written from its description and not from its code."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.core import scheduler as scheduler_module
from lb.core.scheduler import SCHEDULERS, LeastConnections, RoundRobin, SourceHash, WeightedRoundRobin

ANYONE = b"\xc6\x33\x64\x07"


@dataclass(slots=True)
class Server:
    name: str
    weight: int = 1
    sessions: int = 0


def servers(*weights: int) -> list[Server]:
    return [Server("abcdefgh"[place], weight) for place, weight in enumerate(weights)]


weights = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def test_the_four_schedulers_by_the_names_the_configuration_uses() -> None:
    known = {
        "round-robin": RoundRobin,
        "weighted-round-robin": WeightedRoundRobin,
        "least-connections": LeastConnections,
        "source-hash": SourceHash,
    }
    assert known == SCHEDULERS


@pytest.mark.parametrize("name", SCHEDULERS)
def test_new_flows_go_only_to_the_servers_last_bound(name: str) -> None:
    chosen = SCHEDULERS[name]()
    for bound in (servers(1, 2, 3), servers(1, 2, 3)[:1], servers(4, 5, 6, 7), servers(1, 2, 3)[1:]):
        chosen.bind(bound)
        picked = [chosen.pick(bytes([10, 0, 0, client])) for client in range(200)]
        assert {server.name for server in picked} == {server.name for server in bound}


# Round robin


@given(st.integers(1, 8), st.integers(0, 40))
def test_round_robin_takes_each_in_turn(count: int, picks: int) -> None:
    bound = servers(*[1] * count)
    chosen: RoundRobin[Server] = RoundRobin()
    chosen.bind(bound)

    assert [chosen.pick(ANYONE) for _ in range(picks)] == list(islice(cycle(bound), picks))


@given(st.lists(st.integers(1, 8), min_size=1, max_size=10), st.integers(0, 9))
def test_round_robin_stays_fair_while_the_binding_list_changes(counts: list[int], picks: int) -> None:
    chosen: RoundRobin[Server] = RoundRobin()
    for count in counts:
        bound = servers(*[1] * count)
        chosen.bind(bound)
        for _ in range(picks):
            chosen.pick(ANYONE)

        times = Counter(chosen.pick(ANYONE).name for _ in range(3 * count))

        assert times == {server.name: 3 for server in bound}


# Weighted round robin


@pytest.mark.parametrize(
    ("shares", "order"), [((3, 1), "aaba"), ((5, 1, 1), "aabacaa"), ((1, 1, 1), "abc"), ((2, 2), "abab")]
)
def test_weighted_round_robin_in_the_order_others_document(shares: tuple[int, ...], order: str) -> None:
    """5, 1, 1 is the example of nginx's change that brought this order."""
    chosen: WeightedRoundRobin[Server] = WeightedRoundRobin()
    chosen.bind(servers(*shares))

    assert "".join(chosen.pick(ANYONE).name for _ in range(2 * len(order))) == order * 2


@given(weights)
def test_weighted_round_robin_gives_each_its_weight_in_every_round(shares: list[int]) -> None:
    bound = servers(*shares)
    chosen: WeightedRoundRobin[Server] = WeightedRoundRobin()
    chosen.bind(bound)

    for _ in range(3):
        times = Counter(chosen.pick(ANYONE).name for _ in range(sum(shares)))
        assert times == {server.name: server.weight for server in bound}


@given(weights)
def test_weighted_round_robin_never_runs_a_whole_flow_ahead_of_the_weights(shares: list[int]) -> None:
    bound = servers(*shares)
    chosen: WeightedRoundRobin[Server] = WeightedRoundRobin()
    chosen.bind(bound)
    times: Counter[str] = Counter()

    for picks in range(1, 2 * sum(shares) + 1):
        picked = chosen.pick(ANYONE)
        times[picked.name] += 1
        assert times[picked.name] < Fraction(picks * picked.weight, sum(shares)) + 1


def test_weighted_round_robin_with_a_server_lost_and_back_is_fair_at_once() -> None:
    a, b, c = servers(3, 2, 1)
    chosen: WeightedRoundRobin[Server] = WeightedRoundRobin()
    for bound in ([a, b, c], [a, c], [a, b, c]):
        chosen.bind(bound)
        rounds = 4
        picks = rounds * sum(server.weight for server in bound)
        times = Counter(chosen.pick(ANYONE).name for _ in range(picks))
        for server in bound:
            assert abs(times[server.name] - rounds * server.weight) <= 1


# Least connections


@given(weights, st.lists(st.integers(0, 5) | st.none(), max_size=60))
def test_least_connections_takes_the_fewest_for_the_weight_and_the_longest_waiting_of_equals(
    shares: list[int], happenings: list[int | None]
) -> None:
    """A number ends a session of that server, None opens one."""
    bound = servers(*shares)
    chosen: LeastConnections[Server] = LeastConnections()
    chosen.bind(bound)
    last_turn = {server.name: place - len(bound) for place, server in enumerate(bound)}

    for turn, ended in enumerate(happenings):
        if ended is not None:
            server = bound[ended % len(bound)]
            server.sessions = max(0, server.sessions - 1)
            continue
        fewest = min(Fraction(server.sessions, server.weight) for server in bound)
        equals = [server for server in bound if Fraction(server.sessions, server.weight) == fewest]
        wanted = min(equals, key=lambda server: last_turn[server.name])

        picked = chosen.pick(ANYONE)

        assert picked is wanted
        picked.sessions += 1
        last_turn[picked.name] = turn


def test_least_connections_on_an_idle_box_takes_turns() -> None:
    bound = servers(1, 1, 1)
    chosen: LeastConnections[Server] = LeastConnections()
    chosen.bind(bound)

    assert "".join(chosen.pick(ANYONE).name for _ in range(6)) == "abcabc"


def test_least_connections_leaves_the_binding_list_as_it_is() -> None:
    bound = servers(1, 1, 1)
    chosen: LeastConnections[Server] = LeastConnections()
    chosen.bind(bound)
    chosen.pick(ANYONE)

    assert bound == servers(1, 1, 1)


# Source hash


def clients(count: int) -> list[bytes]:
    return [bytes([100, 64 + number // 65536, number // 256 % 256, number % 256]) for number in range(count)]


def winner(client: bytes, bound: list[Server]) -> Server:
    """The draw as the paper has it: u to the power of 1/weight, the greatest wins."""
    draws = {}
    for server in bound:
        digest = hashlib.blake2b(client, key=server.name.encode(), digest_size=8).digest()
        u = (int.from_bytes(digest, "big") + 0.5) / 2**64
        draws[server.name] = u ** (1 / server.weight)
    return max(bound, key=lambda server: draws[server.name])


@given(weights, st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_source_hash_is_the_weighted_rendezvous(shares: list[int], client: bytes) -> None:
    bound = servers(*shares)
    chosen: SourceHash[Server] = SourceHash()
    chosen.bind(bound)

    assert chosen.pick(client) is winner(client, bound)


@given(st.permutations(servers(1, 2, 3, 4)), st.binary(min_size=4, max_size=4))
def test_source_hash_does_not_depend_on_the_order_of_the_list(order: list[Server], client: bytes) -> None:
    first: SourceHash[Server] = SourceHash()
    second: SourceHash[Server] = SourceHash()
    first.bind(sorted(order, key=lambda server: server.name))
    second.bind(order)

    assert first.pick(client).name == second.pick(client).name


def test_source_hash_moves_only_the_flows_of_the_server_that_left() -> None:
    bound = servers(1, 1, 1, 1)
    chosen: SourceHash[Server] = SourceHash()
    chosen.bind(bound)
    before = {client: chosen.pick(client).name for client in clients(1000)}
    chosen.bind(bound[:2] + bound[3:])

    moved = {before[client] for client in clients(1000) if chosen.pick(client).name != before[client]}

    assert moved == {"c"}


def test_source_hash_shares_clients_out_by_weight() -> None:
    bound = servers(1, 2, 5)
    chosen: SourceHash[Server] = SourceHash()
    chosen.bind(bound)

    times = Counter(chosen.pick(client).name for client in clients(8000))

    for server in bound:
        assert times[server.name] == pytest.approx(1000 * server.weight, rel=0.1)


def test_source_hash_survives_the_draw_that_rounds_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class HighestDraw:
        def __init__(self, *_: object, **__: object) -> None: ...

        def digest(self) -> bytes:
            return b"\xff" * 8

    monkeypatch.setattr(scheduler_module, "blake2b", HighestDraw)
    chosen: SourceHash[Server] = SourceHash()
    chosen.bind(servers(1, 2))

    assert chosen.pick(ANYONE).name == "a"
