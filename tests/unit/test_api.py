from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from lb.api.filters import SLICE, Place
from lb.api.views import describe_event
from lb.core.events import Reconfigured
from lb.core.packet import RST, Drop, Packet, read, split
from lb.core.service import CheckSettings, Policy, PortReuse, ResetSettings
from lb.metrics import QueueStatistics

from .fake_daemon import (
    CLIENT,
    EPOCH,
    MISSING,
    VIP,
    WEB,
    FakeDaemon,
    call,
    get,
    in_process,
    packed,
    put,
    servers,
    web,
)

Result = TypeVar("Result")

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "json.md"
CLIENT6, VIP6 = "2001:db8:c1::7", "2001:db8:10::10"


@pytest.fixture
def host() -> FakeDaemon:
    return FakeDaemon(web(), web("tls", port=443), web("six", vip=VIP6))


def sessions(host: FakeDaemon, **parameters: Any) -> list[Any]:
    rows: list[Any] = get(host, "/v1/sessions", **parameters)["sessions"]
    return rows


def clients(host: FakeDaemon, **parameters: Any) -> list[str]:
    return [row["client"] for row in sessions(host, **parameters)]


def refusal(host: FakeDaemon, method: str, path: str, **parameters: Any) -> tuple[int, str]:
    """Status and code; the body has the one shape that every refusal has."""
    response = call(host, method, path, **parameters)
    error = response.json()["error"]
    assert response.json() == {"error": {"code": error["code"], "message": error["message"]}}
    assert error["message"]
    return response.status_code, error["code"]


def resets(host: FakeDaemon) -> list[tuple[str, int, int]]:
    """The RSTs sent: to whom, the client's port, the sequence number."""
    found = []
    for raw in host.packets:
        packet = read(raw)
        assert isinstance(packet, Packet)
        if packet.flags & RST:
            _, port, destination, to = split(packet.key)
            to_client = destination == packed(CLIENT)
            found.append(("client" if to_client else "server", to if to_client else port, packet.seq))
    return found


