"""Scenarios in containers, rehearsals of deploys by compose: played as by a user, nothing left of them."""

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

from netns import labs
from netns.lab import state
from tests.docker.conftest import (
    OWN_SERVERS,
    STOCK,
    TOP,
    Compose,
    MakeProject,
    docker,
    engine_state,
    get,
    network_state,
    servers,
    wait_until_bound,
)

pytestmark = pytest.mark.docker

LAB = "l4box-test-lab"
PROJECT = "l4box-test-shop"
ARTICLE = (
    "health-file-only",
    "vip-down",
    "half-closed-client",
    "reset-on-port-fail",
    "recommended-l7",
    "recommended-l4",
)
CLIENTS = "curl:6,curl-new:4,urllib3:4,requests:4,node:4"


def program(*words: str) -> list[str]:
    return ["env", "--default-signal=INT", sys.executable, "-m", "netns.cli", *words]


def l4lab(*words: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON document, and what was said of an `l4lab` command."""
    env = {**os.environ, **environment}
    done = subprocess.run(
        program(*words), capture_output=True, text=True, timeout=280, check=False, env=env, cwd=TOP
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


# Scenarios


@pytest.fixture
def clean() -> Iterator[None]:
    """The engine is afterwards as it was before, whatever happened."""
    before = engine_state()
    try:
        yield
        assert engine_state() == before
        assert state.read(LAB) is None
        assert not list(state.RUN.glob(f"{LAB}*"))
    finally:
        labs.down(LAB)


@contextmanager
def playing() -> Iterator[subprocess.Popen[str]]:
    """A scenario whose clients are at work."""
    command = program("scenario", "run", "vip-down", "--on", "docker", "--name", LAB)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=TOP) as running:
        assert running.stderr is not None
        assert any("clients start" in line for line in running.stderr)
        yield running


@pytest.mark.parametrize("name", [*ARTICLE, "green-but-black", "port-reuse"])
def test_scenario_passes_in_containers_as_in_namespaces(clean: None, name: str, tmp_path: Path) -> None:
    report = ["--report", str(tmp_path)] if name == "health-file-only" else []
    code, result, said = l4lab("scenario", "run", name, "--on", "docker", "--name", LAB, "--json", *report)
    assert code == 0, said
    assert result["passed"]
    assert "Docker" in result["versions"]
    if report:
        files = {file.name for file in tmp_path.iterdir()}
        assert files >= {
            "report.html",
            "rs1.pcapng",
            "rs2.pcapng",
            "rs3.pcapng",
            "client.pcapng",
            "box.pcapng",
        }
        assert "servers.pcapng" not in files


def test_scenario_in_containers_that_was_killed_is_told_and_cleared_by_down(clean: None) -> None:
    with playing() as running:
        running.send_signal(signal.SIGKILL)
    code, _, said = l4lab("scenario", "run", "vip-down", "--on", "docker", "--name", LAB)
    assert code == 1
    assert f"`l4lab down --name {LAB}`" in said
    code, _, said = l4lab("status", "--name", LAB)
    assert code == 1
    assert "containers" in said
    assert docker("ps", "--quiet", "--filter", f"label=l4lab.lab={LAB}")
    code, _, said = l4lab("down", "--name", LAB)
    assert code == 0, said


def test_scenario_that_is_interrupted_takes_its_containers_down(clean: None) -> None:
    with playing() as running:
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130


def test_image_that_is_not_there_is_named_with_what_makes_it(clean: None) -> None:
    code, _, said = l4lab(
        "scenario", "run", "vip-down", "--on", "docker", "--name", LAB, L4BOX_IMAGE="l4box-test-none"
    )
    assert code == 5
    assert "'l4box-test-none'" in said
    assert "docker compose build" in said


# Rehearsals


@pytest.fixture(scope="module")
def shop(make_project: MakeProject) -> Compose:
    """Our own project, deployed by compose as a user's is."""
    return make_project(PROJECT, real_servers=OWN_SERVERS, speed=10.0)


LOST_OR_BUSY = (1, 8)
"""An engine that replaces containers keeps two cores busy: the verdict on losses may be that."""


def rehearse(shop: Compose, *words: str) -> tuple[int, dict[str, Any], str]:
    wait_until_bound(shop.project, OWN_SERVERS)
    chosen = {
        **shop.environment,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_FILE": str(TOP / "docker-compose.yml"),
    }
    return l4lab("rehearse", "--on", "docker", "--json", "--clients", CLIENTS, *words, **chosen)


def assert_nothing_left(shop: Compose) -> None:
    """The project is up as before, and of the rehearsal there is nothing."""
    wait_until_bound(shop.project, OWN_SERVERS)
    assert Counter(get(shop.project) for _ in range(6)) == dict.fromkeys(OWN_SERVERS, 2)
    assert not list(state.RUN.glob("project-*"))
    assert not list(Path("/run/l4lab-docker").glob(f"{PROJECT}*"))


def test_careless_rolling_deploy_by_compose_loses_requests_and_says_of_each_why(
    shop: Compose, tmp_path: Path
) -> None:
    before = {name: shop.id(name) for name in OWN_SERVERS}
    code, result, said = rehearse(
        shop, "--report", str(tmp_path), "--", "examples/compose-careless.sh", "{server}"
    )
    assert code in LOST_OR_BUSY, said
    assert [one["exit_code"] for one in result["deploys"]] == [0, 0, 0], said
    assert all(shop.id(name) != before[name] for name in OWN_SERVERS)
    assert result["lost"] > 0
    assert result["unexplained"] == 0, result["explained"]
    assert result["causes"]["health_window"] > result["lost"] / 2, result["causes"]
    gone = {change["server"] for change in result["changes"] if change["fact"] == "container"}
    assert gone == set(OWN_SERVERS)
    assert "health_window" in {one["cause"] for one in result["advice"]}
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert_nothing_left(shop)


def test_careful_rolling_deploy_by_compose_loses_nothing_of_clients_that_retry(shop: Compose) -> None:
    code, result, said = rehearse(shop, "--", "examples/compose-careful.sh", "{server}")
    assert [one["exit_code"] for one in result["deploys"]] == [0, 0, 0], said
    lost = [one for one in result["explained"] if one["lost"]]
    # One request may be on the wire when its connection is closed; only these clients do not repeat it.
    assert {one["cause"] for one in lost} <= {"closed_under_way"}, lost
    assert not [one for one in lost if one["client"].rpartition("-")[0] in ("curl", "curl-new")], lost
    assert code in (LOST_OR_BUSY if lost else [8]), "at speed 10 compose's own time makes it inconclusive"
    assert result["unexplained"] == 0
    for stop in result["stops"]:
        assert stop["pattern"]["idle"]["rst"] == 0
    assert_nothing_left(shop)


def test_rehearsal_of_a_stopped_container_ends_with_its_command(shop: Compose) -> None:
    """A deploy that leaves a server down fails, and says so."""
    code, result, said = rehearse(
        shop,
        "--servers",
        "web1",
        "--timeout",
        "5",
        "--",
        "sh",
        "-c",
        "docker stop $L4LAB_CONTAINER; exit 3; {server}",
    )
    assert code == 6
    assert result["deploys"][0]["exit_code"] == 3, said
    assert servers(shop.project).keys() == OWN_SERVERS.keys()
    docker("start", shop.id("web1"))
    assert_nothing_left(shop)


def test_project_of_other_images_on_one_network_is_attached_for_the_rehearsal_and_detached_after_it(
    make_project: MakeProject, tmp_path: Path
) -> None:
    stock = make_project("l4box-test-stock", STOCK, speed=10.0)
    before = {node: network_state(stock.project, node) for node in ("box", "web2", "client")}
    chosen = {**stock.environment, "COMPOSE_PROJECT_NAME": stock.name, "COMPOSE_FILE": str(STOCK)}
    code, result, said = l4lab(
        *("rehearse", "--on", "docker", "--json", "--servers", "web1", "--clients", "curl:4,curl-new:16"),
        *(
            "--report",
            str(tmp_path),
            "--",
            "sh",
            "-c",
            'examples/compose-careless.sh $1; "$L4LAB_WAIT" ACTIVE',
        ),
        *("deploy", "{server}"),
        **chosen,
    )
    assert [one["exit_code"] for one in result["deploys"]] == [0], said
    # A container may be back before a client gives up: what came meanwhile is lost, or late.
    assert code in (LOST_OR_BUSY if result["lost"] else [8])
    assert "health_window" in {one["cause"] for one in result["explained"]}
    assert result["unexplained"] == 0, result["explained"]
    assert result["stops"][0]["kind"] == "container"
    # A page of theirs does not say whose it is: the wire does.
    assert {one["server"] for one in result["request_log"] if one["outcome"] == "ok"} == set(OWN_SERVERS)
    assert (tmp_path / "report.html").exists()
    assert {node: network_state(stock.project, node) for node in before} == before
    assert not list(state.RUN.glob("project-*"))


def test_losses_of_a_server_on_two_networks_are_explained_as_of_one_on_one(make_project: MakeProject) -> None:
    """The box reaches it on the network that it shares with the box, which is not the server's first."""
    project = make_project("l4box-test-two", STOCK, STOCK.with_name("two-networks.yml"), speed=10.0)
    with project.project.box as api:
        (service,) = api.configuration()["virtual_server"]
    assert service["real_server"] == []
    interfaces = project.project.run("web1", ["ip", "-brief", "-4", "address", "show", "dev", "eth0"]).stdout
    (shared,) = [
        end.address for name, end in project.project.container("web1").endpoints.items() if "default" in name
    ]
    assert str(shared) not in interfaces, "its first network is the other one"
    chosen = {
        **project.environment,
        "COMPOSE_PROJECT_NAME": project.name,
        "COMPOSE_FILE": f"{STOCK}:{STOCK.with_name('two-networks.yml')}",
    }
    code, result, said = l4lab(
        *("rehearse", "--on", "docker", "--json", "--servers", "web1", "--clients", "curl:4,curl-new:16"),
        *("--", "sh", "-c", 'docker restart --time 1 $L4LAB_CONTAINER; "$L4LAB_WAIT" ACTIVE; '),
        *("sh", "{server}"),
        **chosen,
    )
    assert [one["exit_code"] for one in result["deploys"]] == [0], said
    assert result["lost"] > 0, said
    assert code in LOST_OR_BUSY
    assert result["unexplained"] == 0, result["explained"]
    assert {one["server"] for one in result["explained"] if one["lost"]} == {"web1"}, result["explained"]
    assert {one["server"] for one in result["request_log"] if one["outcome"] == "ok"} == set(OWN_SERVERS)


def test_container_of_a_scaled_service_is_said_to_be_none_of_composes_names(
    make_project: MakeProject,
) -> None:
    project = make_project("l4box-test-scale", STOCK, speed=10.0)
    project("up", "--detach", "--no-build", "--no-recreate", "--scale", "web1=2")
    code, result, said = l4lab(
        *("rehearse", "--on", "docker", "--json", "--servers", "web1-2", "--clients", "curl:2"),
        *("--", "sh", "-c", "echo of $L4LAB_SERVICE as $L4LAB_CONTAINER", "sh", "{server}"),
        **{**project.environment, "COMPOSE_PROJECT_NAME": project.name, "COMPOSE_FILE": str(STOCK)},
    )
    assert "web1-2 is of the service 'web1': for compose, {server} names nothing" in said
    assert f"of web1 as {project.project.container('web1-2').name}" in said
    assert result["deploys"][0]["exit_code"] == 0
    assert code == 8, "it changes nothing"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--speed", "5"], "are for a lab"),
        (["--project", "l4box-test-none"], "no container of the project 'l4box-test-none' has the label"),
        (["--servers", "web9"], "web9"),
    ],
)
def test_rehearsal_that_can_not_be_is_refused_and_changes_nothing(
    shop: Compose, words: list[str], message: str
) -> None:
    code, _, said = rehearse(shop, *words, "--", "true")
    assert code not in (0, 130)
    assert message in said
    assert_nothing_left(shop)
