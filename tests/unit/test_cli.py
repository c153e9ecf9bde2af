from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from lb import cli as module
from lb.cli import cli
from lb.render import size, span

from .fake_daemon import CLIENT, FakeDaemon, Served, serve, web

CONFIG = """
[[virtual_server]]
name = "web"
address = "192.0.2.10"
port = 80
dscp = 10
[[virtual_server.real_server]]
name = "rs1"
address = "10.0.0.1"
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(FakeDaemon(web(), web("six", vip="2001:db8:10::10")), tmp_path / "l4box.sock") as served:
        yield served


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "box.toml"
    path.write_text(CONFIG)
    return path


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], env=environment)


def ask(served: Served, *arguments: str, **environment: str) -> Result:
    result = run("--socket", served.path, *arguments, **environment)
    assert result.exit_code == 0, result.stderr
    return result


def ask_json(served: Served, *arguments: str) -> Any:
    return json.loads(ask(served, *arguments, "--json").stdout)


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """The command as a process that heeds SIGINT, even where the tests, run in the background, do not."""
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-W",
        "error",
        "-m",
        "lb.cli",
        *map(str, arguments),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# What a running box is asked


def test_show_servers(served: Served) -> None:
    served.do(lambda: served.host.fail("web/rs1"))
    rows = ask_json(served, "show", "servers")["servers"]
    assert [row["state"] for row in rows] == ["FAILED", "ACTIVE", "ACTIVE", "ACTIVE"]
    header, first, *_ = ask(served, "show", "servers", COLUMNS="80").stdout.splitlines()
    assert header.split() == [
        *("VIRTUAL", "SERVER", "SERVER", "ADDRESS", "STATE", "BOUND", "SESSIONS", "FLOWS", "LAST", "CHECK")
    ]
    assert first.split() == ["web", "rs1", "10.0.0.1", "FAILED", "no", "0", "0", "404,", "0.0s", "ago"]


def test_show_sessions_in_80_columns_and_with_more_room(served: Served) -> None:
    served.do(lambda: served.host.open(40000))
    served.do(lambda: served.host.open(40001, client="2001:db8:c1::7", vip="2001:db8:10::10"))
    narrow = ask(served, "show", "sessions", COLUMNS="80").stdout
    assert max(map(len, narrow.splitlines())) <= 80
    row = "198.51.100.7:40000 192.0.2.10:80 rs1 ESTABLISHED 0.0s 0.0s 10m00s 2 80"
    assert row.split() in [
        line.split() for line in ask(served, "show", "sessions", COLUMNS="100").stdout.splitlines()
    ]
    wide = ask(served, "show", "sessions", COLUMNS="130").stdout
    assert f"{row} 1001 5001".split() in [line.split() for line in wide.splitlines()]
    assert "[2001:db8:c1::7]:40001" in wide


def test_what_is_piped_is_not_cut_at_the_width_of_a_terminal(served: Served) -> None:
    served.do(
        lambda: served.host.open(
            40000, client="2001:db8:1111:2222:3333:4444:5555:6666", vip="2001:db8:10::10"
        )
    )
    assert "[2001:db8:1111:2222:3333:4444:5555:6666]:40000" in ask(served, "show", "sessions").stdout


def test_show_sessions_takes_the_filters_of_the_api_and_says_when_there_are_more(served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001, 40002))
    assert len(ask_json(served, "show", "sessions", "--server", "rs1")["sessions"]) == 2
    assert len(ask_json(served, "show", "sessions", "--client", f"{CLIENT}:40000")["sessions"]) == 1
    assert ask_json(served, "show", "sessions", "--state", "syn")["sessions"] == []
    assert ask_json(served, "show", "sessions", "--virtual-server", "six")["sessions"] == []
    assert ask_json(served, "show", "sessions", "--vip", "192.0.2.10:81")["sessions"] == []
    some = ask(served, "show", "sessions", "--limit", "2", "--json")
    assert len(json.loads(some.stdout)["sessions"]) == 2
    assert "more than these 2" in some.stderr
    assert ask(served, "show", "sessions", "--limit", "3").stderr == ""


def test_show_stats(served: Served) -> None:
    served.do(lambda: served.host.send("A", ack=7))
    assert ask_json(served, "show", "stats")["dropped"]["no_entry"] == 1
    text = ask(served, "show", "stats").stdout
    assert "1 no_entry" in text
    assert "loop lag   not measured yet" in text
    assert "192.0.2.10:80/tcp" in text


def test_show_stats_sums_the_loops_lag_up(served: Served) -> None:
    served.do(lambda: [served.host.heartbeat.note(0.1 * beat + 0.015) for beat in range(400)])
    assert "at most 15 ms for 99 % of the time, 15 ms at worst" in ask(served, "show", "stats").stdout
    served.do(lambda: served.host.heartbeat.note(40.099))
    assert "at most 20 ms for 99 % of the time, 99 ms at worst" in ask(served, "show", "stats").stdout
    served.do(lambda: served.host.heartbeat.note(100.0))
    assert "at most 59900 ms for 99 % of the time, 59900 ms at worst" in ask(served, "show", "stats").stdout


@pytest.mark.parametrize(
    ("action", "state"), [("enable", "ENABLED"), ("disable", "DISABLED"), ("shutdown", "SHUTDOWN")]
)
def test_a_server_is_changed(served: Served, action: str, state: str) -> None:
    if action == "enable":
        ask(served, "server", "disable", "rs1")
    changed = ask_json(served, "server", action, "rs1", "--virtual-server", "web")["servers"]
    assert [(row["virtual_server"], row["state"]) for row in changed] == [("web", state)]
    assert "rs1" in ask(served, "server", action, "rs1").stdout


def test_sessions_are_cleared_by_filter_or_all(served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001, 40002))
    assert run("--socket", served.path, "sessions", "clear").exit_code == 2
    assert ask(served, "sessions", "clear", "--server", "rs1").stdout == "cleared 2\n"
    assert ask_json(served, "sessions", "clear", "--all") == {"cleared": 1}


def test_a_server_is_disabled_with_its_sessions_reset(served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001))
    assert ask_json(served, "server", "disable", "rs1")["servers"][0]["resetting"] == 0
    (row,) = ask_json(served, "server", "disable", "rs2", "--virtual-server", "web", "--reset")["servers"]
    assert (row["state"], row["resetting"]) == ("DISABLED", 1)


def test_a_server_is_shut_down_with_a_deadline(served: Served) -> None:
    served.do(lambda: served.host.open(40000))
    ask(served, "server", "shutdown", "rs1", "--drain-timeout", "2.5")
    served.do(lambda: served.host.wait(2.4))
    assert len(ask_json(served, "show", "sessions")["sessions"]) == 1
    served.do(lambda: served.host.wait(0.2))
    assert ask_json(served, "show", "sessions")["sessions"] == []
    assert run("--socket", served.path, "server", "shutdown", "rs1", "--drain-timeout", "-1").exit_code == 2
    assert run("--socket", served.path, "server", "disable", "rs1", "--drain-timeout", "1").exit_code == 2
    assert run("--socket", served.path, "server", "enable", "rs1", "--reset").exit_code == 2


def test_sessions_are_reset_by_filter_or_all_and_the_statistics_tell(served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001, 40002))
    assert "SESSION RESETS" not in ask(served, "show", "stats").stdout
    assert run("--socket", served.path, "sessions", "reset").exit_code == 2
    assert ask(served, "sessions", "reset", "--server", "rs1").stdout == "reset 2\n"
    assert ask(served, "sessions", "reset", "--client", "203.0.113.0/24").stdout == "reset 0\n"
    assert ask_json(served, "sessions", "reset", "--all") == {"reset": 1}
    served.do(lambda: served.host.send("A", port=40000, seq=1001, ack=6001))
    served.do(lambda: served.host.send("R", port=40000, seq=1001))
    text = ask(served, "show", "stats").stdout
    assert "0 of 100000, and 2 tombstones" in text
    header, *rows = text[text.index("SESSION RESETS") :].splitlines()
    assert header.split() == [
        "SESSION",
        "RESETS",
        "TO",
        "CLIENTS",
        "TO",
        "SERVERS",
        "ACCEPTED",
        "CHALLENGED",
        "PROBED",
        "SILENT",
    ]
    assert [row.split() for row in rows] == [["administrator", "4", "0", "0", "1", "0", "0"]]


def test_events_as_lines_and_as_json_lines(served: Served) -> None:
    served.do(lambda: served.host.fail("web/rs1"))
    last = ask(served, "events", "--since", "-1").stdout
    assert "server_state web/rs1 SUSPECT → FAILED, health check: 404 (sessions: 0, not bound)" in last
    rows = [
        json.loads(line)
        for line in ask(served, "events", "--kind", "server_state", "--json").stdout.splitlines()
    ]
    assert {row["kind"] for row in rows} == {"server_state"}
    assert (rows[-1]["server"], rows[-1]["new"]) == ("rs1", "FAILED")


def test_every_kind_of_event_has_a_line(served: Served) -> None:
    def everything() -> None:
        host = served.host
        host.box.session_events = True
        host.open(40000)
        call_disable(host, "rs1")
        host.send("R", seq=1001)
        host.open(40001)
        host.box.disable(host.time, host.box.services.servers[2], reset=True)
        host.wait(0)
        host.event_log.append({"time": "t", "box_time": 0.0, "kind": "novelty", "what": "ever"})

    served.do(everything)
    lines = ask(served, "events").stdout
    for words in (
        "reconfigured virtual_servers=['web', 'six']",
        "probe web/rs1 success: 200",
        "session_opened web/rs1 198.51.100.7:40000 to 192.0.2.10:80",
        "client_reset after 0.0s, 3 packets, 120 bytes",
        "server_drained web/rs1 has no session left",
        "reset_started web/rs2 resetting 1 of its sessions: administrator",
        "reset_ended web/rs2 1 sessions reset, 1 RSTs sent, in 0.0s: administrator",
        "novelty what=ever",
    ):
        assert words in lines


def call_disable(host: FakeDaemon, name: str) -> None:
    for server in host.box.services.servers.values():
        if server.name == name:
            host.box.services.disable(host.time, server)
    host.settle()


def test_explain(served: Served) -> None:
    served.do(lambda: served.host.open(40000))
    served.do(lambda: served.host.fail("web/rs1"))
    text = ask(served, "explain", f"{CLIENT}:40000", "192.0.2.10").stdout.replace("\n", " ")
    assert "go to rs1 although rs1 is FAILED" in text
    found = ask_json(served, "explain", f"{CLIENT}:40000")
    assert found["virtual_servers"][0]["other_packets"]["servers"] == ["rs1"]


def test_colours_only_where_they_are_wanted(served: Served) -> None:
    assert "\x1b[" not in ask(served, "show", "servers").stdout
    assert "\x1b[32m" in ask(served, "show", "servers", FORCE_COLOR="1", TERM="xterm").stdout
    plain = ask(served, "show", "servers", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout
    assert "\x1b[32m" not in plain


# Which box


def test_the_socket_can_be_named_in_the_environment(served: Served) -> None:
    assert run("show", "servers", L4BOX_SOCKET=str(served.path)).exit_code == 0


def test_without_a_name_the_box_is_the_usual_one_or_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUN_DIRECTORY", tmp_path)
    monkeypatch.delenv("L4BOX_SOCKET", raising=False)
    assert module.default_socket() == tmp_path / "l4box.sock"
    (tmp_path / "lab.sock").touch()
    assert module.default_socket() == tmp_path / "lab.sock"
    (tmp_path / "other.sock").touch()
    result = run("show", "servers")
    assert result.exit_code == 2
    assert "lab, other" in result.stderr
    (tmp_path / "l4box.sock").touch()
    assert module.default_socket() == tmp_path / "l4box.sock"


def test_a_name_is_the_name_of_a_socket(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUN_DIRECTORY", served.path.parent)
    assert run("--name", "l4box", "show", "servers").exit_code == 0
    assert run("--name", "other", "show", "servers").exit_code == 4
    assert run("--name", "l4box", "--socket", "x", "show", "servers").exit_code == 2


def test_completion_knows_the_servers(served: Served) -> None:
    complete = ShellComplete(cli, {}, "l4box", "_L4BOX_COMPLETE")
    arguments = ["--socket", str(served.path), "server", "disable"]
    assert [item.value for item in complete.get_completions(arguments, "rs")] == ["rs1", "rs2"]
    assert complete.get_completions(["--socket", "/nowhere", "server", "disable"], "rs") == []


# Exit codes


def test_what_the_api_refuses_is_exit_code_1(served: Served) -> None:
    result = run("--socket", served.path, "server", "disable", "rs9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "l4box: no real server is named 'rs9'\n"


def test_no_box_is_exit_code_4(tmp_path: Path) -> None:
    result = run("--socket", tmp_path / "none.sock", "show", "servers", "--json")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "no box answers on" in result.stderr


def test_a_wrong_option_is_exit_code_2() -> None:
    assert run("show", "servers", "--jsn").exit_code == 2


def test_check_shows_what_a_configuration_means(config: Path) -> None:
    result = run("check", "-c", config)
    assert result.exit_code == 0
    assert "web: 192.0.2.10:80/tcp, DSCP 10, round-robin, idle timeout 600 s, half-open 60 s" in result.stdout
    assert "rs1: 10.0.0.1, weight 1" in result.stdout
    document = json.loads(run("check", "-c", config, "--json").stdout)
    assert document["virtual_server"][0]["aging_s"] == 600
    assert result.stderr == ""


def test_check_says_how_sessions_are_reset(config: Path) -> None:
    text = run("check", "-c", config).stdout
    assert "reset on port fail: off; resets go to the client, precise, as fast as they can be sent" in text
    assert "sessions left after a shutdown: kept; aged out: removed in silence" in text
    config.write_text(
        CONFIG.replace(
            "dscp = 10",
            "dscp = 10\nreset_on_aging = true\ndrain_timeout_s = 30\n"
            'reset_on_port_fail = { enabled = true, sides = "both", mode = "naive", pace = 500 }',
        )
    )
    text = run("check", "-c", config).stdout
    assert "reset on port fail: on; resets go to both sides, naive, 500 a second at most" in text
    assert "sessions left after a shutdown: reset after 30 s; aged out: reset" in text


def test_check_warns_on_stderr(config: Path) -> None:
    config.write_text("speed = 100\n" + CONFIG)
    result = run("check", "-c", config, "--json")
    assert json.loads(result.stdout)["speed"] == 100
    assert "Warning: virtual_server 'web'" in result.stderr


def test_a_bad_configuration_is_exit_code_3_and_says_where(config: Path) -> None:
    config.write_text(CONFIG.replace("dscp = 10", "dscp = 64\naging_s = 60"))
    result = run("check", "-c", config)
    assert (result.exit_code, result.stdout) == (3, "")
    for word in (str(config), "dscp = 64", "1 to 63", "aging_s = 60", "120 to 3600"):
        assert word in result.stderr


def test_run_ends_with_the_daemons_exit_code(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {config: 5}
    daemon = SimpleNamespace(run=codes.pop)
    monkeypatch.setitem(sys.modules, "lb.daemon", daemon)
    monkeypatch.setattr("lb.daemon", daemon, raising=False)
    assert run("run", "-c", config).exit_code == 5
    assert not codes


def test_an_interrupt_is_exit_code_130(served: Served) -> None:
    process = start("--socket", served.path, "events", "--follow", "--json")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=30)
    assert (process.returncode, messages) == (130, "")


@pytest.mark.parametrize(
    "arguments", [("events", "--json"), ("events",), ("show", "sessions"), ("show", "sessions", "--json")]
)
def test_a_closed_pipe_is_no_traceback(served: Served, arguments: tuple[str, ...]) -> None:
    served.do(lambda: served.host.fill(3000))
    for _ in range(3000):
        served.host.event_log.append({"time": "t", "box_time": 0.0, "kind": "noise"})
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "lb.cli", "--socket", str(served.path), *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert process.stderr == ""
    assert process.returncode in (0, 1)


def test_followed_events_are_printed_when_they_happen(served: Served) -> None:
    process = start("--socket", served.path, "events", "--follow", "--since", "-1")
    assert process.stdout is not None
    assert process.stdout.readline()
    served.do(lambda: served.host.fail("web/rs1"))
    lines = [process.stdout.readline() for _ in range(4)]
    assert "SUSPECT → FAILED" in lines[3]
    served.do(served.host.event_log.close)
    assert process.wait(30) == 0
    process.communicate()


# The command itself


def test_version() -> None:
    assert run("--version").stdout.startswith("l4box ")


def test_help_imports_nothing_that_takes_time() -> None:
    heavy = {"fastapi", "httpx", "rich", "pydantic", "prometheus_client", "asyncio", "uvicorn", "structlog"}
    code = "import sys, lb.cli\ntry: lb.cli.cli(['--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_every_command_that_prints_data_has_json() -> None:
    silent = {"run"}
    for name, command in cli.commands.items():
        for leaf in getattr(command, "commands", {name: command}).values():
            options = {option for parameter in leaf.params for option in parameter.opts}
            assert ("--json" in options) is (leaf.name not in silent), leaf.name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (3599.6, "1h00m"),
        (598, "9m58s"),
        (3720, "1h02m"),
        (273_600, "3d04h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9_949, "9.9k"),
        (9_951, "10k"),
        (999_600, "1.0M"),
        (35e6, "35M"),
        (2e12, "2T"),
    ],
)
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text