async def turns_during(request: Awaitable[Result]) -> tuple[Result, int]:
    """What a request gives, and how often others had their turn before it did."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    result = await request
    counting.cancel()
    return result, turns


def with_turns(host: FakeDaemon, do: Callable[[httpx.AsyncClient], Awaitable[Result]]) -> tuple[Result, int]:
    async def run() -> tuple[Result, int]:
        async with in_process(host) as http:
            return await turns_during(do(http))

    return asyncio.run(run())


# Servers


def test_a_server_is_listed_with_its_state_and_how_it_came_to_it() -> None:
    host = FakeDaemon(web(check=CheckSettings(interval_s=10)))
    host.open(40000, 40001, 40002)
    host.wait(2)
    host.fail("web/rs1")
    host.time += 1.5
    first, second = get(host, "/v1/servers")["servers"]
    assert first.pop("next_check_in_s") > 0
    assert first == {
        "virtual_server": "web",
        "name": "rs1",
        "address": "10.0.0.1",
        "state": "FAILED",
        "state_age_s": 1.5,
        "state_reason": "health check: 404",
        "bound": False,
        "weight": 1,
        "sessions": 2,
        "resetting": 0,
        "flows": 2,
        "last_check": "404",
        "last_check_age_s": 1.5,
    }
    assert (second["name"], second["state"], second["bound"]) == ("rs2", "ACTIVE", True)


def test_the_next_check_comes_when_it_was_said_to_come() -> None:
    host = FakeDaemon()
    host.wait(3)
    due = {row["name"]: row["next_check_in_s"] for row in get(host, "/v1/servers")["servers"]}
    host.probes.clear()
    host.wait(min(due.values()) - 0.01)
    assert not host.probes
    host.wait(0.02)
    assert list(host.probes) == [f"web/{min(due, key=lambda name: due[name])}"]


def test_a_server_that_was_never_checked_has_no_past() -> None:
    host = FakeDaemon()
    host.event_log = type(host.event_log)(10)
    server = get(host, "/v1/servers")["servers"][0]
    assert (server["last_check"], server["last_check_age_s"], server["state_age_s"]) == (None, None, None)


def test_disable_acts_on_the_server_in_every_virtual_server_and_sessions_stay(host: FakeDaemon) -> None:
    assert host.open(40000) == ["rs1"]
    settled = host.settled
    changed = call(host, "POST", "/v1/servers/rs1/disable").json()["servers"]
    assert [(row["virtual_server"], row["state"], row["bound"]) for row in changed] == [
        ("web", "DISABLED", False),
        ("tls", "DISABLED", False),
        ("six", "DISABLED", False),
    ]
    assert changed[0]["next_check_in_s"] is None
    assert host.settled > settled
    assert host.send("A", seq=1001, ack=5001) == "rs1"
    assert host.open(40001, 40002) == ["rs2", "rs2"]


def test_a_change_can_be_for_one_virtual_server_only(host: FakeDaemon) -> None:
    call(host, "POST", "/v1/servers/rs1/shutdown", virtual_server="tls")
    states = {
        (row["virtual_server"], row["name"]): row["state"] for row in get(host, "/v1/servers")["servers"]
    }
    assert states["tls", "rs1"] == "SHUTDOWN"
    assert states["web", "rs1"] == "ACTIVE"


def test_enable_has_the_server_checked_at_once(host: FakeDaemon) -> None:
    call(host, "POST", "/v1/servers/rs1/disable", virtual_server="web")
    host.probes.clear()
    (server,) = call(host, "POST", "/v1/servers/rs1/enable", virtual_server="web").json()["servers"]
    assert server["state"] == "ENABLED"
    host.wait(0)
    assert list(host.probes) == ["web/rs1"]


@pytest.mark.parametrize(
    ("path", "parameters", "expected"),
    [
        ("/v1/servers/rs9/enable", {}, (404, "unknown_server")),
        ("/v1/servers/rs1/enable", {"virtual_server": "none"}, (404, "unknown_virtual_server")),
        ("/v1/servers/rs1/explode", {}, (404, "not_found")),
        ("/v1/servers/rs1/disable", {"reset": "perhaps"}, (422, "invalid_request")),
        ("/v1/servers/rs1/shutdown", {"drain_timeout_s": -1}, (422, "invalid_request")),
        ("/v1/servers/rs1/shutdown", {"drain_timeout_s": 86_401}, (422, "invalid_request")),
        ("/v1/servers/rs1/shutdown", {"drain_timeout_s": "nan"}, (422, "invalid_request")),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(
    host: FakeDaemon, path: str, parameters: dict[str, str], expected: tuple[int, str]
) -> None:
    assert refusal(host, "POST", path, **parameters) == expected


def test_a_server_can_be_disabled_and_its_sessions_reset(host: FakeDaemon) -> None:
    host.open(40000, 40001, 40002)
    last = host.event_log.last
    (row,) = call(host, "POST", "/v1/servers/rs1/disable", virtual_server="web", reset=True).json()["servers"]
    assert (row["state"], row["sessions"], row["resetting"]) == ("DISABLED", 2, 2)
    assert get(host, "/v1/stats")["virtual_servers"][0]["resetting"] == 2
    assert not host.packets
    host.wait(0)
    assert sorted(resets(host)) == [("client", 40000, 5001), ("client", 40002, 5001)]
    assert clients(host) == [f"{CLIENT}:40001"]
    assert get(host, "/v1/servers")["servers"][0]["resetting"] == 0
    started, ended = [
        event
        for event in lines(call(host, "GET", "/v1/events", since=last))
        if event["kind"].startswith("reset_")
    ]
    subject = {"virtual_server": "web", "server": "rs1", "reason": "administrator", "sessions": 2}
    assert started.items() >= {"kind": "reset_started", **subject}.items()
    assert ended.items() >= {"kind": "reset_ended", "resets": 2, "took_s": 0.0, **subject}.items()


def test_a_paced_reset_shows_how_many_sessions_are_left() -> None:
    host = FakeDaemon(web(reset=ResetSettings(pace=10)))
    host.open(*range(40000, 40040))
    call(host, "POST", "/v1/servers/rs1/disable", reset=True)
    left = []
    for _ in range(3):
        host.wait(0.5)
        first, second = get(host, "/v1/servers")["servers"]
        left.append(first["resetting"])
        assert (first["sessions"], second["resetting"]) == (left[-1], 0)
    assert left[0] > left[1] > left[2] > 0
    assert get(host, "/v1/stats")["virtual_servers"][0]["resetting"] == left[-1]


@pytest.mark.parametrize(
    ("of_service", "parameters", "reset_at"),
    [
        (0.0, {"drain_timeout_s": 30}, 30),
        (60.0, {"drain_timeout_s": 30}, 30),
        (60.0, {}, 60),
        (60.0, {"drain_timeout_s": 0}, None),
        (0.0, {}, None),
    ],
)
def test_what_is_left_of_a_server_that_was_shut_down_is_reset_after_the_timeout(
    of_service: float, parameters: dict[str, float], reset_at: float | None
) -> None:
    host = FakeDaemon(web(drain_timeout_s=of_service))
    assert host.open(40000) == ["rs1"]
    (row,) = call(host, "POST", "/v1/servers/rs1/shutdown", **parameters).json()["servers"]
    assert (row["state"], row["sessions"]) == ("SHUTDOWN", 1)
    host.wait((reset_at or 120) - 1)
    assert resets(host) == []
    host.wait(2)
    assert resets(host) == ([("client", 40000, 5001)] if reset_at else [])
    assert get(host, "/v1/stats")["session_resets"]["drain_timeout"]["client"] == len(resets(host))


# Sessions


def test_a_session_row_has_all_there_is_to_know() -> None:
    host = FakeDaemon()
    host.send("S", seq=1000)
    host.wait(2)
    host.send("A", seq=1001, ack=5001)
    host.time += 3
    assert get(host, "/v1/sessions") == {
        "sessions": [
            {
                "client": "198.51.100.7:40000",
                "vip": "192.0.2.10:80",
                "protocol": "tcp",
                "virtual_server": "web",
                "server": "rs1",
                "state": "ESTABLISHED",
                "age_s": 5.0,
                "idle_s": 3.0,
                "expires_in_s": 597.0,
                "packets": 2,
                "bytes": 80,
                "seq": 1001,
                "ack": 5001,
            }
        ],
        "next": None,
    }


def test_an_ipv6_session_has_brackets(host: FakeDaemon) -> None:
    host.open(40000, client=CLIENT6, vip=VIP6)
    (row,) = sessions(host)
    assert (row["client"], row["vip"]) == ("[2001:db8:c1::7]:40000", "[2001:db8:10::10]:80")


def test_an_expired_session_is_not_listed_even_before_it_is_swept(host: FakeDaemon) -> None:
    host.open(40000)
    host.time += 599
    assert len(sessions(host)) == 1
    host.time += 2
    assert sessions(host) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"a80", "b80", "a443", "six"}),
        ({"client": "198.51.100.7"}, {"a80", "a443"}),
        ({"client": "198.51.100.7:40000"}, {"a80"}),
        ({"client": "198.51.100.7:40000", "vip": "192.0.2.10:443"}, set()),
        ({"client": "198.51.100.0/24"}, {"a80", "a443"}),
        ({"client": "0.0.0.0/0"}, {"a80", "b80", "a443"}),
        ({"client": "203.0.113.9"}, {"b80"}),
        ({"client": "203.0.113.10"}, set()),
        ({"client": CLIENT6}, {"six"}),
        ({"client": f"[{CLIENT6}]:40003"}, {"six"}),
        ({"client": "2001:db8::/32"}, {"six"}),
        ({"vip": "192.0.2.10"}, {"a80", "b80", "a443"}),
        ({"vip": "192.0.2.10:443"}, {"a443"}),
        ({"server": "rs1"}, {"a80", "a443", "six"}),
        ({"server": "rs2"}, {"b80"}),
        ({"virtual_server": "tls"}, {"a443"}),
        ({"virtual_server": "web", "server": "rs2"}, {"b80"}),
        ({"state": "SYN"}, {"six"}),
        ({"state": "ESTABLISHED", "client": "198.51.100.7"}, {"a80", "a443"}),
    ],
)
def test_filters(host: FakeDaemon, filters: dict[str, str], expected: set[str]) -> None:
    names = {
        "198.51.100.7:40000": "a80",
        "203.0.113.9:40001": "b80",
        "198.51.100.7:40002": "a443",
        f"[{CLIENT6}]:40003": "six",
    }
    host.open(40000)
    host.open(40001, client="203.0.113.9")
    host.open(40002, vip_port=443)
    host.send("S", port=40003, client=CLIENT6, vip=VIP6)
    assert {names[client] for client in clients(host, **filters)} == expected


def test_pages_together_hold_every_session_once(host: FakeDaemon) -> None:
    host.fill(25)
    cursor: int | None = 0
    seen, sizes = [], []
    while cursor is not None:
        page = get(host, "/v1/sessions", limit=10, cursor=cursor)
        seen += [row["client"] for row in page["sessions"]]
        sizes.append(len(page["sessions"]))
        cursor = page["next"]
    assert sizes == [10, 10, 5]
    assert len(set(seen)) == len(seen) == 25


def test_a_session_that_stays_is_seen_although_others_come_and_go_between_pages(host: FakeDaemon) -> None:
    host.open(*range(40000, 40020))
    first = get(host, "/v1/sessions", limit=5)
    for port in range(40000, 40010):
        host.send("R", port=port, seq=1001)
    host.open(*range(50000, 50003))
    rest = get(host, "/v1/sessions", limit=1000, cursor=first["next"])
    seen = {row["client"] for row in first["sessions"] + rest["sessions"]}
    assert {f"{CLIENT}:{port}" for port in range(40010, 40020)} <= seen


def test_a_cursor_past_the_end_is_the_end(host: FakeDaemon) -> None:
    host.fill(3)
    assert get(host, "/v1/sessions", cursor=10**9) == {"sessions": [], "next": None}


def test_looking_through_a_large_table_gives_packets_their_turn_after_each_slice(host: FakeDaemon) -> None:
    host.fill(50_000)
    host.open(40000)

    async def find(http: httpx.AsyncClient) -> httpx.Response:
        return await http.get("/v1/sessions", params={"client": CLIENT})

    response, turns = with_turns(host, find)
    assert [row["client"] for row in response.json()["sessions"]] == [f"{CLIENT}:40000"]
    assert turns >= 50_000 // SLICE


def test_one_request_looks_at_a_bounded_part_of_the_table_and_says_where_to_go_on(
    host: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lb.api.sessions.SLICES", 3)
    host.fill(5 * SLICE)
    host.open(40000)
    page = get(host, "/v1/sessions", client=CLIENT)
    assert page == {"sessions": [], "next": 3 * SLICE + 1}
    page = get(host, "/v1/sessions", client=CLIENT, cursor=page["next"])
    assert ([row["client"] for row in page["sessions"]], page["next"]) == ([f"{CLIENT}:40000"], None)


def test_one_client_port_is_found_without_looking_through_the_table(host: FakeDaemon) -> None:
    host.fill(50_000)
    host.open(40000)

    async def find(http: httpx.AsyncClient) -> httpx.Response:
        return await http.get("/v1/sessions", params={"client": f"{CLIENT}:40000"})

    response, turns = with_turns(host, find)
    assert len(response.json()["sessions"]) == 1
    assert turns < 50_000 // SLICE


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"client": "nonsense"}, (422, "invalid_request")),
        ({"client": "10.0.0.1:0"}, (422, "invalid_request")),
        ({"client": "10.0.0.1:65536"}, (422, "invalid_request")),
        ({"client": "10.0.0.0/24:80"}, (422, "invalid_request")),
        ({"vip": "192.0.2.999"}, (422, "invalid_request")),
        ({"state": "SLEEPING"}, (422, "invalid_request")),
        ({"limit": 0}, (422, "invalid_request")),
        ({"limit": 1001}, (422, "invalid_request")),
        ({"cursor": -1}, (422, "invalid_request")),
        ({"server": "rs9"}, (404, "unknown_server")),
        ({"virtual_server": "none"}, (404, "unknown_virtual_server")),
    ],
)
def test_filters_that_mean_nothing_are_refused(
    host: FakeDaemon, parameters: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert refusal(host, "GET", "/v1/sessions", **parameters) == expected


def test_clearing_takes_the_sessions_that_match_and_no_other(host: FakeDaemon) -> None:
    host.open(40000, 40001, 40002, 40003)
    response = call(host, "DELETE", "/v1/sessions", server="rs1")
    assert response.json() == {"cleared": 2}
    assert {row["server"] for row in sessions(host)} == {"rs2"}
    assert host.send("A", port=40000, seq=1001, ack=5001) == "dropped"


def test_clearing_without_a_filter_must_be_meant(host: FakeDaemon) -> None:
    host.open(40000, 40001)
    assert refusal(host, "DELETE", "/v1/sessions") == (422, "filter_required")
    assert len(sessions(host)) == 2
    assert call(host, "DELETE", "/v1/sessions", all=True).json() == {"cleared": 2}
    assert sessions(host) == []


def test_resetting_takes_the_sessions_that_match_and_tells_their_clients(host: FakeDaemon) -> None:
    host.open(40000, 40001, 40002, 40003)
    response = call(host, "POST", "/v1/sessions/reset", server="rs1")
    assert response.json() == {"reset": 2}
    assert sorted(resets(host)) == [("client", 40000, 5001), ("client", 40002, 5001)]
    assert {row["server"] for row in sessions(host)} == {"rs2"}
    assert host.send("S", port=40000, seq=7000) in ("rs1", "rs2")
    assert call(host, "POST", "/v1/sessions/reset", client=f"{CLIENT}:40003").json() == {"reset": 1}
    assert clients(host) == [f"{CLIENT}:40000", f"{CLIENT}:40001"]
    assert call(host, "POST", "/v1/sessions/reset", client="203.0.113.0/24").json() == {"reset": 0}


def test_resetting_tells_the_sides_that_the_settings_say() -> None:
    host = FakeDaemon(web(reset=ResetSettings(server=True)))
    host.open(40000)
    assert call(host, "POST", "/v1/sessions/reset", vip="192.0.2.10:80").json() == {"reset": 1}
    assert sorted(resets(host)) == [("client", 40000, 5001), ("server", 40000, 1001)]
    found = get(host, "/v1/stats")["session_resets"]["administrator"]
    assert (found["client"], found["server"]) == (1, 1)


def test_resetting_without_a_filter_must_be_meant(host: FakeDaemon) -> None:
    host.open(40000, 40001)
    assert refusal(host, "POST", "/v1/sessions/reset") == (422, "filter_required")
    assert refusal(host, "POST", "/v1/sessions/reset", server="rs9") == (404, "unknown_server")
    assert refusal(host, "POST", "/v1/sessions/reset", client="nonsense") == (422, "invalid_request")
    assert (len(sessions(host)), host.packets) == (2, [])
    assert call(host, "POST", "/v1/sessions/reset", all=True).json() == {"reset": 2}
    assert sessions(host) == []
    assert call(host, "POST", "/v1/sessions/reset", all=True).json() == {"reset": 0}, "tombstones are none"


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [("DELETE", "/v1/sessions", "cleared"), ("POST", "/v1/sessions/reset", "reset")],
)
def test_acting_on_a_large_table_gives_packets_their_turn_and_spares_what_comes_meanwhile(
    method: str, path: str, answer: str
) -> None:
    host = FakeDaemon()
    host.fill(50_000)
    ports = iter(range(40000, 65000))

    async def clear(http: httpx.AsyncClient) -> httpx.Response:
        return await http.request(method, path, params={"server": "rs1"})

    async def run() -> tuple[httpx.Response, int]:
        async def arrive() -> None:
            while True:
                host.open(next(ports))
                await asyncio.sleep(0)

        async with in_process(host) as http:
            arriving = asyncio.create_task(arrive())
            result = await turns_during(clear(http))
            arriving.cancel()
            return result

    response, turns = asyncio.run(run())
    assert response.json()[answer] >= 50_000
    assert turns >= 50_000 // SLICE - 1
    assert len(host.box.table) > 0
    assert host.settled >= 50_000 // SLICE


# The configuration


def test_configuration_is_that_of_the_file_with_what_it_leaves_out(host: FakeDaemon) -> None:
    (service,) = get(host, "/v1/configuration")["configuration"]["virtual_server"]
    assert (service["name"], service["aging_s"], service["health_check"]["interval_s"]) == (
        "web",
        600.0,
        10.0,
    )


def test_configuration_can_be_sent_back_with_another_server(host: FakeDaemon) -> None:
    changed = get(host, "/v1/configuration")["configuration"]
    changed["virtual_server"][0]["real_server"].append({"name": "rs3", "address": "10.0.0.3"})
    answer = put(host, "/v1/configuration", changed)
    assert answer.status_code == 200
    assert answer.json()["configuration"] == get(host, "/v1/configuration")["configuration"]
    assert [server.name for server in host.configuration.virtual_server[0].real_server] == [
        "rs1",
        "rs2",
        "rs3",
    ]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (
            {"virtual_server": [{**WEB, "dscp": 64}]},
            "bad_configuration",
            "virtual_server[0].dscp = 64: 1 to 63",
        ),
        ({"virtual_servers": []}, "bad_configuration", "virtual_servers: unknown key"),
        ({"speed": 7.0}, "restart_needed", "speed"),
    ],
)
def test_configuration_with_a_mistake_changes_nothing(
    host: FakeDaemon, change: dict[str, Any], code: str, said: str
) -> None:
    before = get(host, "/v1/configuration")["configuration"]
    answer = put(host, "/v1/configuration", {**before, **change})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == code
    assert said in answer.json()["error"]["message"]
    assert get(host, "/v1/configuration")["configuration"] == before


# Events


def lines(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [httpx.Response(200, content=line).json() for line in response.text.splitlines()]


def test_events_are_a_stream_of_one_object_a_line(host: FakeDaemon) -> None:
    last = host.event_log.last
    host.time += 1.25
    host.probe("web/rs1", MISSING)
    probe, change = lines(call(host, "GET", "/v1/events", since=last))
    assert probe == {
        "id": last + 1,
        "time": "2023-11-14T22:15:01.250Z",
        "box_time": 101.25,
        "kind": "probe",
        "virtual_server": "web",
        "server": "rs1",
        "outcome": "bad_status",
        "detail": "404",
        "status": 404,
        "began": 100.0,
    }
    assert change == {
        "id": last + 2,
        "time": "2023-11-14T22:15:01.250Z",
        "box_time": 101.25,
        "kind": "server_state",
        "virtual_server": "web",
        "server": "rs1",
        "old": "ACTIVE",
        "new": "SUSPECT",
        "bound": True,
        "reason": "health check: 404",
        "sessions": 0,
    }


def test_session_events_name_the_flow_as_a_session_row_does(host: FakeDaemon) -> None:
    host.box.session_events = True
    last = host.event_log.last
    host.open(40000)
    host.time += 2
    host.send("R", seq=1001)
    opened, removed = lines(call(host, "GET", "/v1/events", since=last))
    flow = {
        "client": f"{CLIENT}:40000",
        "vip": "192.0.2.10:80",
        "protocol": "tcp",
        "virtual_server": "web",
        "server": "rs1",
    }
    assert opened["kind"] == "session_opened"
    assert opened.items() >= flow.items()
    assert removed["kind"] == "session_removed"
    assert removed.items() >= (flow | {"reason": "client_reset", "age_s": 2.0, "packets": 3}).items()


def test_a_new_configuration_is_an_event() -> None:
    described = describe_event(Reconfigured(3.0, ("web", "tls")), lambda box_time: EPOCH + box_time)
    assert described == {
        "time": "2023-11-14T22:13:23.000Z",
        "box_time": 3.0,
        "kind": "reconfigured",
        "virtual_servers": ["web", "tls"],
    }


def test_events_stop_at_the_limit_and_go_on_after_it() -> None:
    host = FakeDaemon(keep=5)
    assert host.event_log.last > 5
    newest = [event["id"] for event in lines(call(host, "GET", "/v1/events"))]
    assert newest == list(range(host.event_log.last - 4, host.event_log.last + 1))
    first = lines(call(host, "GET", "/v1/events", since=newest[0] - 1, limit=2))
    assert [event["id"] for event in first] == newest[:2]
    assert [event["id"] for event in lines(call(host, "GET", "/v1/events", since=-1))] == newest[-1:]
    assert lines(call(host, "GET", "/v1/events", since=newest[-1])) == []
    assert lines(call(host, "GET", "/v1/events", since=0))[0]["kind"] == "missed"


# Statistics


def test_stats_count_everything(host: FakeDaemon) -> None:
    host.statistics = QueueStatistics(received=9, injection_failures={"EPERM": 1})
    host.open(40000, 40001)
    host.send("A", port=50000, ack=7)
    host.fail("tls/rs2")
    found = get(host, "/v1/stats")
    assert found["sessions"] == {"now": 2, "limit": 100_000, "tombstones": 0}
    assert (found["forwarded"], found["dropped"]["no_entry"], found["resets"]["no_entry"]) == (4, 1, 1)
    assert set(found["dropped"]) == {reason.value for reason in Drop}
    assert found["queue"]["received"] == 9
    assert found["queue"]["injection_failures"] == {"EPERM": 1}
    assert found["last_event"] == host.event_log.last
    assert (found["name"], found["speed"], found["uptime_s"]) == ("l4box", 1.0, 0.0)
    assert found["box_time"] == host.time
    assert found["virtual_servers"][0] == {
        "name": "web",
        "vip": "192.0.2.10:80",
        "protocol": "tcp",
        "dscp": 10,
        "scheduler": "round-robin",
        "aging_s": 600.0,
        "syn_timeout_s": 60.0,
        "servers": 2,
        "bound": 2,
        "sessions": 2,
        "resetting": 0,
        "flows": 2,
    }
    assert found["virtual_servers"][1]["bound"] == 1


def test_stats_have_the_loops_lag_as_a_cumulative_histogram(host: FakeDaemon) -> None:
    host.heartbeat.note(0.15)
    lag = get(host, "/v1/stats")["loop_lag"]

    counts = dict(zip(lag["upper_bounds_s"], lag["counts"], strict=True))
    assert (counts[0.02], counts[0.05], counts[0.1], counts[0.2], counts[5.0]) == (0, 1, 1, 2, 2)
    assert (lag["beats"], lag["sum_s"], lag["worst_s"]) == (2, 0.2, 0.15)


def test_stats_tell_resets_by_reason_and_side_and_what_became_of_them() -> None:
    host = FakeDaemon(web(reset=ResetSettings(on_port_fail=True, server=True)))
    host.open(*range(40000, 40008))
    host.wait(5)  # the clients are idle: none is asked with a SYN
    for port in (40004, 40006):  # but these
        host.send("A", port=port, seq=1001, ack=5001)
    host.fail("web/rs1")
    host.wait(0.1)
    host.send("A", port=40000, seq=1001, ack=6001)
    found = get(host, "/v1/stats")
    assert found["sessions"] == {"now": 4, "limit": 100_000, "tombstones": 4}
    assert found["session_resets"].keys() == {"port_fail", "administrator", "drain_timeout", "aged_out"}
    assert found["session_resets"]["port_fail"] == {
        "client": 5,
        "server": 4,
        "accepted": 0,
        "challenged": 0,
        "probed": 0,
        "silent": 0,
    }
    assert set(found["session_resets"]["aged_out"].values()) == {0}
    assert set(found["resets"].values()) == {0}, "that is for packets of no session"
    host.wait(0.5)
    assert get(host, "/v1/stats")["syn_probes"] == 2
    host.send("A", port=40004, seq=1001, ack=6001)
    host.wait(70)
    found = get(host, "/v1/stats")
    assert found["sessions"]["tombstones"] == 0
    outcomes = found["session_resets"]["port_fail"]
    assert [outcomes[name] for name in ("accepted", "challenged", "probed", "silent")] == [1, 1, 1, 1]


def test_healthz(host: FakeDaemon) -> None:
    assert get(host, "/healthz").items() >= {"status": "ok", "name": "l4box"}.items()


# Explain


def told(host: FakeDaemon, client: str, vip: str = "192.0.2.10:80") -> tuple[Any, str]:
    """The one virtual server's explanation, and its words."""
    found = get(host, "/v1/explain", client=client, vip=vip)
    (one,) = found["virtual_servers"]
    assert found["text"] == one["text"]
    return one, "\n".join(one["text"])


