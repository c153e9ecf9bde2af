"""SPEC §3, row by row: what opens, refreshes and removes a session, and what else a segment meets."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from lb.core.box import Box
from lb.core.events import Reconfigured, Removal, SessionOpened, SessionRemoved
from lb.core.health import ServerState
from lb.core.packet import Drop
from lb.core.service import Policy, PortReuse
from lb.core.session import SessionState

from .dialogue import (
    CLIENT,
    CLIENT6,
    ISN,
    NOT_FOUND,
    OTHER_CLIENT,
    PORT,
    VIP,
    VIP6,
    Dialogue,
    service,
    tcp,
    udp,
)

FAMILIES = pytest.mark.parametrize("client", [CLIENT, CLIENT6])


def dual_stack(**settings: Any) -> Dialogue:
    return Dialogue(service(**settings), service("six", vip=VIP6, **settings))


def established(talk: Dialogue, client: str = CLIENT, port: int = PORT) -> str:
    """A client's handshake, as the box sees it; the server it got."""
    server = talk.send(tcp("S", seq=ISN, client=client, port=port))
    assert talk.send(tcp("A", seq=ISN + 1, ack=501, client=client, port=port)) == server
    return server


# Opened by


@FAMILIES
def test_syn_opens_a_session_and_the_flow_stays_on_its_server(client: str) -> None:
    talk = dual_stack()
    server = established(talk, client)
    assert server == ("six1" if ":" in client else "rs1")

    for turn in range(5):
        data = tcp("PA", seq=ISN + 1 + turn, ack=501, data=b"x", client=client)
        assert talk.send(data) == server


def test_new_flows_take_turns() -> None:
    talk = Dialogue()

    assert [talk.send(tcp("S", port=port)) for port in range(4)] == ["rs1", "rs2", "rs3", "rs1"]


def test_session_row_shows_what_the_client_has_sent() -> None:
    talk = Dialogue()
    start = talk.now
    talk.send(tcp("S", seq=ISN, options=[("MSS", 1460)]))
    talk.wait(1)
    talk.send(tcp("A", seq=ISN + 1, ack=501))
    talk.wait(2)
    talk.send(tcp("PA", seq=ISN + 1, ack=501, data=b"x" * 100))

    row = talk.session()

    assert row
    assert (row.state, row.server) == (SessionState.ESTABLISHED, talk.server("rs1").id)
    assert (row.created, row.last_seen, row.expires) == (start, start + 3, start + 603)
    assert (row.packets, row.bytes) == (3, 44 + 40 + 140)
    assert (row.seq, row.ack) == (ISN + 101, 501)


def test_state_goes_from_syn_to_established_with_the_clients_ack() -> None:
    talk = Dialogue()
    seen = []
    for packet in (tcp("S"), tcp("S"), tcp("A", seq=ISN + 1, ack=501), tcp("FA", seq=ISN + 1, ack=501)):
        talk.send(packet)
        row = talk.session()
        seen.append(row and row.state.name)

    assert seen == ["SYN", "SYN", "ESTABLISHED", "FIN"]


def test_server_counts_its_sessions_and_all_it_ever_had() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    for port in range(3):
        talk.send(tcp("S", port=port))
    talk.send(tcp("R", port=0))

    assert (talk.server("rs1").sessions, talk.server("rs1").flows) == (2, 3)


def test_same_client_port_to_two_vips_is_two_sessions() -> None:
    talk = Dialogue(service(), service("other", vip="192.0.2.11", dscp=11, servers=("rs4",)))

    assert talk.send(tcp("S")) == "rs1"
    assert talk.send(tcp("S", vip="192.0.2.11")) == "rs4"
    assert len(talk.sessions()) == 2


@FAMILIES
def test_udp_flow_is_a_session_too(client: str) -> None:
    dns = service("dns", port=53, protocol=17)
    six = service("dns6", vip=VIP6, port=53, protocol=17)
    talk = Dialogue(dns, six)
    server = talk.send(udp(b"query", client=client))
    assert server in {"rs1", "six1"}
    talk.wait(599)
    assert talk.send(udp(b"query", client=client)) == server
    talk.wait(599)

    (row,) = talk.sessions()

    assert (row.state, row.packets) == (SessionState.UDP, 2)
    assert row.bytes == 2 * len(bytes(udp(b"query", client=client)))
    talk.wait(2)
    assert talk.sessions() == []


