"""Reset On Port Fail (SPEC §5): resets go where, with which numbers, at which pace, and what follows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scapy.packet import Packet

from lb.core.events import Drained, Removal, ResetEnded, ResetReason, ResetStarted, SessionRemoved
from lb.core.health import ServerState
from lb.core.service import CheckSettings, ResetSettings, ServiceSettings
from lb.core.session_resets import BUDGET, PROBES, Outcome

from .dialogue import (
    CLIENT,
    CLIENT6,
    ISN,
    REFUSED,
    VIP,
    VIP6,
    Dialogue,
    packed,
    service,
    tcp,
    udp,
    vip_of,
)

NAIVE = ResetSettings(on_port_fail=True, precise=False)
PRECISE = ResetSettings(on_port_fail=True)


def web(reset: ResetSettings = PRECISE, **settings: Any) -> ServiceSettings:
    """A server fails at its first missed check, to keep the dialogues short."""
    settings.setdefault("servers", ("rs1", "rs2"))
    return service(reset=reset, check=CheckSettings(retries=0), **settings)


def talk_of(
    reset: ResetSettings = PRECISE, *, ports: int = 2, speed: float = 1.0, **settings: Any
) -> Dialogue:
    """A client with an established session on each of these ports, the odd ones on rs1."""
    talk = Dialogue(web(reset, **settings), speed=speed, session_events=True)
    for port in range(1, ports + 1):
        connect(talk, port)
    talk.take_events()
    return talk


def connect(talk: Dialogue, port: int, client: str = CLIENT) -> str:
    """Its segments end at ISN + 11, and it expects 500 + port."""
    server = talk.send(tcp("S", seq=ISN, port=port, client=client))
    talk.send(tcp("PA", seq=ISN + 1, ack=500 + port, data=b"0123456789", port=port, client=client))
    return server


def fail(talk: Dialogue, *servers: str) -> None:
    for server in servers:
        talk.answers[server] = REFUSED
    for server in servers:
        talk.wait_for_state(server, ServerState.FAILED)
    talk.wait(0)


def idle_then_fail(talk: Dialogue, *servers: str) -> None:
    talk.wait(30)
    fail(talk, *servers)


def numbers(packet: Packet) -> tuple[str, int, int]:
    return str(packet[TCP].flags), packet[TCP].seq, packet[TCP].ack


def outcomes(talk: Dialogue) -> dict[Outcome, int]:
    return {outcome: count for (_, outcome), count in talk.box.session_resets.outcomes.items()}


def ports_of(packets: list[Packet]) -> list[int]:
    return [packet[TCP].dport for packet in packets]


# Which sessions


def test_failed_servers_sessions_are_reset_and_gone_and_no_others() -> None:
    talk = talk_of(ports=6)
    idle_then_fail(talk, "rs1")

    assert sorted(ports_of(talk.replies())) == [1, 3, 5]
    assert {row.server for row in talk.sessions()} == {talk.server("rs2").id}
    assert talk.send(tcp("A", seq=ISN + 11, ack=502, port=2)) == "rs2"
    assert talk.server("rs1").sessions == 0
    assert list(talk.box.table.of_server(talk.server("rs1").id)) == []


def test_nothing_is_reset_unless_so_set() -> None:
    talk = talk_of(ResetSettings())
    idle_then_fail(talk, "rs1")

    assert talk.packets == []
    assert len(talk.sessions()) == 2


def test_suspect_servers_sessions_are_left_alone() -> None:
    talk = Dialogue(service(reset=PRECISE, servers=("rs1", "rs2")))
    assert connect(talk, 1) == "rs1"
    talk.answers["rs1"] = REFUSED
    talk.wait_for_state("rs1", ServerState.SUSPECT)
    talk.wait(0)

    assert talk.packets == []
    assert len(talk.sessions()) == 1


def test_reset_is_told_from_beginning_to_end() -> None:
    talk = talk_of(ports=4)
    idle_then_fail(talk, "rs1")
    events = talk.take_events(ResetStarted, ResetEnded, SessionRemoved, Drained)

    assert isinstance(events[0], ResetStarted)
    assert isinstance(events[-1], ResetEnded)
    started, ended = events[0], events[-1]
    assert (started.virtual_server, started.server, started.sessions) == ("web", "rs1", 2)
    assert (ended.reason, ended.sessions, ended.resets) == (ResetReason.PORT_FAIL, 2, 2)
    assert ended.took_s == 0
    removed = [event.reason for event in events if isinstance(event, SessionRemoved)]
    assert removed == [Removal.RESET] * 2
    assert sum(isinstance(event, Drained) for event in events) == 1
    assert talk.box.session_resets.sent == {(ResetReason.PORT_FAIL, "client"): 2}


def test_udp_sessions_are_removed_without_a_packet() -> None:
    talk = Dialogue(web(protocol=17, port=53, servers=("rs1",)))
    talk.send(udp(b"query"))
    fail(talk, "rs1")

    assert talk.sessions() == []
    assert talk.replies() == []


# The resets


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_client_is_reset_by_the_vip_at_the_number_it_last_acknowledged(client: str) -> None:
    talk = Dialogue(web(servers=("rs1",)), web(name="six", vip=VIP6, servers=("six1",)))
    server = connect(talk, 7, client)
    talk.wait(30)
    fail(talk, server)

    reset = talk.reply()

    assert (reset.src, reset.dst, reset[TCP].sport, reset[TCP].dport) == (vip_of(client), client, 80, 7)
    assert numbers(reset) == ("R", 507, 0)


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_server_is_reset_in_the_clients_name_at_the_highest_number_it_was_sent(client: str) -> None:
    sides = ResetSettings(on_port_fail=True, client=False, server=True)
    talk = Dialogue(web(sides, servers=("rs1",)), web(sides, name="six", vip=VIP6, servers=("six1",)))
    server = connect(talk, 7, client)
    fail(talk, server)

    reset = talk.reply()

    assert reset.src == client
    assert packed(reset.dst) == talk.server(server).settings.address
    assert (reset[TCP].sport, reset[TCP].dport) == (7, 80)
    assert (reset.tc if reset.version == 6 else reset.tos) == 10 << 2
    assert numbers(reset) == ("R", ISN + 11, 0)
    assert talk.box.session_resets.sent == {(ResetReason.PORT_FAIL, "server"): 1}
    assert talk.send(tcp("A", seq=ISN + 11, ack=600, port=7, client=client)) == "no_entry", "no tombstone"


def test_both_sides_get_one_each() -> None:
    talk = talk_of(ResetSettings(on_port_fail=True, server=True), ports=1)
    idle_then_fail(talk, "rs1")

    assert [packet.dst for packet in talk.replies()] == [CLIENT, "10.0.1.2"]


def test_opening_client_is_reset_by_acknowledging_its_syn() -> None:
    """RFC 9293 §3.10.7.3: in SYN-SENT a reset counts only if it acknowledges the SYN."""
    talk = Dialogue(web())
    assert talk.send(tcp("S", seq=ISN)) == "rs1"
    fail(talk, "rs1")

    assert numbers(talk.reply()) == ("RA", 0, ISN + 1)
    talk.wait(10)
    assert talk.packets == [], "a SYN would be taken for a simultaneous open"


def test_half_closed_client_is_reset_too() -> None:
    talk = talk_of(ports=1)
    talk.wait(9.99)
    talk.send(tcp("FA", seq=ISN + 11, ack=510, port=1))
    fail(talk, "rs1")

    assert numbers(talk.replies()[0]) == ("R", 510, 0)


def test_naive_mode_sends_one_reset_and_forgets() -> None:
    talk = talk_of(NAIVE, ports=1)
    fail(talk, "rs1")
    assert numbers(talk.reply()) == ("R", 501, 0)

    talk.wait(100)
    assert talk.packets == []
    assert talk.send(tcp("A", seq=ISN + 11, ack=9000, port=1)) == "no_entry"


# What follows: challenge ACKs, probes


def test_challenge_ack_is_answered_with_the_exact_reset() -> None:
    talk = talk_of(ports=1)
    idle_then_fail(talk, "rs1")
    talk.replies()

    assert talk.send(tcp("A", seq=ISN + 11, ack=90_501, port=1)) == "session_reset"

    assert numbers(talk.reply()) == ("R", 90_501, 0)
    assert talk.box.session_resets.sent == {(ResetReason.PORT_FAIL, "client"): 2}
    talk.wait(61)
    assert outcomes(talk) == {Outcome.CHALLENGED: 1}


def test_every_late_packet_is_answered_so_that_a_lost_reset_does_no_harm() -> None:
    talk = talk_of(ports=1)
    idle_then_fail(talk, "rs1")
    talk.replies()

    for ack in (600, 700, 800):
        assert talk.send(tcp("PA", seq=ISN + 11, ack=ack, data=b"x", port=1)) == "session_reset"
        assert numbers(talk.reply()) == ("R", ack, 0)


def test_idle_client_that_says_nothing_has_accepted_and_is_not_probed() -> None:
    talk = talk_of(ports=1)
    idle_then_fail(talk, "rs1")
    talk.replies()
    talk.wait(61)

    assert talk.packets == []
    assert outcomes(talk) == {Outcome.ACCEPTED: 1}


def busy_then_failed(speed: float = 1.0) -> Dialogue:
    """A client heard of in the very moment in which its server fails: data may be under way to it."""
    talk = talk_of(ports=1, speed=speed)
    talk.answers["rs1"] = REFUSED
    while talk.server("rs1").state is not ServerState.FAILED:
        talk.send(tcp("A", seq=ISN + 11, ack=501, port=1))
        talk.wait(0.01)
    assert numbers(talk.reply()) == ("R", 501, 0)
    return talk


def test_busy_client_that_says_nothing_is_asked_with_a_syn() -> None:
    talk = busy_then_failed()
    talk.wait(0.5)

    probe = talk.reply()

    assert (probe.src, probe.dst, probe[TCP].dport) == (VIP, CLIENT, 1)
    assert str(probe[TCP].flags) == "S"
    assert talk.box.session_resets.probes == 1
    assert talk.send(tcp("A", seq=ISN + 11, ack=90_501, port=1)) == "session_reset"
    assert numbers(talk.reply()) == ("R", 90_501, 0)


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_probes_are_few_and_500_ms_of_real_time_apart_at_any_speed(speed: float) -> None:
    talk = busy_then_failed(speed)
    sent = []
    for _ in range(round(3000 * speed)):
        talk.wait(0.01)
        sent += [talk.now for _ in talk.replies()]

    assert len(sent) == PROBES
    assert all(later - earlier >= 0.49 * speed for earlier, later in pairwise(sent))
    talk.wait(61)
    assert outcomes(talk) == {Outcome.SILENT: 1}


def test_client_that_answers_a_probe_with_a_reset_is_asked_no_more() -> None:
    talk = busy_then_failed()
    talk.wait(0.5)
    talk.replies()

    assert talk.send(tcp("R", seq=0, port=1)) == "session_reset"
    talk.wait(10)

    assert talk.packets == []
    assert outcomes(talk) == {Outcome.ACCEPTED: 1}
    assert talk.send(tcp("A", seq=ISN + 11, ack=9, port=1)) == "no_entry"


def test_challenge_ack_that_a_probe_draws_is_answered_with_the_exact_reset() -> None:
    talk = busy_then_failed()
    talk.wait(0.5)
    assert str(talk.reply()[TCP].flags) == "S"
    for ack in (88_000, 88_100):
        assert talk.send(tcp("A", seq=ISN + 11, ack=ack, port=1)) == "session_reset"
        assert numbers(talk.reply()) == ("R", ack, 0)
    talk.wait(0.6)
    assert talk.send(tcp("R", seq=0, port=1)) == "session_reset"

    assert outcomes(talk) == {Outcome.PROBED: 1}


def test_client_that_was_just_heard_of_is_not_probed_until_500_ms_of_silence() -> None:
    talk = busy_then_failed()
    talk.wait(0.3)
    assert talk.send(tcp("A", seq=ISN + 11, ack=777, port=1)) == "session_reset"
    talk.replies()
    talk.wait(0.4)
    assert talk.packets == []
    talk.wait(0.6)

    assert str(talk.reply()[TCP].flags) == "S"


def test_reused_port_is_not_probed() -> None:
    talk = busy_then_failed()
    assert talk.send(tcp("S", seq=77_000, port=1)) == "rs2"
    talk.wait(10)

    assert talk.packets == []
    assert talk.session(port=1)


def test_new_connection_on_the_port_of_a_reset_one_is_scheduled() -> None:
    talk = talk_of(ports=1)
    idle_then_fail(talk, "rs1")
    talk.replies()

    assert talk.send(tcp("S", seq=77_000, port=1)) == "rs2"
    assert talk.packets == []
    assert outcomes(talk) == {Outcome.ACCEPTED: 1}
    assert talk.send(tcp("A", seq=77_001, ack=501, port=1)) == "rs2"
    talk.wait(61)
    assert talk.session(port=1)


def test_tombstone_is_no_session() -> None:
    talk = Dialogue(web(), session_limit=1)
    connect(talk, 1)
    idle_then_fail(talk, "rs1")

    assert talk.sessions() == []
    assert len(talk.box.table) == 0
    assert talk.send(tcp("S", port=2)) == "rs2", "the table is not full of tombstones"


@pytest.mark.parametrize(("speed", "kept_s"), [(1.0, 60), (100.0, 400)])
def test_tombstone_is_kept_60_s_but_4_s_of_real_time_at_least(speed: float, kept_s: float) -> None:
    """Clients' stacks do not get faster with the box's clock."""
    talk = talk_of(ports=1, speed=speed)
    idle_then_fail(talk, "rs1")
    talk.wait(kept_s - 1)
    assert talk.box.table.tombstones == 1
    talk.wait(1.5)
    assert talk.box.table.tombstones == 0

    assert talk.send(tcp("A", seq=ISN + 11, ack=501, port=1)) == "no_entry"


# Pace


def test_burst_is_done_in_bounded_steps() -> None:
    talk = talk_of(ports=2 * BUDGET + 10, servers=("rs1",))
    talk.wait(30)
    talk.box.disable(talk.now, talk.server("rs1"), reset=True)
    sent = []
    while talk.box.next_deadline() <= talk.now:
        talk.box.handle_timer(talk.now)
        sent.append(len(talk.box.take_packets()))

    assert sent[:3] == [BUDGET, BUDGET, 10]
    assert talk.sessions() == []


def test_probes_too_are_sent_in_bounded_steps() -> None:
    talk = talk_of(ports=2 * BUDGET + 10, servers=("rs1",))
    talk.box.disable(talk.now, talk.server("rs1"), reset=True)
    talk.wait(0.49)
    assert len(talk.replies()) == 2 * BUDGET + 10
    talk.now += 0.01
    sent = []
    while talk.box.next_deadline() <= talk.now:
        talk.box.handle_timer(talk.now)
        sent.append(len(talk.box.take_packets()))

    assert sent == [BUDGET, BUDGET, 10]


def test_paced_resets_keep_their_pace_and_reach_everyone() -> None:
    talk = talk_of(ResetSettings(on_port_fail=True, pace=10), ports=30, servers=("rs1",))
    idle_then_fail(talk, "rs1")
    counts = [len(talk.replies())]
    for _ in range(4):
        talk.wait(1)
        counts.append(len(talk.replies()))

    assert counts[0] == 1
    assert counts[1:3] == [10, 10]
    assert sum(counts) == 30
    ended = talk.take_events(ResetEnded)
    assert isinstance(ended[0], ResetEnded)
    assert ended[0].took_s == pytest.approx(3, abs=0.2)


def test_servers_that_fail_together_share_the_pace_of_their_virtual_server() -> None:
    talk = talk_of(ResetSettings(on_port_fail=True, pace=10), ports=40)
    talk.wait(30)
    for name in ("rs1", "rs2"):
        talk.box.disable(talk.now, talk.server(name), reset=True)
    talk.wait(2)
    assert len(talk.replies()) == pytest.approx(21, abs=2)
    talk.wait(3)

    assert talk.sessions() == []
    ended = [event.server for event in talk.take_events(ResetEnded) if isinstance(event, ResetEnded)]
    assert ended == ["rs1", "rs2"]


def test_another_virtual_servers_packets_and_resets_do_not_wait() -> None:
    slow = web(ResetSettings(on_port_fail=True, pace=1), servers=("rs1",))
    talk = Dialogue(slow, web(name="other", port=443, servers=("rs2",)))
    for port in range(10):
        talk.send(tcp("S", port=port))
        talk.send(tcp("S", port=port, vip_port=443))
    for name in ("rs1", "rs2"):
        talk.box.disable(talk.now, talk.server(name), reset=True)
    talk.wait(0)

    assert [packet[TCP].sport for packet in talk.replies()].count(443) == 10
    assert len(talk.sessions()) == 9


def test_sessions_made_after_the_reset_began_are_not_its() -> None:
    talk = talk_of(ResetSettings(on_port_fail=True, pace=1), ports=5, servers=("rs1",))
    rs1 = talk.server("rs1")
    talk.box.disable(talk.now, rs1, reset=True)
    talk.wait(0.5)
    talk.box.enable(talk.now, rs1)
    talk.wait(0)
    assert connect(talk, 99) == "rs1"
    talk.wait(20)

    assert [row.key[-4:-2] for row in talk.sessions()] == [b"\0\x63"]


# By hand, by deadline, by age


def test_administrator_resets_one_session() -> None:
    talk = talk_of(ports=2)
    talk.wait(30)
    row = talk.session(port=2)
    assert row

    talk.box.reset_session(talk.now, row.slot)
    talk.wait(0)

    assert numbers(talk.reply()) == ("R", 502, 0)
    assert talk.session(port=1)
    assert talk.box.session_resets.sent == {(ResetReason.ADMINISTRATOR, "client"): 1}


def test_disabling_resets_only_if_asked_to() -> None:
    talk = talk_of(ResetSettings(), ports=2)
    talk.box.disable(talk.now, talk.server("rs2"))
    talk.wait(1)
    assert talk.packets == []

    talk.box.disable(talk.now, talk.server("rs1"), reset=True)
    talk.wait(0)

    assert ports_of(talk.replies()) == [1]


@pytest.mark.parametrize(
    ("of_service", "by_hand", "after_s"), [(0, 30.0, 30), (30, None, 30), (99, 30.0, 30)]
)
def test_what_is_left_of_a_shut_down_server_is_reset_at_the_deadline(
    of_service: float, by_hand: float | None, after_s: float
) -> None:
    talk = talk_of(ResetSettings(), drain_timeout_s=of_service)
    talk.box.shut_down(talk.now, talk.server("rs1"), by_hand)
    talk.wait(after_s - 0.1)
    assert talk.packets == []
    talk.wait(0.2)

    assert ports_of(talk.replies()) == [1]
    assert talk.box.session_resets.sent == {(ResetReason.DRAIN, "client"): 1}


@pytest.mark.parametrize(("of_service", "by_hand"), [(0, None), (30, 0.0)])
def test_shut_down_server_without_a_deadline_keeps_its_sessions(
    of_service: float, by_hand: float | None
) -> None:
    talk = talk_of(ResetSettings(), drain_timeout_s=of_service)
    talk.box.shut_down(talk.now, talk.server("rs1"), by_hand)
    talk.wait(500)

    assert talk.packets == []
    assert len(talk.sessions()) == 2


def test_server_enabled_before_the_deadline_is_not_reset() -> None:
    talk = talk_of(ResetSettings())
    rs1 = talk.server("rs1")
    talk.box.shut_down(talk.now, rs1, 30)
    talk.wait(10)
    talk.box.enable(talk.now, rs1)
    talk.wait(100)

    assert talk.packets == []
    assert len(talk.sessions()) == 2


def test_later_deadline_replaces_the_earlier() -> None:
    talk = talk_of(ResetSettings())
    rs1 = talk.server("rs1")
    talk.box.shut_down(talk.now, rs1, 30)
    talk.wait(10)
    talk.box.enable(talk.now, rs1)
    talk.box.shut_down(talk.now, rs1, 60)
    talk.wait(59)
    assert talk.packets == []
    talk.wait(2)

    assert ports_of(talk.replies()) == [1]


def test_deadline_of_an_earlier_shutdown_does_not_hold_for_one_without() -> None:
    talk = talk_of(ResetSettings())
    rs1 = talk.server("rs1")
    talk.box.shut_down(talk.now, rs1, 30)
    talk.wait(10)
    talk.box.enable(talk.now, rs1)
    talk.box.shut_down(talk.now, rs1)
    talk.wait(100)

    assert talk.packets == []
    assert len(talk.sessions()) == 2


def test_deadline_of_a_server_that_is_gone_does_not_hit_the_one_with_its_number() -> None:
    talk = talk_of(ResetSettings(), servers=("rs1",))
    talk.box.shut_down(talk.now, talk.server("rs1"), 30)
    number = talk.server("rs1").id
    talk.configure(web(ResetSettings(), servers=("rs4",)))
    assert talk.server("rs4").id == number
    assert connect(talk, 1) == "rs4"
    talk.replies()
    talk.wait(31)

    assert talk.packets == []
    assert talk.session(port=1)


def test_server_removed_in_the_middle_of_its_reset_is_no_harm() -> None:
    talk = talk_of(ResetSettings(on_port_fail=True, pace=1), ports=10)
    talk.box.disable(talk.now, talk.server("rs1"), reset=True)
    talk.wait(1)
    talk.configure(web(servers=("rs2",)))
    talk.wait(100)

    assert {row.server for row in talk.sessions()} == {talk.server("rs2").id}
    assert len(talk.take_events(ResetEnded)) == 1


@pytest.mark.parametrize(("on", "resets"), [(True, [("R", 501, 0)]), (False, [])])
def test_aged_out_session_is_reset_where_so_set(on: bool, resets: list[tuple[str, int, int]]) -> None:
    talk = talk_of(ResetSettings(), ports=1, reset_on_aging=on)
    talk.wait(601)

    assert [numbers(packet) for packet in talk.replies()] == resets
    assert talk.sessions() == []


def test_closed_session_is_not_reset_when_its_8_s_are_over() -> None:
    talk = talk_of(ResetSettings(), ports=1, reset_on_aging=True)
    talk.send(tcp("FA", seq=ISN + 11, ack=501, port=1))
    talk.wait(9)

    assert talk.packets == []
    assert talk.session(port=1) is None


def test_aged_out_udp_session_is_not_sent_a_tcp_reset() -> None:
    talk = Dialogue(web(ResetSettings(), protocol=17, port=53, servers=("rs1",), reset_on_aging=True))
    talk.send(udp(b"query"))
    talk.wait(601)

    assert talk.packets == []
    assert talk.sessions() == []