def test_explain_says_that_a_session_goes_to_its_server_although_that_has_failed(host: FakeDaemon) -> None:
    host.open(40000)
    host.fail("web/rs1")
    host.time += 4
    one, text = told(host, f"{CLIENT}:40000")
    assert (
        "its packets go to rs1 although rs1 is FAILED: a session is kept until it has been idle for 600 s"
    ) in text
    assert "idle for 4.0 s and goes in 596.0 s" in text
    assert "rs1 gets no new flows: FAILED for 4.0 s (health check: 404); last check 4.0 s ago: 404" in text
    assert one["other_packets"] == {"action": "forward", "servers": ["rs1"]}
    assert one["new_connection"] == {"action": "forward", "servers": ["rs2"]}
    assert one["sessions"][0]["client"] == f"{CLIENT}:40000"
    # And so it is.
    assert host.send("A", seq=1001, ack=5001) == "rs1"
    assert host.send("S", seq=9000) == "rs2"


def test_explain_says_that_a_session_is_half_open_and_when_it_goes(host: FakeDaemon) -> None:
    host.send("S", port=40000)
    host.fail("web/rs1")
    host.time += 4
    _, text = told(host, f"{CLIENT}:40000")
    assert "a session is kept until it has been idle for 60 s" in text
    assert (
        "It is half-open, the client has sent no ACK yet: the entry goes in 56.0 s if no packet comes."
        in text
    )


