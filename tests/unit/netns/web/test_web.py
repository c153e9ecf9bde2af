"""What a server node serves, and the renaming of its health files."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import get_args

import pytest

from lb.config import parse
from netns import web
from netns.errors import MissingError
from netns.linux.programs import program_version
from netns.plan.config import LabConfig, WebKind
from netns.web import StopSignal, Web


def of(tmp_path: Path, *services: dict[str, object], kind: str = "nginx") -> Web:
    document: dict[str, object] = {"server": [{"name": "rs1", "web": kind}, {"name": "rs2"}]}
    if services:
        document["virtual_server"] = list(services)
    return web.of(parse(LabConfig, document, "test"), "rs1", tmp_path / "rs1")


def service(number: int, **more: object) -> dict[str, object]:
    return {
        "name": f"s{number}",
        "address": f"192.0.2.{number}",
        "port": 8000 + number,
        "dscp": number,
        **more,
    }


def test_page_names_its_server_and_the_health_file_is_there(tmp_path: Path) -> None:
    served = of(tmp_path)
    web.make_files(served)
    assert (served.root / "index.html").read_text() == "rs1\n"
    assert (served.root / "health_check.html").exists()
    assert served.healthy


def test_renamed_health_files_are_off_until_they_are_renamed_back(tmp_path: Path) -> None:
    served = of(tmp_path, service(1, health_check={"url": "/deep/ok.html?full=1"}), service(2))
    web.make_files(served)
    assert {str(file.relative_to(served.root)) for file in served.health_files} == {
        "deep/ok.html",
        "health_check.html",
    }
    assert web.health_off(served)
    assert not served.healthy
    assert (served.root / "health_check.html.off").exists()
    assert not web.health_off(served)
    assert web.health_on(served)
    assert served.healthy
    assert not web.health_on(served)


def test_health_check_of_the_front_page_asks_for_the_servers_own_page(tmp_path: Path) -> None:
    served = of(tmp_path, service(1, health_check={"url": "/"}))
    web.make_files(served)
    assert (served.root / "index.html").read_text() == "rs1\n"
    assert served.healthy


def test_server_listens_on_the_ports_of_its_own_virtual_servers_only(tmp_path: Path) -> None:
    served = of(tmp_path, service(1), service(2), service(3, servers=["rs2"]))
    assert served.ports == (8001, 8002)
    assert served.environment["L4LAB_PORT"] == "8001,8002"


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_configuration_names_the_ports_and_nothing_of_the_hosts(kind: str, tmp_path: Path) -> None:
    served = of(tmp_path, service(1), service(2), service(3, servers=["rs2"]), kind=kind)
    web.make_files(served)
    assert served.kind.configuration is not None
    text = (served.directory / served.kind.configuration(served)[0]).read_text()
    assert "8001" in text
    assert "8002" in text
    assert "8003" not in text
    assert "/etc/" not in text
    assert "/var/" not in text


def test_no_kind_closes_a_connection_that_is_idle_for_an_hour(tmp_path: Path) -> None:
    def configured(kind: str) -> str:
        served = of(tmp_path, kind=kind)
        assert served.kind.configuration is not None
        return served.kind.configuration(served)[1]

    assert "keepalive_timeout 3600s;" in configured("nginx")
    assert "keepalive_requests 1000000000;" in configured("nginx")
    assert "KeepAliveTimeout 3600\n" in configured("apache")
    assert "MaxKeepAliveRequests 0\n" in configured("apache")
    gunicorn = of(tmp_path, kind="gunicorn")
    assert "--keep-alive=3600" in gunicorn.kind.command(gunicorn)


# Which kind it is


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have these kinds not be installed, and all others."""
    kinds = {
        name: replace(kind, version=lambda name=name: None if name in names else "1.0")
        for name, kind in web.KINDS.items()
    }
    monkeypatch.setattr(web, "KINDS", kinds)


def test_the_configuration_knows_exactly_the_kinds_that_there_are() -> None:
    assert get_args(WebKind) == tuple(web.KINDS)


