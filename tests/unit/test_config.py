"""box.toml: what is accepted, and that every mistake is told with file, key, value and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lb.config import BoxConfig, ConfigError, load

GOOD = """\
name = "box1"
speed = 1

[queue]
number = 3

[[virtual_server]]
name = "web"
address = "192.0.2.10"
port = 80
dscp = 10

[virtual_server.health_check]
interval_s = 10
timeout_s = 1

[[virtual_server.real_server]]
name = "rs1"
address = "10.0.1.2"

[[virtual_server.real_server]]
name = "rs2"
address = "10.0.2.2"
weight = 3
"""


def second(**changes: str) -> str:
    """Another virtual server that goes with GOOD, but for these lines."""
    lines = {"name": '"mail"', "address": '"192.0.2.20"', "port": "25", "dscp": "20", **changes}
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    server = '"fd00::1"' if ":" in lines["address"] else '"10.0.9.2"'
    return (
        f"\n[[virtual_server]]\n{text}"
        f'health_check.path = "direct"\n[[virtual_server.real_server]]\nname = "rs9"\naddress = {server}\n'
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "box.toml"


def accepted(file: Path, text: str) -> BoxConfig:
    file.write_text(text)
    return load(file)


def refused(file: Path, text: str) -> list[str]:
    """The problems, each of which must begin with the file's name in the message."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    problems = caught.value.problems
    assert str(caught.value) == "\n".join(f"{file}: {problem}" for problem in problems)
    return problems


def with_line(text: str, after: str, line: str) -> str:
    """`text` with a line put in; it replaces one for the same key just behind `after`."""
    assert after in text
    head, tail = text.split(after, 1)
    name = line.split(" = ")[0]
    section, mark, rest = tail.partition("\n[")
    section = re.sub(rf"(?m)^{name} = .*\n?", "", section)
    return f"{head}{after}\n{line}{section}{mark}{rest}"


VIRTUAL = "[[virtual_server]]"
CHECK = "[virtual_server.health_check]"
REAL = "[[virtual_server.real_server]]"


# Accepted


def test_defaults_are_the_articles(file: Path) -> None:
    config = accepted(file, GOOD)

    (web,) = config.virtual_server
    check = web.health_check
    assert (web.protocol, web.scheduler) == ("tcp", "round-robin")
    assert (web.aging_s, web.syn_timeout_s) == (600, 60)
    assert (web.on_port_reuse, web.on_no_entry, web.on_no_server) == ("schedule", "reset", "reset")
    assert (check.kind, check.url, check.expect) == ("l7", "/health_check.html", (200,))
    assert (check.interval_s, check.retries, check.timeout_s) == (10, 1, 1)
    assert (check.on_bad_status, check.path, check.host) == ("count", "dsr", None)
    assert [(server.name, str(server.address), server.weight) for server in web.real_server] == [
        ("rs1", "10.0.1.2", 1),
        ("rs2", "10.0.2.2", 3),
    ]
    assert (config.name, config.speed, config.queue.number) == ("box1", 1, 3)


@pytest.mark.parametrize(
    "line",
    [
        "aging_s = 120",
        "aging_s = 3600",
        "syn_timeout_s = 1",
        "syn_timeout_s = 120",
        "dscp = 1",
        "dscp = 63",
        "port = 1",
        "port = 65535",
        'on_no_entry = "forward"',
        'on_port_reuse = "keep"',
        'scheduler = "source-hash"',
    ],
)
def test_accepts(file: Path, line: str) -> None:
    accepted(file, with_line(GOOD, VIRTUAL, line))


@pytest.mark.parametrize(
    "host", ["www.example.com", "www.example.com:8080", "192.0.2.10", "[2001:db8::10]:8080", "under_score"]
)
def test_accepts_a_name_or_an_address_as_the_checks_host(file: Path, host: str) -> None:
    (web,) = accepted(file, with_line(GOOD, CHECK, f'host = "{host}"')).virtual_server

    assert web.health_check.host == host


@pytest.mark.parametrize("host", ["", "2001:db8::10", "a b", "a\\r\\nX: 1", "http://a", "a:", "a:port"])
def test_refuses_a_host_that_could_be_no_header_field(file: Path, host: str) -> None:
    (problem,) = refused(file, with_line(GOOD, CHECK, f'host = "{host}"'))

    assert problem.startswith("virtual_server[0].health_check.host = ")
    assert "'[2001:db8::10]'" in problem