def test_explain_without_a_session_says_who_would_get_a_new_one_and_what_other_segments_meet(
    host: FakeDaemon,
) -> None:
    one, text = told(host, f"{CLIENT}:40000")
    assert "A new connection goes to rs1 or rs2, by round-robin." in text
    assert "no session is answered with a RST (on_no_entry = reset)" in text
    assert one["new_connection"] == {"action": "forward", "servers": ["rs1", "rs2"]}
    assert one["other_packets"] == {"action": "reset", "servers": []}
    assert host.send("A", ack=7) == "dropped"
    assert host.packets


def failed_with_resets() -> FakeDaemon:
    """Port 40000's session was with rs1, which has failed: it was reset 3 s ago."""
    host = FakeDaemon(web(on_no_entry=Policy.DROP, reset=ResetSettings(on_port_fail=True)))
    host.open(40000, 40001, 40002)
    host.wait(5)
    host.fail("web/rs1")
    host.wait(0)
    host.wait(3)
    return host


def test_explain_remembers_a_session_that_was_reset_because_its_server_failed() -> None:
    host = failed_with_resets()
    one, text = told(host, f"{CLIENT}:40000")
    assert "Its session with rs1 was reset 3.0 s ago because rs1 failed; nothing came since." in text
    assert "A packet of that connection is answered with the exact RST; that is remembered for 57.0 s" in text
    assert "A new connection goes to rs2, by round-robin." in text
    assert "on_no_entry" not in text
    assert one["new_connection"] == {"action": "forward", "servers": ["rs2"]}
    assert one["other_packets"] == {"action": "reset", "servers": []}
    assert one["tombstones"] == [
        {
            "client": f"{CLIENT}:40000",
            "vip": "192.0.2.10:80",
            "virtual_server": "web",
            "server": "rs1",
            "reason": "port_fail",
            "outcome": "accepted",
            "idle_s": 3.0,
            "expires_in_s": 57.0,
        }
    ]
    # And so it is.
    host.packets.clear()
    assert host.send("A", seq=1001, ack=6001) == "dropped"
    assert resets(host) == [("client", 40000, 6001)]
    host.wait(2)
    _, text = told(host, f"{CLIENT}:40000")
    assert "was reset because rs1 failed; the client was last heard of 2.0 s ago." in text
    assert host.send("S", seq=9000) == "rs2"
    one, text = told(host, f"{CLIENT}:40000")
    assert (one["tombstones"], "was reset" in text) == ([], False)