def test_tcp_and_udp_on_one_port_are_two_services() -> None:
    talk = Dialogue(
        service("dns", port=53, protocol=17, servers=("rs1",)), service("dot", port=53, servers=("rs2",))
    )

    assert talk.send(udp(b"query")) == "rs1"
    assert talk.send(tcp("S", vip_port=53)) == "rs2"


# Sequence numbers, which resets will need


def test_highest_end_of_data_and_highest_ack_are_kept_whatever_the_order() -> None:
    talk = Dialogue()
    established(talk)
    talk.send(tcp("A", seq=ISN + 11, ack=701, data=b"x" * 10))
    talk.send(tcp("A", seq=ISN + 1, ack=601, data=b"x" * 10))  # retransmitted

    row = talk.session()

    assert row
    assert (row.seq, row.ack) == (ISN + 21, 701)


def test_sequence_numbers_wrap() -> None:
    talk = Dialogue()
    talk.send(tcp("S", seq=2**32 - 2))
    talk.send(tcp("A", seq=2**32 - 1, ack=2**32 - 5))
    talk.send(tcp("A", seq=2**32 - 1, ack=3, data=b"12345"))

    row = talk.session()

    assert row
    assert (row.seq, row.ack) == (4, 3)


@pytest.mark.parametrize(
    ("packet", "seq"),
    [
        (tcp("S", seq=ISN, data=b"early"), ISN + 1),  # the server may refuse data in a SYN
        (tcp("S", seq=ISN), ISN + 1),
    ],
)
def test_syn_takes_one_number(packet: object, seq: int) -> None:
    talk = Dialogue()
    talk.send(packet)  # type: ignore[arg-type]

    row = talk.session()
    assert row
    assert row.seq == seq


def test_fin_takes_one_number_after_its_data() -> None:
    talk = Dialogue()
    established(talk)
    talk.send(tcp("FPA", seq=ISN + 1, ack=501, data=b"bye"))

    row = talk.session()
    assert row
    assert row.seq == ISN + 5


def test_ack_number_of_a_segment_without_the_flag_is_not_believed() -> None:
    talk = Dialogue()
    talk.send(tcp("S", ack=0x7FFFFFFF))
    talk.send(tcp("A", seq=ISN + 1, ack=501))

    row = talk.session()
    assert row
    assert row.ack == 501


# Refreshed by


@FAMILIES
@pytest.mark.parametrize(
    ("what", "flags", "seq", "data"),
    [
        ("data", "PA", ISN + 1, b"GET /"),
        ("a bare ACK", "A", ISN + 1, b""),
        ("a keepalive probe", "A", ISN, b""),
        ("a keepalive probe with a byte of garbage", "A", ISN, b"\0"),
        ("a zero-window probe", "A", ISN + 1, b"x"),
        ("urgent data", "PUA", ISN + 1, b"!"),
        ("the SYN once more", "S", ISN, b""),
        ("a segment without any flag", "", ISN + 1, b""),
    ],
)
def test_every_client_packet_refreshes(client: str, what: str, flags: str, seq: int, data: bytes) -> None:
    talk = dual_stack()
    server = established(talk, client)
    for _ in range(3):
        talk.wait(599)
        assert talk.send(tcp(flags, seq=seq, ack=501, data=data, client=client)) == server, what

    row = talk.session(client=client)
    assert row
    assert row.last_seen == talk.now


# Removed by


@FAMILIES
def test_idle_session_is_there_at_599_s(client: str) -> None:
    talk = dual_stack()
    server = established(talk, client)
    talk.wait(599)

    assert talk.session(client=client)
    assert talk.send(tcp("A", seq=ISN + 1, ack=501, client=client)) == server


@FAMILIES
def test_idle_session_is_gone_at_601_s_and_its_next_segment_gets_a_reset(client: str) -> None:
    talk = dual_stack()
    established(talk, client)
    talk.wait(601)

    assert talk.sessions() == []
    assert talk.send(tcp("A", seq=ISN + 1, ack=501, client=client)) == "no_entry"
    reset = talk.reply()[TCP]
    assert (str(reset.flags), reset.seq) == ("R", 501)