def test_web_server_is_nginx_where_installed_else_the_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(LabConfig, {}, "test")
    absent(monkeypatch)
    assert {server.web for server in web.decide(config).server} == {"nginx"}
    absent(monkeypatch, "nginx")
    assert {server.web for server in web.decide(config).server} == {"builtin"}


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("nginx", "apt-get install nginx"),
        ("apache", "apt-get install apache2-bin"),
        ("node", "apt-get install nodejs"),
        ("gunicorn", f"{sys.executable} -m pip install gunicorn"),
        ("uvicorn", f"{sys.executable} -m pip install uvicorn"),
    ],
)
def test_kind_that_is_asked_for_and_not_installed_is_named_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, kind: str, fix: str
) -> None:
    absent(monkeypatch, kind)
    config = parse(LabConfig, {"server": [{"name": "rs1", "web": kind}]}, "test")
    with pytest.raises(MissingError, match=re.escape(fix)) as caught:
        web.decide(config)
    assert f"server 'rs1' has web = \"{kind}\"" in str(caught.value)


def test_version_of_a_program_is_what_it_says_of_itself_and_none_where_it_is_not_installed() -> None:
    assert program_version("sh", "-c", "echo this is sh/1.22.1 >&2") == "1.22.1"
    assert program_version("sh", "-c", "echo v20.20.2") == "20.20.2"
    assert program_version("no-such-program", "-v") is None


# The user's own


def own(tmp_path: Path, **server: object) -> Web:
    config = parse(LabConfig, {"server": [{"name": "rs1", **server}]}, "test")
    return web.of(web.decide(config), "rs1", tmp_path / "rs1")


def test_words_of_a_command_are_filled_in_and_run_in_its_directory(tmp_path: Path) -> None:
    served = own(
        tmp_path,
        command="MODE=test sh -c 'echo {server} {port}' --root={root} {other} {access_log}",
        directory="/srv",
    )
    assert served.kind.command(served) == [
        "env",
        "--chdir=/srv",
        "MODE=test",
        "sh",
        "-c",
        "echo rs1 80",
        f"--root={served.root}",
        "{other}",
        str(served.access_log),
    ]


def test_command_is_stopped_by_term_and_killed_unless_told_otherwise(tmp_path: Path) -> None:
    assert own(tmp_path, command="sh").kind.signal(StopSignal.GRACEFUL) is Signals.SIGTERM
    assert own(tmp_path, command="sh").kind.signal(StopSignal.ABRUPT) is Signals.SIGKILL
    kind = own(tmp_path, command="sh", graceful_signal="SIGINT", abrupt_signal="HUP").kind
    assert (kind.graceful, kind.abrupt) == (Signals.SIGINT, Signals.SIGHUP)


@pytest.mark.parametrize("command", ["no-such-program --port {port}", "./missing.sh", "A=b"])
def test_command_whose_program_is_not_there_is_named_before_anything_is_made(
    tmp_path: Path, command: str
) -> None:
    with pytest.raises(MissingError, match=re.escape(command.replace("'", ""))):
        own(tmp_path, command=command, directory=str(tmp_path))


def test_program_of_a_command_is_found_from_its_directory_on(tmp_path: Path) -> None:
    program = tmp_path / "server.sh"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(MissingError):
        own(tmp_path, command="./server.sh", directory=str(tmp_path))  # not executable
    program.chmod(0o755)
    assert (
        own(tmp_path, command="./server.sh", directory=str(tmp_path)).kind.version()
        == f"{tmp_path}/server.sh"
    )


# How each is stopped


@pytest.mark.parametrize(
    ("kind", "graceful", "abrupt"),
    [
        ("nginx", Signals.SIGQUIT, Signals.SIGTERM),
        ("apache", Signals.SIGWINCH, Signals.SIGTERM),
        ("gunicorn", Signals.SIGTERM, Signals.SIGQUIT),
        ("uvicorn", Signals.SIGTERM, Signals.SIGQUIT),
        ("node", Signals.SIGTERM, Signals.SIGINT),
        ("builtin", Signals.SIGQUIT, Signals.SIGTERM),
    ],
)
def test_each_kind_has_its_own_signals_and_the_others_are_what_they_are_called(
    kind: str, graceful: Signals, abrupt: Signals
) -> None:
    found = {how: web.KINDS[kind].signal(how) for how in StopSignal}
    assert found == {
        StopSignal.GRACEFUL: graceful,
        StopSignal.ABRUPT: abrupt,
        StopSignal.KILL: Signals.SIGKILL,
        StopSignal.KILL_MAIN: Signals.SIGKILL,
        StopSignal.QUIT: Signals.SIGQUIT,
        StopSignal.TERM: Signals.SIGTERM,
    }