def test_explain_names_whoever_had_a_session_reset_and_that_its_client_was_asked(host: FakeDaemon) -> None:
    host.open(40000)
    call(host, "POST", "/v1/sessions/reset", client=CLIENT)
    host.wait(0.5)
    one, text = told(host, f"{CLIENT}:40000")
    assert "Its session with rs1 was reset by an administrator; nothing came for 0.5 s, not even" in text
    assert one["tombstones"][0]["outcome"] == "silent"
    host.send("A", seq=1001, ack=6001)
    one, text = told(host, f"{CLIENT}:40000")
    assert "by an administrator; a SYN drew an answer from the client, the last 0.0 s ago." in text
    assert one["tombstones"][0]["outcome"] == "probed"


def test_explain_names_the_drain_timeout(host: FakeDaemon) -> None:
    host.open(40000)
    call(host, "POST", "/v1/servers/rs1/shutdown", drain_timeout_s=30)
    host.wait(30)
    _, text = told(host, f"{CLIENT}:40000")
    assert "was reset 0.0 s ago because the drain timeout of rs1 was over" in text


def test_explain_an_address_counts_its_sessions_that_were_reset() -> None:
    host = failed_with_resets()
    one, text = told(host, CLIENT)
    assert f"{CLIENT} has a session with rs2" in text
    assert f"Sessions of {CLIENT} that were reset and are remembered: 2." in text
    assert len(one["tombstones"]) == 2
    assert one["other_packets"]["action"] == "drop", "of a connection that is not remembered"
    host.time += 60
    one, text = told(host, CLIENT)
    assert (one["tombstones"], "remembered" in text) == ([], False)


