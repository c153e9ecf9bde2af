"""A rehearsal's verdict on real kernels: what it may not say, and that each run is judged by its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netns import labs
from netns.lab import state
from netns.plan.config import load
from tests.integration.conftest import eventually
from tests.integration.test_rehearsal import (
    EXAMPLES,
    ILL,
    INCONCLUSIVE,
    LOST,
    NAME,
    NO_VERDICT,
    OK,
    command,
    leftovers,
    rehearse,
    script,
)

pytestmark = pytest.mark.integration

FAST = ("--interval", "1", "--retries", "1")
CAREFUL = """
mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"
"$L4LAB_WAIT" FAILED
"$L4LAB_WEB" stop
"$L4LAB_WEB" start
mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
"$L4LAB_WAIT" ACTIVE
"""
HARMLESS = 'echo "the new release" >"$L4LAB_ROOT/release.txt"'
BRUTAL = '"$L4LAB_WEB" stop abrupt; sleep 2; "$L4LAB_WEB" start'


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    labs.down(NAME)


def lab_file(path: Path, text: str) -> tuple[str, str]:
    file = path / "lab.toml"
    file.write_text(text)
    return "-f", str(file)


def lost(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in result["explained"] if one["lost"]]


# Speed


def test_a_pause_of_the_scripts_own_is_honest_at_speed_1_and_proves_nothing_at_speed_10(
    tmp_path: Path,
) -> None:
    """It waits 3 s for a box that needs 10 to 20: which is 30 s for a box at ten times the speed."""
    text = """
    mv "$L4LAB_HEALTH" "$L4LAB_HEALTH.off"; sleep 3
    "$L4LAB_WEB" stop; "$L4LAB_WEB" start
    mv "$L4LAB_HEALTH.off" "$L4LAB_HEALTH"
    """
    words = ("--servers", "rs1", "--clients", "curl:2,curl-new:4", "--", script(tmp_path, text), "{server}")
    code, result, _ = rehearse(*words, speed=10)
    assert (code, result["verdict"]) in [(INCONCLUSIVE, "inconclusive"), (LOST, "lost")]
    assert result["deploys"][0]["outside_s"] > 3
    reason = next(one for one in result["reasons"] if "outside L4LAB_SLEEP" in one)
    assert "--speed 1" in reason
    code, result, said = rehearse(*FAST, *words, speed=1)
    assert "speed 1: all times are real" in said
    assert code == OK, result["reasons"]
    assert result["deploys"][0]["real_s"] == pytest.approx(
        result["deploys"][0]["ended"] - result["deploys"][0]["began"]
    )


def test_a_pause_beside_another_servers_wait_is_the_commands_own(tmp_path: Path) -> None:
    text = """
    "$L4LAB_NODES/rs1/sleep" 33 &
    health=$(. "$L4LAB_NODES/rs2/env"; echo "$L4LAB_HEALTH")
    mv "$health" "$health.off"; sleep 7.6; "$L4LAB_NODES/rs2/web" stop
    "$L4LAB_NODES/rs2/web" start; mv "$health.off" "$health"; wait
    """
    _, result, _ = rehearse("--clients", "curl:3", "--", script(tmp_path, text), speed=3)
    assert result["deploys"][0]["outside_s"] > 7
    assert any("outside L4LAB_SLEEP" in reason for reason in result["reasons"])


# Virtual servers, and deploys that nobody can see


def test_losses_of_a_second_virtual_server_are_seen(tmp_path: Path) -> None:
    lab = lab_file(
        tmp_path,
        """
        server = [{ name = "web1" }, { name = "web2" }, { name = "api1" }, { name = "api2" }]
        virtual_server = [
          { name = "web", address = "192.0.2.10", port = 80, dscp = 10, servers = ["web1", "web2"] },
          { name = "api", address = "192.0.2.20", port = 8080, dscp = 20, servers = ["api1", "api2"] },
        ]
        """,
    )
    kinds = "curl:2,curl-new:4,urllib3:2,httpx:2,aiohttp:2,requests:2,node:2,java:2"
    words = (*lab, *FAST, "--servers", "api1,api2", "--clients", kinds)
    code, result, said = rehearse(*words, "--", script(tmp_path, BRUTAL), "{server}", speed=1)
    assert code == LOST, said
    assert {group["service"] for group in result["groups"]} == {"api"}
    assert {one["server"] for one in lost(result)} <= {"api1", "api2"}
    assert result["unexplained"] == 0
    code, result, _ = rehearse(*words[:-1], "curl:4@web", "--", script(tmp_path, BRUTAL), "{server}", speed=1)
    assert code == INCONCLUSIVE
    assert "No request reached api1, api2" in result["text"]


def test_clients_of_two_virtual_servers_are_told_apart(tmp_path: Path) -> None:
    lab = lab_file(
        tmp_path,
        """
        server = [{ name = "rs1" }, { name = "rs2" }]
        virtual_server = [
          { name = "web", address = "192.0.2.10", port = 80, dscp = 10 },
          { name = "api", address = "192.0.2.20", port = 8080, dscp = 20 },
        ]
        """,
    )
    kinds = "curl:2,curl-new:2,urllib3:2,httpx:2,aiohttp:2,requests:2,node:2,java:1"
    code, result, said = rehearse(
        *lab,
        *FAST,
        "--servers",
        "rs1",
        "--clients",
        kinds,
        "--",
        script(tmp_path, BRUTAL),
        "{server}",
        speed=1,
    )
    assert code == LOST, said
    assert result["unexplained"] == 0
    on = {group["name"]: group["service"] for group in result["groups"]}
    assert {on[one["client"].rpartition("-")[0]] for one in lost(result)} == {"web", "api"}


def test_a_command_that_does_nothing_is_inconclusive() -> None:
    code, result, _ = rehearse(
        *FAST, "--servers", "rs1", "--clients", "curl:3", "--", "true", "{server}", speed=1
    )
    assert (code, result["lost"]) == (INCONCLUSIVE, 0)
    assert "No change of rs1 was seen" in result["text"]


def test_a_reload_is_a_change_though_nothing_else_shows_it(tmp_path: Path) -> None:
    text = 'kill -HUP "$(cat "$L4LAB_HOME/nginx.pid")"; sleep 1'
    code, result, _ = rehearse(
        *FAST,
        "--servers",
        "rs1",
        "--clients",
        "curl:3,curl-new:2",
        "--",
        script(tmp_path, text),
        "{server}",
        speed=1,
    )
    assert code == OK, result["reasons"]
    assert {one["what"] for one in result["touches"] if one["server"] == "rs1"} == {"processes"}


def test_what_a_script_leaves_running_in_the_background_is_not_judged(tmp_path: Path) -> None:
    text = f"{HARMLESS}; sleep 60 &"
    code, result, _ = rehearse(
        *FAST, "--servers", "rs1", "--clients", "curl:3", "--", script(tmp_path, text), "{server}", speed=1
    )
    assert code == INCONCLUSIVE
    assert "left sleep (pid" in result["text"]


# A lab that was ill before


def test_a_lab_that_loses_requests_before_the_deploy_is_ill_and_nothing_is_deployed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import http.server, os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_error(200 if 'health' in self.path else 500)\n"
        "    do_POST = do_GET\n"
        "http.server.ThreadingHTTPServer(('', int(os.environ['L4LAB_PORT'])), H).serve_forever()\n"
    )
    lab = lab_file(tmp_path, '[[server]]\nname = "rs1"\ncommand = "python3 broken.py"\n')
    text = f"touch {tmp_path}/deployed"
    code, result, said = rehearse(
        *lab, "--clients", "curl:3,curl-new:2", "--", script(tmp_path, text), "{server}", speed=1
    )
    assert (code, result["verdict"]) == (ILL, "ill"), said
    assert "lost before the deploy began" in result["text"]
    assert "500" in result["text"]
    assert (result["causes"], result["advice"], result["deploys"]) == ({}, [], [])
    assert not (tmp_path / "deployed").exists()


def test_servers_that_speak_tls_are_told_to_be_more_than_the_clients_speak(tmp_path: Path) -> None:
    key = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rs1", "-days", "2")
    subprocess.run([*key, "-keyout", "k.pem", "-out", "c.pem"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "site.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        "http { access_log off; server { listen 443 ssl;\n"
        f"ssl_certificate {tmp_path}/c.pem; ssl_certificate_key {tmp_path}/k.pem; return 200 rs1; }} }}\n"
    )
    lab = lab_file(
        tmp_path,
        f"""
        server = [{{ name = "rs1", command = "nginx -c {tmp_path}/site.conf" }}]
        [[virtual_server]]
        name = "web"
        address = "192.0.2.10"
        port = 443
        dscp = 10
        health_check.kind = "l4"
        """,
    )
    code, result, said = rehearse(*lab, "--clients", "curl:2,urllib3:1", "--", "true", "{server}", speed=1)
    assert code == ILL, said
    assert "The servers of web speak TLS, and the lab's clients speak HTTP in clear only" in result["text"]


# This machine


def test_a_box_that_had_no_time_makes_the_run_inconclusive_with_the_figures(tmp_path: Path) -> None:
    """Its daemon is stopped for as long as a machine at a standstill would stop it."""
    text = f"""
    box=$(l4lab status --json | python3 -c 'import json, sys; print([one["pid"] for one in
      json.load(sys.stdin)["programs"] if one["role"] == "box"][0])')
    kill -STOP $box; sleep 3; kill -CONT $box
    {HARMLESS}
    """
    code, result, said = rehearse(
        *FAST, "--servers", "rs1", "--clients", "curl:3", "--", script(tmp_path, text), "{server}", speed=1
    )
    assert code == INCONCLUSIVE, said
    assert "This machine was too busy: " in result["text"]
    measured = result["figures"]["this machine, in real time"]
    assert measured["check_s"] > 1
    assert f"a health check began {measured['check_s']:.2f} s late" in result["text"]


def test_a_capture_that_the_deploy_has_ended_makes_the_run_inconclusive(tmp_path: Path) -> None:
    """All that runs in the server's network is killed: a capture of ours is among it."""
    text = 'kill -KILL $(ip netns pids "$L4LAB_NETNS"); sleep 1; "$L4LAB_WEB" start'
    code, result, said = rehearse(
        *FAST, "--servers", "rs1", "--clients", "curl:3", "--", script(tmp_path, text), "{server}", speed=1
    )
    assert code == INCONCLUSIVE, said
    assert "The captures at rs1 ended during the run" in result["text"]


