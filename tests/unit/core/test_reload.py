"""A new configuration: what is in both keeps its sessions, its health, and its number."""

from __future__ import annotations

import pytest

from lb.core.events import Reconfigured, Removal, SessionRemoved
from lb.core.health import ServerState
from lb.core.packet import join
from lb.core.service import CheckSettings, ServiceSettings

from .dialogue import CLIENT, ISN, NOT_FOUND, PORT, VIP, Dialogue, changed, packed, real_server, service, tcp


def running(*services: ServiceSettings) -> Dialogue:
    """A box with a session on each of the first virtual server's three servers, on ports 1 to 3."""
    talk = Dialogue(*services, session_events=True)
    for port, server in ((1, "rs1"), (2, "rs2"), (3, "rs3")):
        assert talk.send(tcp("S", port=port)) == server
        assert talk.send(tcp("A", seq=ISN + 1, ack=501, port=port)) == server
    talk.take_events()
    return talk


def ids(talk: Dialogue) -> dict[str, int]:
    return {server.name: server.id for server in talk.box.services.servers.values()}


def served(talk: Dialogue) -> list[str]:
    """Whom the three sessions' next packets go to."""
    return [talk.send(tcp("A", seq=ISN + 1, ack=501, port=port)) for port in (1, 2, 3)]


@pytest.mark.parametrize(
    "following",
    [
        service(),
        service(scheduler="least-connections"),
        service(aging_s=3600),
        service(dscp=20),
        service(check=CheckSettings(interval_s=5, retries=3)),
        service(servers=("rs3", "rs2", "rs1")),
        service(servers=("rs4", "rs1", "rs2", "rs3")),
        service(servers=[real_server("rs1", weight=9), "rs2", "rs3"]),
    ],
)
def test_sessions_health_and_numbers_survive(following: ServiceSettings) -> None:
    talk = Dialogue(session_events=True)
    assert [talk.send(tcp("S", port=port)) for port in (1, 2, 3)] == ["rs1", "rs2", "rs3"]
    talk.answers["rs2"] = NOT_FOUND
    talk.wait_for_state("rs2", ServerState.FAILED)
    before, sessions = ids(talk), talk.sessions()
    states = talk.states()
    talk.take_events()

    talk.configure(following)

    assert {name: ids(talk)[name] for name in before} == before
    assert {name: talk.states()[name] for name in before} == states
    assert [row.key for row in talk.sessions()] == [row.key for row in sessions]
    assert talk.take_events(SessionRemoved) == []
    assert served(talk) == ["rs1", "rs2", "rs3"]


def test_configuration_given_twice_changes_nothing() -> None:
    talk = running()
    sessions, numbers, states = talk.sessions(), ids(talk), talk.states()

    talk.configure(service())

    assert (talk.sessions(), ids(talk), talk.states()) == (sessions, numbers, states)
    assert [type(event) for event in talk.take_events()] == [Reconfigured]


def test_removed_servers_sessions_go_and_only_those() -> None:
    talk = running()

    talk.configure(service(servers=("rs1", "rs3")))

    removed = [event for event in talk.take_events() if isinstance(event, SessionRemoved)]
    assert [(event.server, event.reason) for event in removed] == [("rs2", Removal.SERVER_GONE)]
    assert served(talk) == ["rs1", "no_entry", "rs3"]
    assert set(talk.states()) == {"rs1", "rs3"}


@pytest.mark.parametrize(
    ("what", "following"),
    [
        (
            "address",
            service(servers=[real_server("rs1"), real_server("rs2", "10.9.9.9"), real_server("rs3")]),
        ),
        ("name", service(servers=[real_server("rs1"), real_server("new", "10.0.2.2"), real_server("rs3")])),
    ],
)
def test_server_with_another_address_or_name_is_another_server(what: str, following: ServiceSettings) -> None:
    talk = running()
    before = ids(talk)["rs2"]
    talk.wait(5)
    talk.checks.clear()

    talk.configure(following)

    assert served(talk) == ["rs1", "no_entry", "rs3"], what
    new = talk.box.services.servers[before]
    assert (new.sessions, new.flows) == (0, 0)
    assert [name for _, name in talk.checks] == [new.name], "tested at once"


@pytest.mark.parametrize(
    "following",
    [
        service(port=8080),
        service(vip="192.0.2.99"),
        service(protocol=17),
        service("renamed"),
        service("other", port=81),
    ],
)
def test_virtual_server_at_another_place_is_another_with_no_sessions(following: ServiceSettings) -> None:
    talk = running()

    talk.configure(following)

    assert talk.sessions() == []
    assert talk.box.services.find(following.protocol, following.vip, following.port) is not None
    if following.place != service().place:
        assert served(talk) == ["no_virtual_server"] * 3
        assert talk.box.services.find(6, packed(VIP), 80) is None


def test_no_session_is_left_on_a_server_that_is_gone() -> None:
    talk = running(service(), service("other", port=443, servers=("rs4",)))
    talk.send(tcp("S", vip_port=443))

    talk.configure(service("other", port=443, servers=("rs4",)))

    assert [row.key for row in talk.sessions()] == [join(packed(CLIENT), PORT, packed(VIP), 443)]
    assert talk.send(tcp("S", port=9)) == "no_virtual_server"