def test_explain_a_tombstone_outlives_its_server() -> None:
    host = failed_with_resets()
    host.box.configure(host.time, [web(servers=servers(VIP)[1:])])
    host.settle()
    one, text = told(host, f"{CLIENT}:40000")
    assert one["tombstones"][0]["server"] is None
    assert "Its session with its server was reset" not in text
    assert "Its session was reset 3.0 s ago because its server failed" in text


@pytest.mark.parametrize("client", ["127.0.0.1", "0.1.2.3", "224.0.0.1", "255.255.255.255", VIP])
@pytest.mark.parametrize("protocol", [6, 17])
def test_explain_a_source_that_the_box_refuses(client: str, protocol: int) -> None:
    host = FakeDaemon(web(protocol=protocol))
    one, text = told(host, client)
    assert f"Whatever comes from {client} is dropped" in text
    assert one["new_connection"] == one["other_packets"] == {"action": "drop", "servers": []}
    if protocol == 6:
        assert host.send("S", client=client) == "dropped"
        assert host.box.dropped[Drop.SOURCE] == 1


def test_explain_with_no_server_bound() -> None:
    host = FakeDaemon(web(on_no_server=Policy.DROP))
    host.fail("web/rs1")
    call(host, "POST", "/v1/servers/rs2/disable")
    one, text = told(host, CLIENT)
    assert "A new connection is dropped: no real server is bound (on_no_server = drop)." in text
    assert "rs2 gets no new flows: DISABLED" in text
    assert "last check" not in text.split("rs2 gets")[1]
    assert one["new_connection"] == {"action": "drop", "servers": []}