# What is not of this run


def test_each_of_two_rehearsals_in_one_lab_is_judged_by_its_own(tmp_path: Path) -> None:
    labs.up(load(None, name=NAME, speed=1)).close()
    clients = ("--servers", "rs1", "--clients", "curl:3,curl-new:3,urllib3:2,node:2")
    noisy = "echo of the first run; " + BRUTAL
    code, first, _ = rehearse(*clients, "--", script(tmp_path, noisy), "{server}", speed=1)
    assert code == LOST
    code, second, said = rehearse(*clients, "--", script(tmp_path, HARMLESS), "{server}", speed=1)
    assert code == OK, said
    assert second["lost"] == 0 < first["lost"]
    assert "of the first run" not in said
    assert second["deploys"][0]["output"] == ""
    for of in ("request_log", "events", "steps", "samples", "changes", "touches"):
        assert second[of] or of == "touches"
        key = {"request_log": "started", "events": "at"}.get(of, "time")
        assert [one for one in second[of] if one[key] < -0.5] == [], of
    assert {one["id"] for one in second["request_log"]} & {one["id"] for one in first["request_log"]}, (
        "the same names in both runs: which are not to be mixed up"
    )


def test_a_lab_that_is_up_is_used_as_it_is_and_only_what_contradicts_it_is_refused() -> None:
    labs.up(load(None, name=NAME, speed=10)).close()
    words = ("--name", NAME, "--servers", "rs1", "--clients", "curl:3", "--json", "--", "true", "{server}")
    program = [sys.executable, "-m", "netns.cli", "rehearse"]

    def ask(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *more, *words], capture_output=True, text=True, timeout=120, check=False
        )

    done = ask()
    assert done.returncode == INCONCLUSIVE, done.stderr
    assert "speed 10: 10 box s pass in 1 s of real time" in done.stderr
    done = ask("--speed", "1")
    assert done.returncode == NO_VERDICT
    assert "is up with other settings (speed is 10.0, not 1.0)" in done.stderr
    done = ask("--interval", "2")
    assert "health_check.interval_s is 10.0, not 2.0" in done.stderr


