"""`l4lab docker attach` on containers of an image with nginx and nothing of ours; and all taken back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netns.docker import attach, ledger
from netns.docker.change import VipOnLo
from netns.docker.engine import Engine
from tests.docker.conftest import (
    CURL,
    STOCK,
    URL,
    VIP,
    Compose,
    MakeProject,
    docker,
    eventually,
    has_session,
    l4lab,
    network_state,
    row,
    servers,
)

VIP_ON_LO = VipOnLo("192.0.2.10", "lo:0")
pytestmark = pytest.mark.docker

NAME = "l4box-test-shop"
WEBS = ("web1", "web2", "web3")
NODES = (*WEBS, "client", "box")


@pytest.fixture(scope="module")
def shop(make_project: MakeProject) -> Compose:
    """A team's project. A stock nginx's page is the same everywhere: each says its name instead."""
    compose = make_project(NAME, STOCK)
    for node in WEBS:
        page = f"echo {node} >/var/www/html/index.nginx-debian.html"
        assert compose.project.execute(node, ["sh", "-c", page])[0] == 0
    return compose


@pytest.fixture(autouse=True)
def nothing_attached(shop: Compose) -> Iterator[None]:
    yield
    attach.detach(NAME, say=print)
    assert ledger.read(NAME) is None


def state(compose: Compose) -> dict[str, dict[str, Any]]:
    """The networks of all its containers, and the box's configuration."""
    with compose.project.box as api:
        configuration = api.configuration()
    return {
        "configuration": configuration,
        **{node: network_state(compose.project, node) for node in NODES},
    }


def attached(compose: Compose) -> None:
    done = l4lab("attach", "--project", NAME)
    assert done.returncode == 0, done.stderr
    wait_until_bound(compose)


def wait_until_bound(compose: Compose) -> None:
    """The three are in the box, and with whatever else is there they are ACTIVE."""
    eventually(
        lambda: set(WEBS) <= (found := servers(compose.project)).keys() and set(found.values()) == {"ACTIVE"},
        "every server ACTIVE",
    )


@contextmanager
def watching(compose: Compose) -> Iterator[Watch]:
    """`l4lab docker attach --watch` in the background, until the end of the block or its own."""
    argv = [sys.executable, "-m", "netns.cli", "docker", "attach", "--project", NAME, "--watch"]
    log = compose.directory / "watch.log"
    with log.open("w") as output, subprocess.Popen(argv, stderr=output) as process:
        try:
            yield Watch(log, process)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)  # SIGINT is ignored where tests run in the background
                assert process.wait(20) == 0, log.read_text()


class Watch:
    """What it has said so far, and whether it has ended."""

    def __init__(self, log: Path, process: subprocess.Popen[bytes]) -> None:
        self._log = log
        self._process = process

    def __contains__(self, text: str) -> bool:
        return text in self._log.read_text()

    def end(self) -> int:
        """Its exit code, when it ends by itself."""
        return self._process.wait(20)


def pages(compose: Compose, count: int = 12) -> Counter[str]:
    return Counter(compose.project.run("client", [*CURL, URL]).stdout.strip() for _ in range(count))


def test_three_stock_containers_serve_the_vip_and_after_detach_their_networks_are_as_before(
    shop: Compose,
) -> None:
    before = state(shop)
    attached(shop)
    assert pages(shop) == {"web1": 4, "web2": 4, "web3": 4}
    done = l4lab("detach", "--project", NAME)
    assert done.returncode == 0, done.stderr
    assert state(shop) == before
    assert not ledger.RUN.exists()


def test_a_second_attach_changes_nothing(shop: Compose) -> None:
    attached(shop)
    before = state(shop)
    attached(shop)
    assert state(shop) == before


