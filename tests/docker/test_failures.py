"""What the box, a client and the wire see when Docker kills, stops, pauses or disconnects a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP

from netns.docker.lab import ContainerLab
from netns.docker.lifecycle import opened
from netns.docker.nodes import Nodes
from tests.docker.conftest import (
    OWN_SERVERS,
    VIP,
    Compose,
    MakeProject,
    capture,
    docker,
    eventually,
    get,
    has_session,
    l4lab,
    row,
    servers,
)
from tests.integration.conftest import packets
from tests.integration.keepalive import KeepAlive

pytestmark = pytest.mark.docker

NAME = "l4box-test-fail"
NETWORK = f"{NAME}_servers"


@pytest.fixture(scope="module")
def compose(make_project: MakeProject) -> Compose:
    return make_project(NAME, real_servers=OWN_SERVERS)


@pytest.fixture
def project(compose: Compose) -> Nodes:
    """All its servers are bound, and are so again for the next test."""
    eventually(lambda: set(servers(compose.project).values()) == {"ACTIVE"}, "every server ACTIVE")
    return compose.project


@dataclass(frozen=True)
class Failure:
    """A way to fail a container of that id, and back."""

    fail: Callable[[str], object]
    back: Callable[[str, str], object]
    """Given its address too."""
    tells: bool
    """The client is told by a FIN."""


FAILURES = {
    "kill": Failure(
        lambda server: docker("kill", server), lambda server, _: docker("start", server), tells=True
    ),
    "stop": Failure(
        lambda server: docker("stop", server), lambda server, _: docker("start", server), tells=True
    ),
    "pause": Failure(
        lambda server: docker("pause", server), lambda server, _: docker("unpause", server), tells=False
    ),
    "disconnect": Failure(
        lambda server: docker("network", "disconnect", NETWORK, server),
        lambda server, address: docker("network", "connect", "--ip", address, NETWORK, server),
        tells=False,
    ),
}


def events(project: Nodes, since: int, **wanted: Any) -> list[dict[str, Any]]:
    with project.box as api:
        found = list(api.events(since=since))
    return [event for event in found if all(event.get(key) == value for key, value in wanted.items())]


def last_event(project: Nodes) -> int:
    with project.box as api:
        number: int = api.stats()["last_event"]
    return number


@pytest.mark.parametrize("how", FAILURES)
def test_box_finds_it_by_silence_and_keeps_its_sessions_and_the_client_is_told_or_hangs(
    compose: Compose, project: Nodes, tmp_path: Path, how: str
) -> None:
    failure = FAILURES[how]
    with capture(project, ["client", "box"], tmp_path / "out.pcapng", "tcp") as seen:
        with KeepAlive(project, VIP) as client:
            name = client.get()
            server, before = compose.id(name), last_event(project)
            failure.fail(server)
            try:
                if failure.tells:
                    eventually(lambda: client.ask("state") == "closed", "the client has a FIN")
                else:
                    assert client.get() == "TimeoutError"
                eventually(lambda: servers(project)[name] == "FAILED", "the box finds it")

                misses = events(project, before, kind="probe", server=name, outcome="miss")
                if (
                    not failure.tells
                ):  # else one may have come after the process ended, before its network did
                    assert {miss["detail"] for miss in misses} == {"timeout"}
                eventually(lambda: row(project, name)["last_check"] == "timeout", "silence")
                suspect, failed = events(project, before, kind="server_state", server=name)
                assert (suspect["new"], failed["new"]) == ("SUSPECT", "FAILED")
                assert failed["box_time"] - suspect["box_time"] > 9  # the next check, and no retry left
                assert has_session(project, name, client)
                assert {get(project) for _ in range(4)} == set(OWN_SERVERS) - {name}
            finally:
                failure.back(server, OWN_SERVERS[name])
                if how == "disconnect":
                    # The way of its replies went with the network: attach finds it missing.
                    assert l4lab("attach", "--project", NAME).returncode == 0
        flags = [
            packet[TCP].flags
            for point, packet in packets(seen.stop())
            if point == "client" and packet.src == VIP and packet[TCP].dport == client.port
        ]
        assert any("F" in each for each in flags) is failure.tells
        assert not any("R" in each for each in flags)
    eventually(lambda: servers(project)[name] == "ACTIVE", "bound again")


def test_server_that_goes_on_after_a_pause_is_bound_by_its_first_check_and_answers_who_waited(
    compose: Compose, project: Nodes
) -> None:
    with KeepAlive(project, VIP, timeout_s=20) as client:
        name = client.get()
        docker("pause", compose.id(name))
        try:
            eventually(lambda: servers(project)[name] == "FAILED", "the box finds it")
            before = last_event(project)
        finally:
            docker("unpause", compose.id(name))
        eventually(lambda: servers(project)[name] == "ACTIVE", "bound")
        success = events(project, before, kind="probe", server=name, outcome="success")[0]
        (bound,) = events(project, before, kind="server_state", server=name)
        assert (bound["new"], bound["box_time"]) == ("ACTIVE", success["box_time"])
        assert client.get() == name  # the session was kept


def test_paused_server_passes_an_l4_check_for_its_kernel_goes_on(compose: Compose, project: Nodes) -> None:
    with project.box as api:
        configuration = api.configuration()
        (service,) = configuration["virtual_server"]
        check = {**service["health_check"], "kind": "l4"}
        api.configure({**configuration, "virtual_server": [{**service, "health_check": check}]})
    try:
        docker("pause", compose.id("web1"))
        before = last_event(project)
        try:
            eventually(lambda: len(events(project, before, kind="probe", server="web1")) >= 3, "three checks")
            outcomes = {event["outcome"] for event in events(project, before, kind="probe", server="web1")}
            assert outcomes == {"success"}
            assert servers(project)["web1"] == "ACTIVE"
        finally:
            docker("unpause", compose.id("web1"))
    finally:
        with project.box as api:
            api.configure(configuration)


# As a lab: the same steps as in a namespace


@pytest.fixture
def lab(project: Nodes) -> Iterator[ContainerLab]:
    with opened(NAME, say=print) as lab:
        yield lab


def test_health_file_renamed_fails_the_server_and_its_clients_stay(project: Nodes, lab: ContainerLab) -> None:
    with KeepAlive(project, VIP) as client:
        name = client.get()
        assert lab.health_off(name)
        eventually(lambda: servers(project)[name] == "FAILED", "the box finds it")
        assert row(project, name)["last_check"] == "404"
        assert client.get() == name
        assert lab.health_on(name)
        eventually(lambda: servers(project)[name] == "ACTIVE", "bound")


def test_vip_taken_down_and_up(project: Nodes, lab: ContainerLab) -> None:
    lab.vip_down("web2")
    eventually(lambda: servers(project)["web2"] == "FAILED", "the box finds it")
    lab.vip_up("web2")
    eventually(lambda: servers(project)["web2"] == "ACTIVE", "bound")


def test_container_that_is_the_web_server_stopped_and_started(project: Nodes, lab: ContainerLab) -> None:
    assert lab.stop("web3")
    assert not lab.stop("web3")
    assert lab.running("web web3") == []
    eventually(lambda: servers(project)["web3"] == "FAILED", "the box finds it")
    assert lab.start("web3")
    assert not lab.start("web3")
    assert lab.running("web web3") == [project.container("web3").pid]
    eventually(lambda: servers(project)["web3"] == "ACTIVE", "bound")
