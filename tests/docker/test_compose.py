"""docker-compose.yml: three servers behind the box, replies past it, nobody root, and nothing left of it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from netns.docker.attach import detach
from netns.docker.engine import Engine
from tests.docker.conftest import (
    CURL,
    IMAGE,
    OWN,
    OWN_SERVERS,
    URL,
    VIP,
    Compose,
    MakeProject,
    box_settings,
    capture,
    docker,
    engine_state,
    eventually,
    get,
    inspect,
    l4lab,
    network_state,
    servers,
    wait_until_bound,
)
from tests.integration.conftest import packets

pytestmark = pytest.mark.docker

NAME = "l4box-test-own"
NODES = ("router", "box", "web1", "web2", "web3", "client")
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


@pytest.fixture(scope="module")
def own(make_project: MakeProject) -> Compose:
    return make_project(NAME, real_servers=OWN_SERVERS)


def processes(compose: Compose, node: str) -> list[dict[str, str]]:
    """/proc/PID/status of the container's first process and its descendants, by the host's kernel."""
    found: list[dict[str, str]] = []
    wanted = {str(compose.project.container(node).pid)}
    for pid in docker("top", compose.id(node), "-eo", "pid").split()[1:]:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue  # a health check that has ended meanwhile
        status = dict(line.split(":\t", 1) for line in lines)
        if wanted & {status["Pid"], status["PPid"]}:
            wanted.add(status["Pid"])
            found.append(status)
    return found


def test_twelve_requests_go_to_three_servers_in_turn(own: Compose) -> None:
    assert Counter(get(own.project) for _ in range(12)) == {"web1": 4, "web2": 4, "web3": 4}


def test_curl_in_the_client_container_gets_a_page_as_the_readme_says(own: Compose) -> None:
    assert own("exec", "-T", "client", *CURL, URL).strip() in OWN_SERVERS


def test_box_answers_its_user_in_its_container(own: Compose) -> None:
    shown = json.loads(own("exec", "-T", "box", "l4box", "show", "servers", "--json"))
    assert {row["name"]: row["state"] for row in shown["servers"]} == dict.fromkeys(OWN_SERVERS, "ACTIVE")


def test_box_tells_how_full_its_queue_is_although_it_is_not_root(own: Compose) -> None:
    get(own.project)
    with own.project.box as api:
        assert api.stats()["queue"]["received"] > 0


def test_request_crosses_the_box_and_the_reply_does_not(own: Compose, tmp_path: Path) -> None:
    client = str(own.project.container("client").endpoints[f"{NAME}_clients"].address)
    with capture(own.project, ["client", "box", *OWN_SERVERS], tmp_path / "out.pcapng", "tcp") as seen:
        name = get(own.project)
    flow = [(point, packet) for point, packet in packets(seen.path) if client in (packet.src, packet.dst)]
    assert {(point, packet.dst) for point, packet in flow if packet.src == client} == {
        ("client", VIP),
        ("box", VIP),
        ("box", OWN_SERVERS[name]),
        (name, OWN_SERVERS[name]),
    }
    assert {(point, packet.src) for point, packet in flow if packet.dst == client} == {
        ("client", VIP),
        (name, VIP),
    }
    assert {packet.tos for _, packet in flow if packet.dst == OWN_SERVERS[name]} == {10 << 2}


def is_healthy(compose: Compose, node: str) -> bool:
    return compose.project.container(node).health == "healthy"


def test_every_service_is_healthy_to_docker(own: Compose) -> None:
    for node in NODES:
        eventually(partial(is_healthy, own, node), f"{node} healthy")


def test_no_process_is_root_and_only_the_box_keeps_capabilities(own: Compose) -> None:
    for node in NODES:
        found = processes(own, node)
        assert found
        for process in found:
            assert "0" not in process["Uid"].split(), f"{node}: {process['Name']}"
            assert process["NoNewPrivs"] == "1" or process["Name"] == "docker-init"
        held = {process["Name"]: int(process["CapEff"], 16) | int(process["CapPrm"], 16) for process in found}
        assert held.pop("docker-init") == 0
        assert set(held.values()) == {NET_ADMIN | NET_RAW if node == "box" else 0}, node
        bounds = {int(process["CapBnd"], 16) for process in found}
        assert bounds == {NET_ADMIN | NET_RAW if node == "box" else NET_ADMIN}, node
        assert not inspect(own.id(node))["HostConfig"]["Privileged"]


def test_what_a_user_runs_in_a_container_is_not_root_either(own: Compose) -> None:
    assert own("exec", "-T", "client", "id", "-un").strip() == "l4box"


def test_box_and_router_send_no_redirect_and_filter_no_way_back(own: Compose) -> None:
    """On every interface: what docker-compose.yml can't say, containers set by themselves."""
    for node in ("box", "router"):
        script = "cat /proc/sys/net/ipv4/conf/{all,eth*}/{send_redirects,rp_filter}"
        shown = own.project.run(node, ["bash", "-c", script], check=True).stdout
        assert set(shown.split()) == {"0"}, node


