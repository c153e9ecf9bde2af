"""The command line's manners."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from netns.cli.common import Milliseconds
from netns.cli.main import main


def test_help_imports_nothing_that_takes_long() -> None:
    script = (
        "import sys, netns.cli.main\n"
        "print({'pydantic', 'pyroute2', 'httpx', 'rich', 'subprocess', 'asyncio'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["explode"]).exit_code == 2


@pytest.mark.parametrize("command", ["up", "down", "status", "exec", "server", "capture", "box"])
def test_every_command_on_a_lab_takes_its_name(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"]).stdout
    assert "--name" in shown
    assert "--help" in shown


@pytest.mark.parametrize(("text", "ms"), [("5ms", 5), ("0.5ms", 0.5), (".1s", 100), ("0ms", 0)])
def test_a_delay_is_a_time_with_its_unit(text: str, ms: float) -> None:
    assert Milliseconds().convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["5", "-5ms", "ms", "5 m", "nanms", ""])
def test_a_delay_without_a_unit_or_below_zero_is_a_usage_error(text: str) -> None:
    result = CliRunner().invoke(main, ["up", "--delay", text])
    assert result.exit_code == 2
    assert f"{text!r} is no time with its unit: 5ms" in result.stderr