def test_sessions_survive_a_server_that_joins(shop: Compose) -> None:
    from tests.integration.keepalive import KeepAlive

    attached(shop)
    with KeepAlive(shop.project, VIP) as client:
        name = client.get()
        with extra(shop, "l4box-test-late"):
            attached(shop)
            assert has_session(shop.project, name, client)
            assert client.get() == name
        attached(shop)
        assert "l4box-test-late" not in servers(shop.project)
        assert client.get() == name


def test_attach_killed_at_any_step_is_cleared_by_detach(shop: Compose) -> None:
    before = state(shop)
    steps = 0
    while True:
        steps += 1
        ended = killed(step=steps)
        assert attach.detach(NAME, say=print) or steps == 1
        assert state(shop) == before, f"killed at step {steps}"
        if not ended:
            break
    assert steps > 2 * 15  # three servers of five changes at least, before and after each note


def killed(step: int) -> bool:
    """Attach in a process that is killed before or after a note is written; whether it came to that."""
    pid = os.fork()
    if pid == 0:
        done = 0
        write = ledger._write

        def write_and_die(*arguments: Any) -> None:
            nonlocal done
            for acts in (False, True):
                if acts:
                    write(*arguments)
                done += 1
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        ledger._write = write_and_die  # type: ignore[assignment]
        try:
            attach.attach(Engine(), NAME, say=lambda _: None)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@contextmanager
def extra(compose: Compose, name: str, *more: str, **labels: str) -> Iterator[str]:
    """A container outside of the compose file, with labels of ours."""
    given = {"l4box.vip": VIP, "com.docker.compose.project": NAME, **labels}
    argv = ["run", "--detach", "--rm", "--network", f"{NAME}_default", "--name", name]
    argv += [word for key, value in given.items() for word in ("--label", f"{key}={value}")]
    docker(*argv, *more, compose.environment["STOCK_IMAGE"])
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        eventually(lambda: name not in docker("ps", "--all", "--format", "{{.Names}}").split(), "it is gone")


# Labels


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("l4box.port", "0", "container l4box-test-bad: l4box.port = '0'"),
        ("l4box.vip", "nonsense", "container l4box-test-bad: l4box.vip = 'nonsense'"),
        ("l4box.wieght", "2", "l4box.wieght: unknown key; there are role, vip, port, weight, health, setup"),
        ("l4box.health", "/other.html", "the servers of web are checked by /health_check.html already"),
    ],
)
def test_label_that_can_not_be_followed_is_refused_before_anything_changed(
    shop: Compose, label: str, value: str, said: str
) -> None:
    before = state(shop)
    with extra(shop, "l4box-test-bad", **{label: value}):
        done = l4lab("attach", "--project", NAME)
        assert done.returncode == 3
        assert said in done.stderr
        assert l4lab("status", "--project", NAME).returncode == 1
        assert state(shop) == before
    assert ledger.read(NAME) is None


def test_vip_that_the_box_does_not_have_gets_a_virtual_server_and_a_dscp_of_its_own(shop: Compose) -> None:
    before = state(shop)
    labels = {"l4box.vip": "192.0.2.20", "l4box.health": "l4", "l4box.weight": "3"}
    with extra(shop, "l4box-test-mail", **labels):
        attached(shop)
        with shop.project.box as api:
            (_, made) = api.configuration()["virtual_server"]
        assert (made["address"], made["port"], made["dscp"]) == ("192.0.2.20", 80, 1)
        assert made["health_check"]["kind"] == "l4"
        assert [(one["name"], one["weight"]) for one in made["real_server"]] == [("l4box-test-mail", 3)]
        page = shop.project.run("client", [*CURL, "http://192.0.2.20/"])
        assert "Welcome to nginx" in page.stdout
        assert attach.detach(NAME, say=print)
        assert state(shop) == before


def test_nothing_to_detach_names_what_is_attached(shop: Compose) -> None:
    attached(shop)
    done = l4lab("detach")
    assert done.returncode == 0
    assert f"nothing is attached; {NAME} is: `l4lab docker detach --project {NAME}`" in done.stderr