def test_explain_with_a_full_table() -> None:
    host = FakeDaemon(session_limit=1)
    host.open(40000)
    one, text = told(host, f"{CLIENT}:40001")
    assert "the session table is full at 1 (on_table_full = reset)" in text
    assert one["new_connection"]["action"] == "reset"
    assert host.send("S", port=40001) == "dropped"


def test_explain_a_reused_port_in_a_full_table_takes_the_place_of_its_session() -> None:
    host = FakeDaemon(session_limit=1)
    host.open(40000)
    one, text = told(host, f"{CLIENT}:40000")
    assert "A new connection from the same port goes to rs1 or rs2, by round-robin" in text
    assert one["new_connection"]["action"] == "forward"
    assert host.send("S", port=40000, seq=9000) == "rs2"


def test_explain_udp_that_is_refused_draws_no_reset() -> None:
    host = FakeDaemon(web("dns", port=53, protocol=17))
    for server in ("rs1", "rs2"):
        call(host, "POST", f"/v1/servers/{server}/disable")
    one, text = told(host, CLIENT, "192.0.2.10:53")
    assert "The first packet of a flow is dropped: no real server is bound (on_no_server = reset)." in text
    assert one["new_connection"] == {"action": "drop", "servers": []}


def test_explain_names_the_server_that_source_hash_will_choose() -> None:
    host = FakeDaemon(web(scheduler="source-hash"))
    one, _ = told(host, CLIENT)
    assert host.open(40000) == one["new_connection"]["servers"]


def test_explain_names_the_stale_entry_that_a_reused_port_meets() -> None:
    host = FakeDaemon(web(on_port_reuse=PortReuse.KEEP))
    host.open(40000)
    host.fail("web/rs1")
    one, text = told(host, f"{CLIENT}:40000")
    assert "meets this entry and goes to rs1 too (on_port_reuse = keep)" in text
    assert one["new_connection"] == {"action": "forward", "servers": ["rs1"]}
    assert host.send("S", seq=9000) == "rs1"