@contextmanager
def under_way(path: Path, clients: str) -> Iterator[subprocess.Popen[str]]:
    """A rehearsal of rs1 in a lab that is up, whose command has begun and takes a minute."""
    words = ("--servers", "rs1", "--clients", clients, "--", script(path, "echo begun; sleep 60"), "{server}")
    with subprocess.Popen(command(*words, speed=1), stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("rs1 | begun" in line for line in running.stderr)
        yield running


def test_a_second_rehearsal_in_a_lab_that_is_being_rehearsed_is_refused(tmp_path: Path) -> None:
    labs.up(load(None, name=NAME)).close()
    with under_way(tmp_path, "curl:2") as running:
        code, _, said = rehearse("--clients", "curl:1", "--", "true", "{server}", speed=1)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert code == NO_VERDICT
    assert f"the lab '{NAME}' is being rehearsed by another command" in said
    assert running.returncode == 130


def test_clients_that_a_killed_rehearsal_left_are_ended_by_the_next(tmp_path: Path) -> None:
    labs.up(load(None, name=NAME)).close()
    with under_way(tmp_path, "curl:3") as running:
        running.kill()
    deploy = ("--", script(tmp_path, HARMLESS), "{server}")
    code, result, said = rehearse("--servers", "rs1", "--clients", "curl:2", *deploy, speed=1)
    assert code == OK, said
    assert {one["client"] for one in result["request_log"]} == {"curl-1", "curl-2"}
    made = state.read(NAME)
    assert made is not None
    assert [role for role in made.processes if role.startswith(("clients", "deploy"))] == []


@pytest.mark.alone  # at speed 20 a health check has 50 ms
def test_a_lab_that_was_ill_elsewhere_is_told_and_a_fleet_needs_all_of_its_servers(tmp_path: Path) -> None:
    lab = labs.up(load(None, name=NAME, speed=20))
    lab.health_off("rs1")
    eventually(lambda: lab.box.servers()[0]["state"] == "FAILED", "rs1 is FAILED")
    lab.close()
    deploy = script(tmp_path, 'echo new >"${L4LAB_ROOT:-$L4LAB_NODES}/release.txt"')
    _, _, said = rehearse("--servers", "rs2", "--clients", "curl:3", "--", deploy, "{server}", speed=20)
    assert "Before the deploy began, rs1 is FAILED on web (last check: 404)" in said
    code, result, _ = rehearse("--clients", "curl:3", "--", deploy, speed=20)
    assert (code, result["deploys"]) == (ILL, [])


# One command for the fleet


def test_a_loop_over_the_fleet_in_one_command_is_seen_server_by_server(tmp_path: Path) -> None:
    text = f"""
    for server in $L4LAB_SERVERS; do
      (. "$L4LAB_NODES/$server/env"; {CAREFUL.replace(chr(10), "; ").strip("; ")})
      "$L4LAB_NODES/$server/exec" ip -o addr show dev lo | grep -q 192.0.2.10
      "$L4LAB_SLEEP" 0.1
    done
    """
    code, result, said = rehearse(
        *FAST, "--clients", "curl:6,curl-new:4", "--", script(tmp_path, text), speed=1
    )
    assert code == OK, said
    assert [(one["server"], one["exit_code"]) for one in result["deploys"]] == [("", 0)]
    assert [one["server"] for one in result["windows"]] == ["rs1", "rs2", "rs3"]
    assert all(one["stopped"] >= one["unbound"] for one in result["windows"])


@pytest.mark.parametrize(("batch", "together"), [("1", 0), ("50%", 1)])
def test_an_ansible_play_is_rehearsed_as_it_is(tmp_path: Path, batch: str, together: int) -> None:
    ansible = str(Path(sys.executable).parent / "ansible-playbook")
    play = (ansible, str(EXAMPLES / "ansible" / "deploy.yml"), "-e", f"batch={batch}")
    names = ", ".join(f'{{ name = "rs{number}" }}' for number in range(1, 5))
    lab = lab_file(tmp_path, f"server = [{names}]\n")
    code, result, said = rehearse(*lab, *FAST, "--clients", "curl:6,curl-new:4", "--", *play, speed=1)
    assert code == OK, said
    assert {one["server"] for one in result["windows"]} == {"rs1", "rs2", "rs3", "rs4"}
    assert {len(one["together"]) for one in result["windows"]} == {together}


# What may be lost, and reports that can't be written


def test_only_what_is_allowed_may_be_lost(tmp_path: Path) -> None:
    words = (*FAST, "--servers", "rs1", "--clients", "curl-new:4")
    deploy = ("--", script(tmp_path, BRUTAL), "{server}")
    code, result, _ = rehearse(*words, "--allow", "health_window", *deploy, speed=1)
    assert (code, set(result["causes"])) == (OK, {"health_window"})
    code, result, _ = rehearse(*words, "--allow", "closed_under_way", *deploy, speed=1)
    assert code == LOST


def test_a_report_that_cannot_be_written_is_found_before_the_lab_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        code, _, said = rehearse("--report", str(place), "--", "true", "{server}")
        assert code == NO_VERDICT
        assert f"--report {place}: " in said
        assert "Traceback" not in said
        assert "making" not in said


def test_a_name_that_is_no_utf_8_does_not_cost_the_verdict(tmp_path: Path) -> None:
    words = ("--servers", "rs1", "--clients", "curl:2", "--report", str(tmp_path / "out"))
    strange = b"\xff\xfe".decode(errors="surrogateescape")
    code, _, said = rehearse(*words, "--", script(tmp_path, HARMLESS), "{server}", strange, speed=1)
    assert code == OK, said
    assert (tmp_path / "out" / "report.html").exists()


def test_a_disk_that_fills_up_costs_the_report_and_not_the_verdict(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], check=True)
    try:
        words = (*FAST, "--servers", "rs1", "--clients", "curl:3,curl-new:3", "--report", str(full))
        code, result, said = rehearse(*words, "--", script(tmp_path, BRUTAL), "{server}", speed=1)
    finally:
        subprocess.run(["umount", str(full)], check=True)
    assert (code, result["verdict"]) == (LOST, "lost"), said
    assert "warning: the captures are not in the report" in said
    assert "Traceback" not in said
    assert leftovers() == []