def test_container_of_a_compose_run_is_no_server(shop: Compose) -> None:
    shop("run", "--detach", "--rm", "--name", "l4box-test-once", "web1")
    try:
        attached(shop)
        assert set(servers(shop.project)) == set(WEBS)
    finally:
        docker("rm", "--force", "l4box-test-once")


# Watching


def test_server_that_starts_while_attach_begins_is_not_missed(shop: Compose) -> None:
    with watching(shop), extra(shop, "l4box-test-race"):
        eventually(lambda: servers(shop.project).get("l4box-test-race") == "ACTIVE", "bound")


def test_watch_follows_servers_that_come_and_go(shop: Compose) -> None:
    with watching(shop) as said:
        eventually(lambda: set(servers(shop.project)) == set(WEBS), "the three are in the box")
        with extra(shop, "l4box-test-late"):
            eventually(lambda: servers(shop.project).get("l4box-test-late") == "ACTIVE", "bound")
            docker("stop", "l4box-test-late")  # and removed: --rm
            eventually(lambda: "l4box-test-late" not in servers(shop.project), "it is out of the box")
        assert "l4box-test-late has ended (exit 0)" in said


def test_stopped_server_stays_in_the_box_and_is_a_server_again_when_it_starts(shop: Compose) -> None:
    with watching(shop):
        wait_until_bound(shop)
        shop("stop", "--timeout", "1", "web2")
        eventually(lambda: servers(shop.project)["web2"] == "FAILED", "the box finds it")
        shop("start", "web2")
        eventually(lambda: servers(shop.project)["web2"] == "ACTIVE", "the first check that succeeds")


def test_server_made_anew_by_compose_is_the_same_to_the_box(shop: Compose) -> None:
    """A deploy: `up --force-recreate` of one service, whose next container has its address or another."""
    with watching(shop):
        wait_until_bound(shop)
        first = shop.id("web3")
        shop("up", "--detach", "--no-deps", "--no-build", "--force-recreate", "--timeout", "1", "web3")
        assert shop.id("web3") != first
        eventually(lambda: row(shop.project, "web3")["state"] == "ACTIVE", "bound")
        assert set(servers(shop.project)) == set(WEBS)
    page = "echo web3 >/var/www/html/index.nginx-debian.html"
    assert shop.project.execute("web3", ["sh", "-c", page])[0] == 0


def test_server_that_comes_back_at_another_address_is_a_server_there(shop: Compose) -> None:
    network, address = (
        f"{NAME}_default",
        str(shop.project.container("web1").endpoints[f"{NAME}_default"].address),
    )
    with watching(shop) as said:
        wait_until_bound(shop)
        docker("network", "disconnect", network, shop.id("web1"))
        eventually(lambda: servers(shop.project)["web1"] == "FAILED", "the box finds it")
        assert row(shop.project, "web1")["address"] == address
        with extra(shop, "l4box-test-squatter"):  # takes the address, which is the first that is free
            docker("network", "connect", network, shop.id("web1"))
            eventually(lambda: servers(shop.project).get("web1") == "ACTIVE", "bound")
            wait_until_bound(shop)
            assert row(shop.project, "web1")["address"] != address
            assert row(shop.project, "l4box-test-squatter")["address"] == address
        assert f"is disconnected from {network}" in said


def test_box_that_starts_again_is_told_again(shop: Compose) -> None:
    with watching(shop):
        wait_until_bound(shop)
        shop("restart", "--timeout", "5", "box")
        eventually(lambda: set(servers(shop.project)) == set(WEBS), "its servers are in it")
        wait_until_bound(shop)


def test_box_that_reads_its_file_again_is_told_again(shop: Compose) -> None:
    with watching(shop):
        wait_until_bound(shop)
        with shop.project.box as api:
            before = api.stats()["last_event"]
            shop("kill", "-s", "HUP", "box")
            eventually(
                lambda: [one for one in api.events(since=before) if one["kind"] == "reconfigured"],
                "it has read its file",
            )
        wait_until_bound(shop)