@FAMILIES
@pytest.mark.parametrize("flags", ["A", "FA", "S"])
def test_segment_to_a_session_that_should_be_swept_already_finds_none(client: str, flags: str) -> None:
    """The sweep is bounded and may be late; what expired has expired."""
    talk = dual_stack(servers=("rs1", "rs2") if ":" not in client else ())
    first = established(talk, client)
    talk.now += 601

    answer = talk.send(tcp(flags, seq=ISN if flags == "S" else ISN + 1, ack=501, client=client))

    if flags == "S":
        assert answer != first
        assert len(talk.sessions()) == 1
    else:
        assert answer == "no_entry"
        assert talk.sessions() == []


def test_aging_is_the_virtual_servers_own() -> None:
    talk = Dialogue(service(aging_s=120), service("slow", port=443, aging_s=3600, servers=("rs4",)))
    established(talk)
    talk.send(tcp("S", vip_port=443))
    talk.send(tcp("A", seq=ISN + 1, ack=501, vip_port=443))
    talk.wait(121)
    assert [row.server for row in talk.sessions()] == [talk.server("rs4").id]
    talk.wait(3480)
    assert talk.sessions() == []


def test_half_open_session_goes_60_s_after_its_last_syn() -> None:
    talk = Dialogue(session_events=True)
    assert talk.send(tcp("S")) == "rs1"
    talk.wait(32)
    assert talk.send(tcp("S")) == "rs1", "retransmitted"
    talk.wait(59.9)
    assert talk.session()
    talk.take_events()
    talk.wait(0.35)

    assert talk.session() is None
    (removed,) = talk.take_events(SessionRemoved)
    assert isinstance(removed, SessionRemoved)
    assert removed.reason is Removal.SYN_TIMEOUT
    assert talk.send(tcp("A", seq=ISN + 1, ack=501)) == "no_entry"


def test_half_open_timeout_is_the_virtual_servers_own() -> None:
    talk = Dialogue(service(syn_timeout_s=5), service("slow", port=443, syn_timeout_s=90, servers=("rs4",)))
    talk.send(tcp("S"))
    talk.send(tcp("S", vip_port=443))
    talk.wait(5.25)
    assert [row.server for row in talk.sessions()] == [talk.server("rs4").id]
    talk.wait(85)
    assert talk.sessions() == []


def test_half_open_session_ages_in_silence_whatever_reset_on_aging_says() -> None:
    """The source of a SYN may be forged: it gets no RST that nobody has asked for."""
    talk = Dialogue(service(reset_on_aging=True))
    talk.send(tcp("S"))
    talk.wait(61)

    assert talk.sessions() == []
    assert talk.replies() == []


@pytest.mark.parametrize(
    ("speed", "aging_s", "half_open_s", "closed_s"),
    [(1, 600, 60, 8), (2, 600, 60, 8), (10, 600, 60, 40), (100, 600, 400, 400), (100, 120, 120, 120)],
)
def test_speed_leaves_half_open_and_closed_sessions_4_s_of_real_time_within_the_aging_time(
    speed: float, aging_s: float, half_open_s: float, closed_s: float
) -> None:
    talk = Dialogue(service(aging_s=aging_s), speed=speed)
    talk.send(tcp("S", port=1))
    established(talk, port=2)
    talk.send(tcp("FA", seq=ISN + 1, ack=501, port=2))

    left = {row.state: row.expires - talk.now for row in talk.sessions()}
    assert left == {SessionState.SYN: half_open_s, SessionState.FIN: closed_s}
    talk.wait(min(half_open_s, closed_s) - 0.1)
    assert len(talk.sessions()) == 2
    talk.wait(abs(half_open_s - closed_s) + 0.35)
    assert talk.sessions() == []


def test_scan_of_half_open_connections_fills_the_table_for_60_s_only() -> None:
    talk = Dialogue(session_limit=100)
    answers = [talk.send(tcp("S", port=port)) for port in range(1, 111)]
    assert answers.count("table_full") == 10
    talk.wait(60.25)

    assert talk.sessions() == []
    assert established(talk) in {"rs1", "rs2", "rs3"}