def test_number_is_used_again_only_when_it_is_free() -> None:
    talk = running()
    assert ids(talk) == {"rs1": 1, "rs2": 2, "rs3": 3}

    talk.configure(service(servers=("rs1", "rs3")))
    talk.configure(service(servers=("rs4", "rs1", "rs3")))

    assert ids(talk) == {"rs1": 1, "rs3": 3, "rs4": 2}
    assert served(talk) == ["rs1", "no_entry", "rs3"], "the new number 2 has none of the old one's sessions"


def test_server_with_a_used_number_does_not_hear_of_the_old_ones_checks() -> None:
    talk = running()
    talk.answers["rs4"] = NOT_FOUND
    talk.configure(service(servers=("rs1", "rs3", "rs4")))
    talk.checks.clear()
    talk.wait(100)

    assert talk.states()["rs4"] == "FAILED"
    assert 9 <= [name for _, name in talk.checks].count("rs4") <= 11, "checked under its own run only"


def test_added_server_is_tested_and_then_gets_flows() -> None:
    talk = running()

    talk.configure(service(servers=("rs1", "rs2", "rs3", "rs4")))

    assert talk.states()["rs4"] == "ACTIVE"
    assert {talk.send(tcp("S", port=port)) for port in range(10, 14)} == {"rs1", "rs2", "rs3", "rs4"}


def test_disabled_server_stays_disabled() -> None:
    talk = running()
    talk.box.disable(talk.now, talk.server("rs2"))

    talk.configure(service(aging_s=300))
    talk.wait(30)

    assert talk.states()["rs2"] == "DISABLED"


def test_scheduler_of_the_same_kind_goes_on_where_it_was() -> None:
    talk = Dialogue()
    assert talk.send(tcp("S", port=1)) == "rs1"

    talk.configure(service(aging_s=300))

    assert [talk.send(tcp("S", port=port)) for port in (2, 3, 4)] == ["rs2", "rs3", "rs1"]


def test_new_scheduler_takes_over_for_new_flows() -> None:
    talk = Dialogue(service(servers=("rs1", "rs2")))
    for port in range(4):
        talk.send(tcp("S", port=port))
    for port in (1, 3):
        assert talk.send(tcp("R", port=port)) == "rs2"

    talk.configure(service(servers=("rs1", "rs2"), scheduler="least-connections"))

    assert [talk.send(tcp("S", port=port)) for port in (10, 11)] == ["rs2", "rs2"]


def test_new_weights_hold_for_new_flows() -> None:
    talk = Dialogue(service(servers=("rs1", "rs2"), scheduler="weighted-round-robin"))

    talk.configure(
        service(servers=[real_server("rs1", weight=3), real_server("rs2")], scheduler="weighted-round-robin")
    )

    flows = [talk.send(tcp("S", port=port)) for port in range(8)]
    assert (flows.count("rs1"), flows.count("rs2")) == (6, 2)


def test_longer_aging_holds_for_sessions_that_are_there() -> None:
    talk = running(service(aging_s=120))

    talk.configure(service(aging_s=600))
    talk.wait(599)

    assert len(talk.sessions()) == 3
    talk.wait(2)
    assert talk.sessions() == []


def test_shorter_aging_holds_for_sessions_that_are_there() -> None:
    talk = running()
    talk.wait(60)

    talk.configure(service(aging_s=120))
    talk.wait(59)
    assert len(talk.sessions()) == 3
    talk.wait(2)

    assert talk.sessions() == []


def test_shorter_aging_removes_at_once_what_has_been_idle_for_longer() -> None:
    talk = running()
    talk.wait(300)

    talk.configure(service(aging_s=120))
    talk.wait(1)

    assert talk.sessions() == []


def test_reload_during_suspicion_neither_clears_nor_hastens_it() -> None:
    settings = service(check=CheckSettings(retries=2))
    talk = Dialogue(settings)
    talk.answers["rs2"] = NOT_FOUND
    talk.wait_for_state("rs2", ServerState.SUSPECT)
    talk.checks.clear()
    for _ in range(20):
        talk.wait(1)
        talk.configure(changed(settings, aging_s=300))
    talk.wait(0.1)

    assert talk.states()["rs2"] == "FAILED"
    assert [name for _, name in talk.checks].count("rs2") == 2


def test_reload_makes_no_check_of_a_server_that_stays() -> None:
    talk = Dialogue(service(servers=("rs1",)))
    for _ in range(100):
        talk.wait(1)
        talk.configure(service(servers=("rs1",)))

    assert len(talk.checks) in {10, 11}


def test_everything_may_go_and_come_back() -> None:
    talk = running()

    talk.box.configure(talk.now, [])
    assert talk.box.services.servers == {}
    assert talk.sessions() == []
    talk.wait(1000)
    assert talk.box.next_deadline() == float("inf")
    talk.configure(service())

    assert talk.send(tcp("S")) in {"rs1", "rs2", "rs3"}
