"""lab.toml: what is accepted, what is refused and in which words, and the box.toml that comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lb.config import ConfigError, parse
from netns.plan.config import LabConfig, load


def refused(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "lab.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.source == str(file)
    return caught.value.problems


def accepted(tmp_path: Path, text: str, name: str | None = None, speed: float | None = None):  # type: ignore[no-untyped-def]
    file = tmp_path / "lab.toml"
    file.write_text(text)
    return load(file, name=name, speed=speed)


VIRTUAL_SERVER = '[[virtual_server]]\nname = "web"\naddress = "192.0.2.10"\nport = 80\ndscp = 10\n'


def test_no_file_is_the_default_lab() -> None:
    box = load(None).box_config()
    assert box.name == "l4lab"
    (service,) = box.virtual_server
    assert (service.name, str(service.address), service.port, service.dscp) == ("web", "192.0.2.10", 80, 10)
    assert (service.aging_s, service.health_check.interval_s, service.health_check.retries) == (600, 10, 1)
    assert [(server.name, str(server.address)) for server in service.real_server] == [
        ("rs1", "10.80.1.2"),
        ("rs2", "10.80.2.2"),
        ("rs3", "10.80.3.2"),
    ]


def test_the_box_reports_sessions_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(None).box_config().events.sessions
    assert accepted(tmp_path, "[box.events]\nkeep = 5\n").box_config().events.sessions
    assert not accepted(tmp_path, "[box.events]\nsessions = false\n").box_config().events.sessions


def test_an_empty_file_is_the_default_lab(tmp_path: Path) -> None:
    assert accepted(tmp_path, "") == load(None)


def test_name_and_speed_given_go_over_those_of_the_file(tmp_path: Path) -> None:
    config = accepted(tmp_path, 'name = "blue"\nspeed = 2\n', name="green", speed=30)
    assert (config.name, config.box_config().name, config.box_config().speed) == ("green", "green", 30)


def test_delay_given_replaces_the_files_and_0_given_takes_it_away(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text("delay_ms = 5\n")
    assert load(file).delay_ms == 5
    assert load(file, delay_ms=0.5).delay_ms == 0.5
    assert load(file, delay_ms=0).delay_ms == 0
    assert load(None).delay_ms == 0


def test_settings_of_the_box_and_of_virtual_servers_go_through(tmp_path: Path) -> None:
    text = f"""
[box.sessions]
limit = 7
[[server]]
name = "a"
weight = 3
[[server]]
name = "b"
{VIRTUAL_SERVER}
servers = ["b", "a"]
scheduler = "weighted-round-robin"
health_check = {{ kind = "l4", path = "direct" }}
"""
    box = accepted(tmp_path, text).box_config()
    (service,) = box.virtual_server
    assert box.sessions.limit == 7
    assert [(server.name, server.weight) for server in service.real_server] == [("b", 1), ("a", 3)]
    assert (service.scheduler, service.health_check.kind) == ("weighted-round-robin", "l4")
    assert service.health_check.path == "direct"


def test_configuration_survives_its_own_json() -> None:
    config = load(None)
    assert type(config).model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clients = 0", "clients = 0: input should be greater than or equal to 1"),
        ("speed = 101", "speed = 101: input should be less than or equal to 100"),
        ("delay_ms = -1", "delay_ms = -1: input should be greater than or equal to 0"),
        ("delay_ms = 2000", "delay_ms = 2000: input should be less than or equal to 1000"),
        ("delay_ms = nan", "delay_ms = nan: input should be"),
        ("spede = 3", "spede: unknown key"),
        ('[[server]]\nname = "router"', "server[0].name: 'router' is taken"),
        ('[[server]]\nname = "client7"', "server[0].name: 'client7' is taken"),
        ('[[server]]\nname = "all"', "server[0].name: 'all' is taken"),
        ('[[server]]\nname = "a234567890123456"', "server[0].name = 'a234567890123456'"),
        ('[[server]]\nname = "a"\n[[server]]\nname = "a"', "server: name 'a' is used 2 times"),
        (
            '[[server]]\nname = "a"\nweb = "caddy"',
            "server[0].web = 'caddy': input should be 'nginx', 'apache'",
        ),
        (VIRTUAL_SERVER + "aging_s = 60", "virtual_server[0].aging_s = 60: 120"),
        (VIRTUAL_SERVER + 'servers = ["rs9"]', "virtual_server: 'web': servers names 'rs9'; the lab has rs1"),
        (VIRTUAL_SERVER + "real_server = []", "virtual_server[0].real_server: the lab fills this in"),
        (VIRTUAL_SERVER.replace("192.0.2.10", "2001:db8::1"), "2001:db8::1 is an IPv6 VIP"),
        (VIRTUAL_SERVER.replace("192.0.2.10", "127.0.0.1"), "127.0.0.1 can't be a VIP"),
        (VIRTUAL_SERVER.replace("192.0.2.10", "10.80.1.9"), "10.80.1.9 lies in the links' subnet"),
        (
            VIRTUAL_SERVER + VIRTUAL_SERVER.replace("web", "two").replace("2.10", "2.11"),
            "virtual servers 'web' and 'two' both have dscp 10",
        ),
        (VIRTUAL_SERVER + 'health_check = { url = "/../secret" }', "'/../secret' leaves the web root"),
        ('subnet = "10.0.0.0/29"', "subnet 10.0.0.0/29 is too small for 5 links"),
        ('subnet = "10.0.0.1/16"', "subnet = '10.0.0.1/16'"),
    ],
)
def test_mistake_is_refused_by_key_value_and_what_is_allowed(tmp_path: Path, text: str, problem: str) -> None:
    problems = refused(tmp_path, text)
    assert any(problem in line for line in problems), problems


def test_file_that_is_not_toml_or_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    assert "is not TOML" in refused(tmp_path, "name = ")[0]
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "none.toml")


# Servers that are the user's own


def server(*lines: str) -> str:
    return "\n".join(["[[server]]", 'name = "rs1"', *lines])


def test_command_runs_where_the_file_is_unless_told_another_directory(tmp_path: Path) -> None:
    (one,) = accepted(tmp_path, server('command = "./serve {port}"')).server
    assert one.directory == tmp_path
    (one,) = accepted(tmp_path, server('command = "./serve"', 'directory = "app"')).server
    assert one.directory == tmp_path / "app"
    (one,) = accepted(tmp_path, server('command = "./serve"', 'directory = "/srv"')).server
    assert one.directory == Path("/srv")


def test_configuration_with_a_command_is_the_same_once_it_has_been_written_as_json(tmp_path: Path) -> None:
    text = (
        server('command = "serve"', 'graceful_signal = "SIGINT"') + '\n[[server]]\nname = "rs2"\nweb = "node"'
    )
    config = accepted(tmp_path, text)
    assert parse(LabConfig, config.model_dump(mode="json"), "test") == config
    assert config.server[0].graceful_signal == "INT"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (('command = "serve"', 'web = "nginx"'), 'web = "nginx" and command exclude each other'),
        (('web = "node"', 'graceful_signal = "TERM"'), "graceful_signal is for a server with a command"),
        (('directory = "/srv"',), "directory is for a server with a command"),
        (('command = ""',), "an empty command"),
        (('command = "serve \'"',), "No closing quotation"),
        (('command = "serve"', 'abrupt_signal = "NOW"'), "'NOW' is no signal's name"),
    ],
)
def test_mistake_about_a_server_says_what_is_allowed(
    tmp_path: Path, lines: tuple[str, ...], problem: str
) -> None:
    (found,) = refused(tmp_path, server(*lines))
    assert problem in found