def test_clients_fin_leaves_the_session_8_s_for_its_last_acks() -> None:
    talk = Dialogue()
    server = established(talk)
    assert talk.send(tcp("FA", seq=ISN + 1, ack=501)) == server
    talk.wait(7.9)
    assert talk.session()
    talk.wait(0.5)
    assert talk.session() is None


def test_last_acks_reach_the_server_and_begin_the_8_s_anew() -> None:
    talk = Dialogue()
    server = established(talk)
    talk.send(tcp("FA", seq=ISN + 1, ack=501))
    for ack in (502, 503, 504):
        talk.wait(7)
        assert talk.send(tcp("A", seq=ISN + 2, ack=ack)) == server
    talk.wait(8.3)

    assert talk.send(tcp("A", seq=ISN + 2, ack=505)) == "no_entry"


def test_retransmitted_fin_begins_the_8_s_anew_and_data_does_not_reopen() -> None:
    talk = Dialogue()
    server = established(talk)
    for _ in range(3):
        assert talk.send(tcp("FA", seq=ISN + 1, ack=501)) == server
        talk.wait(7)
    assert talk.send(tcp("PA", seq=ISN + 1, ack=501, data=b"late")) == server
    talk.wait(8.3)

    assert talk.session() is None


def test_fin_before_the_handshake_ends_closes_the_session_as_well() -> None:
    talk = Dialogue()
    server = talk.send(tcp("S"))
    assert talk.send(tcp("FA", seq=ISN + 1, ack=501)) == server
    talk.wait(8.3)

    assert talk.session() is None


def test_clients_rst_reaches_the_server_and_removes_the_session_at_once() -> None:
    talk = Dialogue()
    server = established(talk)

    assert talk.send(tcp("R", seq=ISN + 1)) == server
    assert talk.session() is None
    assert talk.send(tcp("R", seq=ISN + 1)) == "no_entry"
    assert talk.packets == []


def test_administrator_clears_a_session_without_a_word() -> None:
    talk = Dialogue()
    established(talk)
    row = talk.session()
    assert row

    talk.box.clear_session(talk.now, row.slot)

    assert talk.sessions() == []
    assert talk.box.take_packets() == []
    assert talk.send(tcp("A", seq=ISN + 1, ack=501)) == "no_entry"


# Not removed by


def test_failed_health_check_removes_no_session() -> None:
    """The trap that the product exists for (SPEC §1)."""
    talk = Dialogue()
    assert established(talk) == "rs1"
    talk.answers["rs1"] = NOT_FOUND
    talk.wait_for_state("rs1", ServerState.FAILED)

    for _ in range(5):
        assert talk.send(tcp("PA", seq=ISN + 1, ack=501, data=b"GET /")) == "rs1"
        talk.wait(599)


@pytest.mark.parametrize("act", ["disable", "shut_down"])
def test_server_out_of_the_binding_list_keeps_its_sessions(act: str) -> None:
    talk = Dialogue()
    assert established(talk) == "rs1"
    getattr(talk.box, act)(talk.now, talk.server("rs1"))
    talk.wait(599)

    assert talk.send(tcp("PA", seq=ISN + 1, ack=501, data=b"GET /")) == "rs1"


# A new SYN on an entry that exists


@pytest.mark.parametrize("ending", ["", "A", "FA"])
def test_new_syn_on_an_entry_is_a_new_connection_scheduled_afresh(ending: str) -> None:
    talk = Dialogue(session_events=True)
    assert talk.send(tcp("S", seq=ISN)) == "rs1"
    if ending:
        talk.send(tcp(ending, seq=ISN + 1, ack=501))
    talk.take_events()
    talk.wait(5)

    assert talk.send(tcp("S", seq=77_000)) == "rs2"

    row = talk.session()
    assert row
    assert (row.state, row.seq, row.created, row.packets) == (SessionState.SYN, 77_001, talk.now, 1)
    (removed,) = talk.take_events(SessionRemoved)
    assert isinstance(removed, SessionRemoved)
    assert removed.reason is Removal.PORT_REUSE
    talk.send(tcp("A", seq=77_001, ack=501))
    talk.wait(599)
    assert talk.session(), "not the FIN's 8 s"


