"""What a server node serves, and the renaming of its health files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lb.config import parse
from netns import web
from netns.config import LabConfig
from netns.errors import MissingError
from netns.web import Web


def of(tmp_path: Path, *services: dict[str, object], kind: str = "nginx") -> Web:
    document: dict[str, object] = {"server": [{"name": "rs1", "web": kind}, {"name": "rs2"}]}
    if services:
        document["virtual_server"] = list(services)
    return web.of(parse(LabConfig, document, "test"), "rs1", tmp_path)


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
    text = web.nginx_configuration(served.ports)
    assert "listen 8001 " in text
    assert "listen 8002 " in text
    assert "8003" not in text


def test_keepalive_clients_are_never_closed_by_nginx(tmp_path: Path) -> None:
    text = web.nginx_configuration((80,))
    assert "keepalive_timeout 3600s;" in text
    assert "keepalive_requests 1000000000;" in text


def test_web_server_is_nginx_where_installed_else_the_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(LabConfig, {}, "test")
    monkeypatch.setattr(web, "installed", lambda _: "/usr/sbin/nginx")
    assert {server.web for server in web.decide(config).server} == {"nginx"}
    monkeypatch.setattr(web, "installed", lambda _: None)
    assert {server.web for server in web.decide(config).server} == {"builtin"}


def test_nginx_asked_for_and_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "installed", lambda _: None)
    config = parse(LabConfig, {"server": [{"name": "rs1", "web": "nginx"}]}, "test")
    with pytest.raises(MissingError, match="apt-get install nginx"):
        web.decide(config)