@pytest.mark.parametrize(
    "other",
    [
        second(),
        second(address='"192.0.2.10"', dscp="10"),  # another port of one VIP: its DSCP
        second(address='"192.0.2.10"', dscp="10", port="80", protocol='"udp"'),
        second(address='"2001:db8::10"', dscp="10"),  # another family counts its DSCPs for itself
    ],
)
def test_accepts_beside_it(file: Path, other: str) -> None:
    assert len(accepted(file, GOOD + other).virtual_server) == 2


def test_equal_addresses_in_two_virtual_servers_are_one_machine_serving_both(file: Path) -> None:
    accepted(file, GOOD + second().replace("10.0.9.2", "10.0.1.2"))


# ApiError: key, value, what is allowed


@pytest.mark.parametrize(
    ("after", "line", "problem"),
    [
        (VIRTUAL, "aging_s = 60", "virtual_server[0].aging_s = 60.0: 120 to 3600 is allowed"),
        (VIRTUAL, "aging_s = 3601", "virtual_server[0].aging_s = 3601.0: 120 to 3600 is allowed"),
        (VIRTUAL, "aging_s = nan", "virtual_server[0].aging_s = nan: 120 to 3600 is allowed"),
        (VIRTUAL, "syn_timeout_s = 0", "virtual_server[0].syn_timeout_s = 0: 1 to 120 is allowed"),
        (VIRTUAL, "syn_timeout_s = 121", "virtual_server[0].syn_timeout_s = 121: 1 to 120 is allowed"),
        (VIRTUAL, "dscp = 0", "virtual_server[0].dscp = 0: 1 to 63 is allowed"),
        (VIRTUAL, "dscp = 64", "virtual_server[0].dscp = 64: 1 to 63 is allowed"),
        (VIRTUAL, "port = 65536", "virtual_server[0].port = 65536: 1 to 65535 is allowed"),
        (REAL, "weight = 0", "virtual_server[0].real_server[0].weight = 0: 1 to 65535 is allowed"),
        (CHECK, "retries = -1", "virtual_server[0].health_check.retries = -1: 0 to 10 is allowed"),
        (CHECK, "interval_s = 0", "virtual_server[0].health_check.interval_s = 0.0: 1 to 120 is allowed"),
        (CHECK, "expect = [200, 20]", "virtual_server[0].health_check.expect[1] = 20: 100 to 599 is allowed"),
        (
            VIRTUAL,
            'on_no_entry = "ignore"',
            "virtual_server[0].on_no_entry = 'ignore': input should be 'reset', 'drop' or 'forward'",
        ),
        (
            VIRTUAL,
            'scheduler = "random"',
            "virtual_server[0].scheduler = 'random': input should be 'round-robin', 'weighted-round-robin', "
            "'least-connections' or 'source-hash'",
        ),
        (
            CHECK,
            'path = "nat"',
            "virtual_server[0].health_check.path = 'nat': input should be 'dsr' or 'direct'",
        ),
    ],
)
def test_value_out_of_range(file: Path, after: str, line: str, problem: str) -> None:
    (found,) = refused(file, with_line(GOOD, after, line))

    assert re.sub(r"\.0\b", "", found) == re.sub(r"\.0\b", "", problem)


@pytest.mark.parametrize(
    ("after", "line", "key", "value", "allowed"),
    [
        (VIRTUAL, 'port = "http"', "virtual_server[0].port", "'http'", "integer"),
        (VIRTUAL, "port = 80.5", "virtual_server[0].port", "80.5", "integer"),
        (VIRTUAL, 'name = "Web Server"', "virtual_server[0].name", "'Web Server'", "[a-z0-9]"),
        (
            VIRTUAL,
            'address = "192.0.2.300"',
            "virtual_server[0].address",
            "192.0.2.300",
            "IPv4 or IPv6 address",
        ),
        (
            VIRTUAL,
            'address = "web.example"',
            "virtual_server[0].address",
            "web.example",
            "IPv4 or IPv6 address",
        ),
        (CHECK, 'url = "health.html"', "virtual_server[0].health_check.url", "'health.html'", "^/"),
        (CHECK, "expect = []", "virtual_server[0].health_check.expect", "[]", "at least 1 item"),
        (VIRTUAL, "health_check = 3", "virtual_server[0].health_check", "3", "dictionary"),
    ],
)
def test_value_of_the_wrong_kind(
    file: Path, after: str, line: str, key: str, value: str, allowed: str
) -> None:
    text = with_line(GOOD, after, line)
    if line.startswith("health_check"):
        text = text.replace(f"{CHECK}\ninterval_s = 10\ntimeout_s = 1\n", "")

    (problem,) = refused(file, text)

    assert problem.startswith(key)
    assert value in problem
    assert allowed in problem