def test_new_syn_leaves_a_failed_server_by_default() -> None:
    talk = Dialogue()
    assert established(talk) == "rs1"
    talk.answers["rs1"] = NOT_FOUND
    talk.wait_for_state("rs1", ServerState.FAILED)

    assert talk.send(tcp("S", seq=77_000)) in {"rs2", "rs3"}


def test_new_syn_meets_the_stale_entry_with_keep() -> None:
    talk = Dialogue(service(on_port_reuse=PortReuse.KEEP))
    assert established(talk) == "rs1"
    talk.answers["rs1"] = NOT_FOUND
    talk.wait_for_state("rs1", ServerState.FAILED)

    assert talk.send(tcp("S", seq=77_000)) == "rs1"

    row = talk.session()
    assert row
    assert (row.state, row.seq, row.packets) == (SessionState.SYN, 77_001, 3)
    talk.send(tcp("A", seq=77_001, ack=9))
    row = talk.session()
    assert row
    assert (row.state, row.ack) == (SessionState.ESTABLISHED, 9), "not the old connection's numbers"


def test_new_syn_on_a_closed_entry_has_the_whole_idle_timeout_with_keep() -> None:
    talk = Dialogue(service(on_port_reuse=PortReuse.KEEP))
    server = established(talk)
    talk.send(tcp("FA", seq=ISN + 1, ack=501))
    talk.wait(5)
    assert talk.send(tcp("S", seq=77_000)) == server
    assert talk.send(tcp("A", seq=77_001, ack=501)) == server
    talk.wait(599)

    assert talk.session()


@pytest.mark.parametrize("reuse", list(PortReuse))
def test_retransmitted_syn_stays_with_its_session(reuse: PortReuse) -> None:
    talk = Dialogue(service(on_port_reuse=reuse))

    assert [talk.send(tcp("S", seq=ISN)) for _ in range(3)] == ["rs1"] * 3

    row = talk.session()
    assert row
    assert (row.packets, row.seq) == (3, ISN + 1)
    assert len(talk.sessions()) == 1


def test_new_syn_with_no_server_left_gets_a_reset_and_the_old_entry_is_gone() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    established(talk)
    talk.box.disable(talk.now, talk.server("rs1"))

    assert talk.send(tcp("S", seq=77_000)) == "no_server"
    assert talk.reply()[TCP].ack == 77_001
    assert talk.sessions() == []


# Non-SYN without an entry


@FAMILIES
@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        ("A", ("R", 501, 0)),
        ("PA", ("R", 501, 0)),
        ("FA", ("R", 501, 0)),
        ("SA", ("R", 501, 0)),
        ("", ("RA", 0, ISN + 3)),
        ("F", ("RA", 0, ISN + 4)),
        ("R", None),
        ("RA", None),
    ],
)
def test_segment_without_an_entry_is_reset(
    client: str, flags: str, answer: tuple[str, int, int] | None
) -> None:
    talk = dual_stack()

    assert talk.send(tcp(flags, ack=501, data=b"abc", client=client)) == "no_entry"

    if answer is None:
        assert talk.packets == []
        assert talk.box.resets == {}
    else:
        assert talk.box.resets == {Drop.NO_ENTRY: 1}
        packet = talk.reply()
        assert (str(packet[TCP].flags), packet[TCP].seq, packet[TCP].ack) == answer
        assert (packet.src, packet.dst) == (VIP6 if ":" in client else VIP, client)
    assert talk.sessions() == []


def test_segment_without_an_entry_is_dropped_where_so_set() -> None:
    talk = Dialogue(service(on_no_entry=Policy.DROP))

    assert talk.send(tcp("A", ack=501)) == "no_entry"
    assert talk.packets == []
    assert talk.sessions() == []
    assert talk.box.resets == {}


def test_segment_without_an_entry_is_scheduled_where_so_set() -> None:
    talk = Dialogue(service(on_no_entry=Policy.FORWARD))

    assert talk.send(tcp("PA", seq=9000, ack=501, data=b"abc")) == "rs1"
    assert talk.send(tcp("A", seq=9003, ack=502)) == "rs1"

    row = talk.session()
    assert row
    assert (row.state, row.seq, row.ack) == (SessionState.ESTABLISHED, 9003, 502)


