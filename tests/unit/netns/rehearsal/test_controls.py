"""The commands that a deploy script finds in its environment, run as it runs them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from netns.errors import LabError
from netns.rehearsal.controls import Controls


def run(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command, *words], capture_output=True, text=True, timeout=30, check=False)


def test_command_hands_its_words_to_the_action_of_its_server_and_prints_what_that_says(
    tmp_path: Path,
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def web(server: str, words: Sequence[str]) -> str:
        asked.append((server, list(words)))
        return "done"

    with Controls(tmp_path, {"web": web}) as controls:
        done = run(controls.commands("rs2")["web"], "stop", "graceful")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert asked == [("rs2", ["stop", "graceful"])]


def test_action_that_fails_fails_the_command_and_says_why(tmp_path: Path) -> None:
    def wait(server: str, _: Sequence[str]) -> str:
        raise LabError(f"{server} is ACTIVE, not FAILED")

    with Controls(tmp_path, {"wait": wait}) as controls:
        done = run(controls.commands("rs1")["wait"], "FAILED")
    assert done.returncode != 0
    assert "rs1 is ACTIVE, not FAILED" in done.stdout


def test_commands_do_not_wait_for_each_other(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def meet(_: str, __: Sequence[str]) -> str:
        both.wait(20)
        return ""

    with Controls(tmp_path, {"meet": meet}) as controls:
        commands = [controls.commands(server)["meet"] for server in ("rs1", "rs2")]
        running = [subprocess.Popen([command]) for command in commands]
        assert [one.wait(30) for one in running] == [0, 0]


def test_command_whose_script_is_killed_leaves_no_complaint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked, killed = threading.Event(), threading.Event()

    def sleep(_: str, __: Sequence[str]) -> str:
        asked.set()
        killed.wait(20)
        return "nobody is left to read this"

    with Controls(tmp_path, {"sleep": sleep}) as controls:
        running = subprocess.Popen([controls.commands("rs1")["sleep"], "10"])
        assert asked.wait(20)
        running.kill()
        running.wait(20)
        killed.set()
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_of_a_proxy_or_a_curlrc_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("CURL_HOME", str(tmp_path))
    (tmp_path / ".curlrc").write_text("url = http://127.0.0.1:9/\n")
    with Controls(tmp_path / "controls", {"web": lambda *_: "ok"}) as controls:
        assert run(controls.commands("rs1")["web"], "start").stdout == "ok\n"


def test_socket_goes_with_the_controls(tmp_path: Path) -> None:
    with Controls(tmp_path, {"web": lambda *_: ""}):
        assert (tmp_path / "socket").is_socket()
    assert not (tmp_path / "socket").exists()