@pytest.mark.parametrize(
    ("after", "line"),
    [
        (VIRTUAL, "address = 10"),
        (VIRTUAL, "address = true"),
        (VIRTUAL, 'port = "80"'),
        (CHECK, "retries = true"),
        (CHECK, 'interval_s = "10"'),
    ],
)
def test_value_of_another_type_is_not_guessed_at(file: Path, after: str, line: str) -> None:
    """`address = 10` must not become 0.0.0.10, nor `true` a number."""
    (problem,) = refused(file, with_line(GOOD, after, line))

    assert line.split(" = ")[0] in problem


@pytest.mark.parametrize(
    ("after", "line", "key", "meant"),
    [
        (VIRTUAL, "aging = 600", "virtual_server[0].aging", "aging_s"),
        (CHECK, "interval = 10", "virtual_server[0].health_check.interval", "interval_s"),
        (REAL, "port = 8080", "virtual_server[0].real_server[0].port", "weight"),
        ("[queue]", "size = 10", "queue.size", "length"),
    ],
)
def test_unknown_key_is_named_with_the_keys_that_there_are(
    file: Path, after: str, line: str, key: str, meant: str
) -> None:
    (problem,) = refused(file, with_line(GOOD, after, line))

    assert problem.startswith(f"{key}: unknown key")
    assert meant in problem


def test_missing_key_is_named(file: Path) -> None:
    assert refused(file, GOOD.replace("dscp = 10\n", "")) == [
        "virtual_server[0].dscp: missing, a value is required"
    ]


@pytest.mark.parametrize("text", ["", 'name = "box1"\n'])
def test_box_whose_virtual_servers_are_forgotten(file: Path, text: str) -> None:
    (problem,) = refused(file, text)

    assert problem == "virtual_server: missing, a value is required"


def test_virtual_servers_that_come_later_are_an_empty_list(file: Path) -> None:
    file.write_text("virtual_server = []\n")

    assert load(file).virtual_server == ()


def test_virtual_server_without_a_real_server(file: Path) -> None:
    (problem,) = refused(file, GOOD.split(REAL)[0])

    assert problem.startswith("virtual_server[0].real_server: missing")


def test_real_servers_that_come_later_are_an_empty_list(file: Path) -> None:
    file.write_text(GOOD.split(REAL)[0].replace("dscp = 10\n", "dscp = 10\nreal_server = []\n"))
    assert load(file).virtual_server[0].real_server == ()


def test_check_that_takes_longer_than_its_interval(file: Path) -> None:
    text = with_line(GOOD, CHECK, "timeout_s = 10.5")

    assert refused(file, text) == [
        "virtual_server[0].health_check: timeout_s 10.5 must not exceed interval_s 10"
    ]


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (second(dscp="10"), ["'web' and 'mail' both have dscp 10", "1 to 63"]),
        (
            second(address='"192.0.2.10"'),
            ["'web' and 'mail' share the VIP 192.0.2.10", "dscp 10 and 20", "one DSCP"],
        ),
        (second(name='"web"'), ["virtual_server: name 'web' is used 2 times", "unique"]),
        (
            second(address='"192.0.2.10"', dscp="10", port="80"),
            ["virtual_server", "'192.0.2.10 80/tcp' is used 2 times", "unique"],
        ),
        (
            second(protocol='"udp"').replace("direct", "dsr"),
            ["virtual_server[1]", "'udp'", "path = 'direct'"],
        ),
    ],
)
def test_virtual_servers_that_do_not_go_together(file: Path, other: str, parts: list[str]) -> None:
    (problem,) = refused(file, GOOD + other)

    for part in parts:
        assert part in problem


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('"10.0.2.2"', '"10.0.1.2"', ["virtual_server[0]", "address '10.0.1.2' is used 2 times"]),
        ('"rs2"', '"rs1"', ["virtual_server[0]", "name 'rs1' is used 2 times"]),
        ('"10.0.2.2"', '"2001:db8::2"', ["virtual_server[0]", "'rs2'", "IPv6 address 2001:db8::2", "IPv4"]),
        (
            '"10.0.2.2"',
            '"192.0.2.10"',
            ["virtual_server[0]", "'rs2'", "the VIP 192.0.2.10 as its own address"],
        ),
    ],
)
def test_real_servers_that_do_not_go_together(file: Path, old: str, new: str, parts: list[str]) -> None:
    (problem,) = refused(file, GOOD.replace(old, new))

    for part in parts:
        assert part in problem


