"""The command line's manners."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from netns.cli import main


def test_help_imports_nothing_that_takes_long() -> None:
    script = (
        "import sys, netns.cli\n"
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