def test_rst_without_an_entry_opens_nothing_even_then() -> None:
    talk = Dialogue(service(on_no_entry=Policy.FORWARD))

    assert talk.send(tcp("R")) == "no_entry"
    assert talk.packets == []
    assert talk.sessions() == []


def test_fin_without_an_entry_opens_a_session_of_8_s_and_not_of_600() -> None:
    talk = Dialogue(service(on_no_entry=Policy.FORWARD))

    assert talk.send(tcp("FA", seq=9000, ack=501)) == "rs1"
    assert talk.send(tcp("A", seq=9001, ack=502)) == "rs1"
    talk.wait(8.3)

    assert talk.sessions() == []


# No server, full table


@FAMILIES
def test_new_flow_with_no_server_bound_is_reset(client: str) -> None:
    talk = dual_stack()
    for server in list(talk.box.services.servers.values()):
        talk.box.disable(talk.now, server)

    assert talk.send(tcp("S", seq=7, client=client)) == "no_server"

    reset = talk.reply()[TCP]
    assert (str(reset.flags), reset.seq, reset.ack) == ("RA", 0, 8)
    assert talk.box.resets == {Drop.NO_SERVER: 1}
    assert talk.sessions() == []


def test_new_flow_with_no_server_bound_is_dropped_where_so_set() -> None:
    talk = Dialogue(service(servers=("rs1",), on_no_server=Policy.DROP))
    talk.box.disable(talk.now, talk.server("rs1"))

    assert talk.send(tcp("S")) == "no_server"
    assert talk.packets == []


def test_udp_with_no_server_bound_is_dropped_for_there_is_no_reset_in_udp() -> None:
    talk = Dialogue(service("dns", port=53, protocol=17, servers=("rs1",)))
    talk.box.disable(talk.now, talk.server("rs1"))

    assert talk.send(udp(b"query")) == "no_server"
    assert talk.packets == []


@pytest.mark.parametrize(("policy", "packets"), [(Policy.RESET, 1), (Policy.DROP, 0)])
def test_full_table_refuses_new_flows_and_leaves_existing_ones_alone(policy: Policy, packets: int) -> None:
    talk = Dialogue(service(on_table_full=policy), session_limit=2)
    server = established(talk)
    talk.send(tcp("S", port=PORT + 1))

    assert talk.send(tcp("S", port=PORT + 2)) == "table_full"
    assert len(talk.packets) == packets
    assert talk.send(tcp("A", seq=ISN + 1, ack=501)) == server
    assert len(talk.sessions()) == 2


def test_port_reuse_in_a_full_table_takes_the_place_of_its_own_entry() -> None:
    talk = Dialogue(session_limit=1)
    assert established(talk) == "rs1"

    assert talk.send(tcp("S", seq=77_000)) == "rs2"


def test_expired_session_makes_room_for_its_own_next_connection() -> None:
    talk = Dialogue(session_limit=1)
    established(talk)
    talk.now += 601

    assert talk.send(tcp("S", seq=77_000)) == "rs2"


# What is not for a virtual server, or from nobody


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (tcp("S", vip_port=81), "no_virtual_server"),
        (tcp("S", vip="192.0.2.11"), "no_virtual_server"),
        (udp(b"x"), "no_virtual_server"),
        (tcp("S", client=CLIENT6, vip_port=81), "no_virtual_server"),
        (tcp("A", vip_port=81, ack=5), "no_virtual_server"),
        (tcp("S", client=VIP), "bad_source"),
        (tcp("S", client="127.0.0.1"), "bad_source"),
        (tcp("S", client="0.0.0.0"), "bad_source"),
        (tcp("S", client="224.0.0.1"), "bad_source"),
        (tcp("S", client="255.255.255.255"), "bad_source"),
        (tcp("A", client="240.0.0.1", ack=5), "bad_source"),
        (tcp("S", client=VIP6), "bad_source"),
        (tcp("S", client="::", vip=VIP6), "bad_source"),
        (tcp("S", client="::1", vip=VIP6), "bad_source"),
        (tcp("S", client="ff02::1", vip=VIP6), "bad_source"),
        (tcp("SF"), "bad_flags"),
        (tcp("SR"), "bad_flags"),
        (tcp("SFRPA"), "bad_flags"),
        (IP(src=CLIENT, dst=VIP, frag=1) / TCP(), "fragment"),
        (IP(src=CLIENT, dst=VIP) / UDP(len=3), "malformed"),
        (b"", "truncated"),
    ],
    ids=lambda value: value.summary() if hasattr(value, "summary") else repr(value),
)
def test_dropped_in_silence(packet: object, reason: str) -> None:
    """No answer to what may be forged, and none to what asked for nothing that is here."""
    talk = dual_stack()

    assert talk.send(packet) == reason  # type: ignore[arg-type]
    assert talk.packets == []
    assert talk.sessions() == []