def test_attach_leaves_servers_alone_that_have_all_by_themselves(own: Compose) -> None:
    before = {node: network_state(own.project, node) for node in NODES}
    assert l4lab("attach", "--project", NAME).returncode == 0
    try:
        assert {node: network_state(own.project, node) for node in NODES} == before
        shown = json.loads(l4lab("status", "--project", NAME, "--json").stdout)
        assert {row["name"]: row["changes"] for row in shown["servers"]} == {name: [] for name in OWN_SERVERS}
        assert all(row["attached"] and row["box"]["bound"] for row in shown["servers"])
    finally:
        detach(NAME, say=print)
    assert servers(own.project) == dict.fromkeys(OWN_SERVERS, "ACTIVE")


def test_stock_container_joins_by_its_labels_across_the_router(own: Compose) -> None:
    """Its replies leave by the router, and all its other traffic as before."""
    network = f"{NAME}_servers"
    labels = [f"l4box.vip={VIP}", f"com.docker.compose.project={NAME}"]
    run = ["run", "--detach", "--rm", "--network", network, "--name", "l4box-test-web4"]
    for label in labels:
        run += ["--label", label]
    docker(*run, own.environment["STOCK_IMAGE"])
    try:
        node = "l4box-test-web4"
        before = network_state(own.project, node)
        assert l4lab("attach", "--project", NAME).returncode == 0
        eventually(lambda: servers(own.project).get(node) == "ACTIVE", "the stock server bound")
        pages = [own.project.run("client", [*CURL, URL]) for _ in range(4)]
        assert all(page.returncode == 0 for page in pages)
        assert sum("Welcome to nginx" in page.stdout for page in pages) == 1
        assert network_state(own.project, node)["main routes"] == before["main routes"]
        assert detach(NAME, say=print)
        assert network_state(own.project, node) == before
        assert node not in servers(own.project)
    finally:
        detach(NAME, say=print)
        docker("rm", "--force", "l4box-test-web4")


def test_image_is_small_and_has_no_compiler() -> None:
    assert inspect(IMAGE)["Size"] < 300e6
    for tool in ("gcc", "cc", "g++", "pip", "make"):
        found = [
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "sh",
            IMAGE,
            "-c",
            f"! command -v {tool}",
        ]
        docker(*found)


def test_up_twelve_requests_and_down_leave_nothing(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], own: Compose
) -> None:
    own("down", "--timeout", "5")  # it has the same subnets
    before = engine_state()
    compose = Compose("l4box-test-clean", [OWN], tmp_path, engine, **box_settings(OWN_SERVERS))

    def timed(what: str, do: Callable[[], object]) -> float:
        began = time.monotonic()
        do()
        took = time.monotonic() - began
        with capsys.disabled():
            sys.stdout.write(f"\n{what}: {took:.1f} s")
        return took

    try:
        timed("up", lambda: compose("up", "--detach", "--no-build"))
        timed("all servers bound after", partial(wait_until_bound, compose.project, OWN_SERVERS))
        pages: Counter[str] = Counter()
        timed("12 requests", lambda: pages.update(get(compose.project) for _ in range(12)))
        assert pages == {"web1": 4, "web2": 4, "web3": 4}
        pids = {node: compose.project.container(node).pid for node in NODES}
        codes = {}

        def stop() -> None:
            compose("stop")
            codes.update({node: inspect(compose.id(node))["State"]["ExitCode"] for node in NODES})

        # Far from the ten seconds after which Docker kills: each ends by itself.
        assert timed("stop", stop) < 8
        assert codes == dict.fromkeys(NODES, 0)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    finally:
        timed("down", lambda: compose("down"))
    assert engine_state() == before
