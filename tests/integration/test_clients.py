"""What real clients do when their connections die, and what they log of a fleet's work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from netns.clients.kinds import KINDS, Wanted
from netns.linux import namespace
from netns.observe import kernels
from netns.play.run import begin
from netns.record import segments
from netns.record.recording import Outcome
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.alone]  # what clients do is told by how long it takes

KINDS_MEASURED = ("curl", "curl-post", "urllib3", "requests", "httpx", "aiohttp", "node", "java")
"""All but Go, which no machine needs to have."""

RETRIES = {("curl", "GET"), ("curl-post", "POST"), ("urllib3", "GET"), ("aiohttp", "GET"), ("java", "GET")}
"""Who repeats by itself a request whose connection died before an answer came."""


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "netns.cli", "clients", "measure", "--json", *KINDS_MEASURED],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert namespace.identity("clients-client") is None
    return dict(json.loads(done.stdout))


def rows(measured: dict[str, Any], *endings: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (row["kind"], row["method"], row["ending"]): row
        for row in measured["rows"]
        if row["ending"] in endings
    }


def test_an_end_while_idle_costs_nobody_a_request(measured: dict[str, Any]) -> None:
    """Each client sees it before its next request, which goes over a new connection, once."""
    found = rows(measured, "rst_idle", "fin_idle")
    assert len(found) == 2 * sum(len(KINDS[kind].methods) for kind in KINDS_MEASURED)
    for name, row in found.items():
        assert (name, row["outcome"]) == (name, "ok")
        assert (name, row["attempts"], row["new_connection"]) == (name, 1, True)


def test_a_request_in_flight_is_repeated_by_some_and_lost_by_the_others(measured: dict[str, Any]) -> None:
    for (kind, method, ending), row in rows(measured, "rst_busy", "fin_busy").items():
        name = (kind, method, ending)
        if (kind, method) in RETRIES:
            assert (name, row["outcome"], row["attempts"]) == (name, "ok", 2)
        else:
            lost = "reset" if ending == "rst_busy" else "closed"
            assert (name, row["outcome"], row["attempts"]) == (name, lost, 1)


def test_a_post_is_lost_by_all_but_curl(measured: dict[str, Any]) -> None:
    lost = {
        kind
        for (kind, method, _), row in rows(measured, "rst_busy", "fin_busy").items()
        if method == "POST" and row["outcome"] != "ok"
    }
    assert lost == {"urllib3", "requests", "httpx", "aiohttp", "node", "java"}


def test_in_a_black_hole_only_a_time_limit_helps_and_each_recovers_after_it(measured: dict[str, Any]) -> None:
    for (kind, method, _), row in rows(measured, "black_hole").items():
        if kind == "httpx" and row["new_connection"] and row["attempts"] == 1:
            continue  # a slow machine: it does not use a connection that was idle for 5 s (keepalive_expiry)
        repeats = (kind, method) == ("urllib3", "GET")  # a time that is over is an error like another to it
        assert (kind, method, row["outcome"]) == (kind, method, "ok" if repeats else "timeout")
        assert row["took_s"] >= 1.9
        assert row["next"] == "ok"
    own = {one["kind"]: one for one in measured["own_times"] if one["method"] == "GET"}
    assert own["httpx"]["outcome"] == "timeout"
    assert own["requests"]["outcome"] is None


def test_a_fleet_of_all_kinds_logs_what_servers_and_captures_have(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(speed=10)
    kinds = [KINDS[name] for name in (*KINDS_MEASURED, "curl-new")]
    captures = {"client": lab.capture(["client"], tmp_path / "client.pcapng", expression="tcp")}
    wanted = [Wanted(kind, 2) for kind in kinds]
    with begin(lab, {}, clients=wanted, say=print, seed=0, captures=captures) as run:
        run.start_clients()
        run.wait_until(
            "each client has made five requests",
            lambda: (
                len(counted := Counter(one.client for one in run.requests)) == 2 * len(kinds)
                and min(counted.values()) >= 5
            ),
            600,
        )
    assert [one for one in run.requests if one.outcome is not Outcome.OK] == []

    sent = {
        segment.request_id: (segments.port(segment.source), segment.payload.split(b" ")[0].decode())
        for segment in segments.read(captures["client"].path, float)
        if segment.is_request
    }
    for one in run.requests:
        port, method = sent[one.id]
        assert (one.id, one.method, one.local_port or port) == (one.id, method, port)
    served = {
        row.request.split(" ")[1].removeprefix("/?"): (row.request.split(" ")[0], server)
        for server in ("rs1", "rs2", "rs3")
        for row in kernels.served(lab, server)
        if "/?" in row.request
    }
    for one in run.requests:
        assert (one.id, served[one.id]) == (one.id, (one.method, one.server))
    for kind in kinds:
        methods = {one.method for one in run.requests if one.client.rpartition("-")[0] == kind.name}
        assert methods == set(kind.methods)


def test_a_kind_that_is_not_installed_is_named_with_what_helps() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netns.cli", "clients", "list", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for row in json.loads(done.stdout)["kinds"]:
        assert row["version"] or row["fix"]
    required = {
        row["name"]: row["version"] for row in json.loads(done.stdout)["kinds"] if row["name"] != "go"
    }
    assert all(required.values()), f"not installed here: {required}"