def test_vip_taken_down_by_hand_stays_down_whatever_else_happens(shop: Compose) -> None:
    with watching(shop) as said:
        wait_until_bound(shop)
        shop.project.inside("web1", VIP_ON_LO.undo)
        docker("pause", shop.id("web2"))
        docker("unpause", shop.id("web2"))
        eventually(lambda: "web2_1: unpause" in said or "web2-1: unpause" in said, "it has looked again")
        eventually(lambda: servers(shop.project)["web1"] == "FAILED", "the box finds it")
        shop.project.inside("web1", VIP_ON_LO.make)
        eventually(lambda: servers(shop.project)["web1"] == "ACTIVE", "bound at once")


def test_mistaken_label_is_told_by_the_watch_and_the_others_go_on(shop: Compose) -> None:
    with watching(shop) as said:
        wait_until_bound(shop)
        with extra(shop, "l4box-test-bad", **{"l4box.port": "many"}):
            eventually(lambda: "problem: container l4box-test-bad: l4box.port = 'many'" in said, "it is told")
            assert servers(shop.project) == dict.fromkeys(WEBS, "ACTIVE")


def test_mistaken_labels_at_the_start_of_the_watch_are_a_line_each_and_the_others_are_attached(
    shop: Compose,
) -> None:
    gateway = str(shop.project.container("web1").endpoints[f"{NAME}_default"].gateway)
    with (
        extra(shop, "l4box-test-port", **{"l4box.port": "http"}),
        extra(shop, "l4box-test-page", **{"l4box.health": "/a b"}),
        extra(shop, "l4box-test-typo", **{"l4box.wieght": "3"}),
        extra(shop, "l4box-test-gate", **{"l4box.vip": gateway}),
        watching(shop) as said,
    ):
        wait_until_bound(shop)
        for line in (
            "problem: container l4box-test-port: l4box.port = 'http'",
            "problem: container l4box-test-page: l4box.health: '/a b': l4, or the path of a page",
            "problem: container l4box-test-typo: l4box.wieght: unknown key",
            f"problem: container l4box-test-gate: l4box.vip = {gateway} is the gateway of the network",
        ):
            assert line in said
        assert servers(shop.project) == dict.fromkeys(WEBS, "ACTIVE")


def test_watch_that_is_interrupted_says_what_takes_back_what_is_attached(shop: Compose) -> None:
    with watching(shop) as said:
        wait_until_bound(shop)
    assert f"not watching any more; `l4lab docker detach --project {NAME}` takes back" in said


def test_detach_ends_the_watch(shop: Compose) -> None:
    with watching(shop) as said:
        wait_until_bound(shop)
        assert l4lab("detach", "--project", NAME).returncode == 0
        assert said.end() == 0
        assert "nothing to watch any more" in said
        assert servers(shop.project) == {}


def test_status_is_whole_where_it_is_piped(shop: Compose) -> None:
    long = "l4box-test-" + "a-long-name-" * 4 + "of-a-container"
    with extra(shop, long):
        attached(shop)
        shown = l4lab("status", "--project", NAME).stdout.splitlines()
        (line,) = [line for line in shown if long in line]
    assert "ACTIVE" in line
    assert len(shown) == 1 + len(WEBS) + 1


def test_status_has_what_docker_and_the_box_say(shop: Compose) -> None:
    attached(shop)
    docker("pause", shop.id("web3"))
    try:
        shown = json.loads(l4lab("status", "--project", NAME, "--json").stdout)
    finally:
        docker("unpause", shop.id("web3"))
    assert shown["attached"]
    assert {one["name"]: one["status"] for one in shown["servers"]} == {
        "web1": "running",
        "web2": "running",
        "web3": "paused",
    }
    assert f"{VIP} on lo:0" in shown["servers"][0]["changes"]
    assert shown["servers"][0]["box"]["virtual_server"] == "web"