def test_several_mistakes_are_told_at_once(file: Path) -> None:
    text = with_line(with_line(GOOD, VIRTUAL, "aging_s = 60"), CHECK, "retries = 99")

    problems = refused(file, "colour = 'red'\n" + text.replace("weight = 3", "weight = 0"))

    assert sorted(problem.split(":")[0].split(" = ")[0] for problem in problems) == [
        "colour",
        "virtual_server[0].aging_s",
        "virtual_server[0].health_check.retries",
        "virtual_server[0].real_server[1].weight",
    ]


def test_long_values_are_shown_in_short(file: Path) -> None:
    (problem,) = refused(file, with_line(GOOD, VIRTUAL, f'name = "{"x" * 1000}"'))

    assert len(problem) < 200
    assert "xxx..." in problem


# The file itself


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: can't be read: No such file or directory"):
        load(tmp_path / "nowhere.toml")


def test_file_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path)


def test_file_that_is_not_text(file: Path) -> None:
    file.write_bytes(b"name = \xff\xfe")

    with pytest.raises(ConfigError, match=r"box\.toml: can't be read: .*utf-8"):
        load(file)


def test_file_that_is_not_toml(file: Path) -> None:
    (problem,) = refused(file, "name = 'box1'\nspeed 5\n")

    assert problem.startswith("is not TOML: ")
    assert "line 2" in problem


def test_text_is_utf_8_whatever_the_locale(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TOML is UTF-8; a daemon started with LC_ALL=C reads the same file."""
    file.write_bytes(("# 서버\n" + GOOD).encode())
    encodings: list[str | None] = []
    read_text = Path.read_text

    def recording(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        encodings.append(encoding)
        return read_text(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", recording)
    load(file)

    assert all(encoding == "utf-8" for encoding in encodings), "not the locale's"


# What will run, but not as meant


@pytest.mark.parametrize(
    ("speed", "timeout_s", "aging_s", "warned_of"),
    [
        ("1", "1", "600", []),
        ("50", "1", "600", []),
        ("51", "1", "600", ["health timeout"]),
        ("100", "2", "200", []),
        ("100", "1.9", "199", ["health timeout", "age out"]),
        ("61", "10", "120", ["age out"]),
    ],
)
def test_speed_that_makes_times_too_short(
    file: Path, speed: str, timeout_s: str, aging_s: str, warned_of: list[str]
) -> None:
    text = with_line(with_line(GOOD, CHECK, f"timeout_s = {timeout_s}"), VIRTUAL, f"aging_s = {aging_s}")

    warnings = accepted(file, text.replace("speed = 1", f"speed = {speed}")).warnings()

    assert len(warnings) == len(warned_of)
    for warning, what in zip(warnings, warned_of, strict=True):
        assert warning.startswith(f"virtual_server 'web': at speed {speed}")
        assert what in warning


@pytest.mark.parametrize("speed", ["0.5", "0", "-1", "101", "inf", "nan"])
def test_speed_is_1_to_100(file: Path, speed: str) -> None:
    (problem,) = refused(file, GOOD.replace("speed = 1", f"speed = {speed}"))

    assert problem.startswith("speed = ")
    assert problem.endswith(": 1 to 100 is allowed")


def test_configuration_can_not_be_changed_once_read(file: Path) -> None:
    config = accepted(file, GOOD)

    with pytest.raises(ValueError, match="frozen"):
        config.speed = 2