@pytest.mark.parametrize("flags", ["SF", "SR"])
def test_impossible_flags_do_nothing_to_a_session(flags: str) -> None:
    talk = Dialogue()
    established(talk)
    before = talk.session()

    assert talk.send(tcp(flags, seq=ISN + 1)) == "bad_flags"
    assert talk.session() == before


def test_sessions_of_two_clients_do_not_meet() -> None:
    talk = Dialogue()
    established(talk)
    established(talk, OTHER_CLIENT)
    mine = talk.session()
    for packet in ("A", "FA", "R"):
        talk.send(tcp(packet, seq=ISN + 1, ack=501, client=OTHER_CLIENT))

    assert talk.session() == mine
    assert talk.session(client=OTHER_CLIENT) is None


# Effects


def test_resets_are_given_once_and_in_order() -> None:
    talk = Dialogue()
    for ack in (1, 2, 3):
        talk.box.handle_packet(talk.now, bytes(tcp("A", ack=ack)))

    assert [IP(packet)[TCP].seq for packet in talk.box.take_packets()] == [1, 2, 3]
    assert talk.box.take_packets() == []


def test_session_events_tell_a_sessions_whole_story_where_so_set() -> None:
    talk = Dialogue(session_events=True)
    talk.take_events()
    opened_at = talk.now
    established(talk)
    talk.wait(2)
    talk.send(tcp("FA", seq=ISN + 1, ack=501))
    talk.wait(9)

    opened, removed = talk.take_events(SessionOpened, SessionRemoved)

    key = bytes([198, 51, 100, 7, 192, 0, 2, 10]) + PORT.to_bytes(2, "big") + b"\0\x50"
    assert opened == SessionOpened(opened_at, "web", "rs1", 6, key)
    assert isinstance(removed, SessionRemoved)
    assert (removed.virtual_server, removed.server, removed.protocol, removed.key) == ("web", "rs1", 6, key)
    assert removed.reason is Removal.CLIENT_FIN
    assert 10 <= removed.age_s <= 10.25
    assert (removed.packets, removed.bytes) == (3, 120)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [("R", Removal.CLIENT_RST), ("FA", Removal.CLIENT_FIN), ("A", Removal.AGED)],
)
def test_session_events_say_why_it_ended(ending: str, reason: Removal) -> None:
    talk = Dialogue(session_events=True)
    established(talk)
    talk.send(tcp(ending, seq=ISN + 1, ack=501))
    talk.wait(601)

    (removed,) = talk.take_events(SessionRemoved)
    assert isinstance(removed, SessionRemoved)
    assert removed.reason is reason


def test_sessions_are_not_reported_unless_asked_for() -> None:
    talk = Dialogue()
    established(talk)
    talk.send(tcp("R"))

    assert talk.take_events(SessionOpened, SessionRemoved) == []


def test_a_new_box_does_nothing_until_it_is_configured() -> None:
    box = Box()

    assert box.next_deadline() == float("inf")
    box.handle_timer(0)
    assert (box.take_packets(), box.take_probes(0.0), box.take_events()) == ([], [], [])
    assert box.handle_packet(0, bytes(tcp("S"))) == 0
    assert box.dropped == {Drop.NO_SERVICE: 1}


def test_configuration_is_reported() -> None:
    talk = dual_stack()

    assert talk.take_events(Reconfigured) == [Reconfigured(talk.now, ("web", "six"))]