def test_explain_forwards_what_has_no_entry_if_told_to() -> None:
    host = FakeDaemon(web(on_no_entry=Policy.FORWARD))
    one, text = told(host, CLIENT)
    assert "is scheduled like a new one (on_no_entry = forward)" in text
    assert one["other_packets"] == one["new_connection"]


def test_explain_a_suspect_server_and_a_session_that_the_client_has_closed(host: FakeDaemon) -> None:
    host.open(40000)
    host.send("FA", seq=1001, ack=5001)
    host.probe("web/rs2", MISSING)
    host.time += 3
    _, text = told(host, f"{CLIENT}:40000")
    assert "The client has closed it: the entry goes in 5.0 s." in text
    assert "rs2 still gets new flows: SUSPECT for 3.0 s" in text


def test_explain_an_address_sums_its_sessions_up_by_server(host: FakeDaemon) -> None:
    host.open(40000, 40001, 40002)
    one, text = told(host, CLIENT)
    assert f"{CLIENT} has 2 sessions with rs1: their packets go to rs1 (10.0.0.1)." in text
    assert f"{CLIENT} has a session with rs2" in text
    assert len(one["sessions"]) == 3


def test_explain_an_expired_session_is_none(host: FakeDaemon) -> None:
    host.open(40000)
    host.time += 601
    one, _ = told(host, f"{CLIENT}:40000")
    assert one["sessions"] == []
    assert one["other_packets"]["action"] == "reset"


def test_explain_udp_has_no_connections() -> None:
    host = FakeDaemon(web("dns", port=53, protocol=17))
    one, text = told(host, CLIENT, "192.0.2.10:53")
    assert "The first packet of a flow goes to rs1 or rs2" in text
    assert "segment" not in text
    assert one["other_packets"] == one["new_connection"]


def test_explain_without_a_vip_is_about_every_virtual_server_of_the_family(host: FakeDaemon) -> None:
    found = get(host, "/v1/explain", client=CLIENT)
    assert [one["virtual_server"] for one in found["virtual_servers"]] == ["web", "tls"]
    assert all(line.startswith(("web: ", "tls: ")) for line in found["text"])
    found = get(host, "/v1/explain", client=CLIENT6)
    assert [one["virtual_server"] for one in found["virtual_servers"]] == ["six"]


def test_explain_a_place_without_a_virtual_server(host: FakeDaemon) -> None:
    found = get(host, "/v1/explain", client=CLIENT, vip="192.0.2.99:80")
    assert found["text"] == ["No virtual server is at 192.0.2.99:80: the box forwards nothing for it."]


def test_explain_wants_one_client(host: FakeDaemon) -> None:
    assert refusal(host, "GET", "/v1/explain", client="10.0.0.0/24") == (422, "invalid_request")
    assert refusal(host, "GET", "/v1/explain") == (422, "invalid_request")


# Addresses


@pytest.mark.parametrize(
    ("text", "single", "port"),
    [
        ("10.0.0.1", True, None),
        ("10.0.0.1:80", True, 80),
        ("10.0.0.1/32", True, None),
        ("10.0.0.1/24", False, None),
        ("::1", True, None),
        ("[::1]", True, None),
        ("[::1]:80", True, 80),
        ("fd00::/8", False, None),
    ],
)
def test_places(text: str, single: bool, port: int | None) -> None:
    place = Place.parse(text)
    assert (place.single, place.port, place.text) == (single, port, text)
    assert place.covers(place.address, 80)
    assert not place.covers(b"\x7f" * place.size, 80)


@pytest.mark.parametrize(
    "text",
    ["", ":80", "[::1", "[::1]80", "[::1]:", "::1]:80", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:٣", "[::/8]", "x"],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|has no port|a port is"):
        Place.parse(text)


# Errors and OpenAPI


def test_places_that_are_not_there(host: FakeDaemon) -> None:
    assert refusal(host, "GET", "/v2/servers") == (404, "not_found")
    assert refusal(host, "DELETE", "/v1/servers") == (405, "method_not_allowed")


def test_no_page_is_served_that_loads_from_the_net(host: FakeDaemon) -> None:
    for path in ("/docs", "/redoc"):
        assert call(host, "GET", path).status_code == 404


def test_a_mistake_in_the_daemon_is_said_in_the_same_shape(
    host: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "queue", lambda: 1 / 0)
    assert refusal(host, "GET", "/v1/stats") == (500, "internal_error")


def test_openapi_types_every_answer_and_every_refusal(host: FakeDaemon) -> None:
    schema = get(host, "/openapi.json")
    assert schema["info"]["title"] == "l4box"
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            for status in ("422", "default"):
                content = operation["responses"][status]["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Failure"}
            content = operation["responses"]["200"]["content"]
            if "application/json" in content:
                assert "$ref" in content["application/json"]["schema"], path
    session = schema["components"]["schemas"]["Session"]
    assert set(session["required"]) == set(session["properties"])


def test_every_field_of_the_json_is_documented(host: FakeDaemon) -> None:
    text = DOCUMENTATION.read_text()
    fields = {
        name
        for schema in get(host, "/openapi.json")["components"]["schemas"].values()
        for name in schema.get("properties", {})
    }
    assert sorted(name for name in fields if f"`{name}`" not in text) == []
