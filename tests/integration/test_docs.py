"""The transcripts of the pages: a block marked to be run prints what the page shows, but for figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns import labs
from netns.plan.config import DEFAULT_NAME, load
from tests import documents
from tests.documents import PAGES, ROOT, Step

pytestmark = pytest.mark.integration

NAME = "docs"
"""The pages' lab has the default name, which a reader of this machine may be using."""
PAGES_WITH_BLOCKS = [page for page in PAGES if documents.steps(page.read_text())]
END = "-- end of step --"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell in a folder with `examples`, for which the default lab is this test's, just made."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    labs.up(load(None, name=NAME), say=print).close()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "200",
        "L4LAB_NAME": NAME,
        "L4BOX_SOCKET": f"/run/l4box/{NAME}.sock",
    }
    bash = subprocess.Popen(
        ["bash"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield bash
    os.killpg(bash.pid, signal.SIGKILL)  # with what it runs in the background
    bash.communicate()
    labs.down(NAME)


def run(shell: subprocess.Popen[str], step: Step) -> str:
    """What a command of a page prints, with the lab's name as the page has it."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    command = step.command.replace(f"/{DEFAULT_NAME}.sock", f"/{NAME}.sock")
    shell.stdin.write(f"{command}\necho; echo '{END}'\n")
    shell.stdin.flush()
    lines = []
    for line in shell.stdout:
        if line == f"{END}\n":
            break
        lines.append(line)
    printed = (
        "".join(lines).replace(f"'{NAME}'", f"'{DEFAULT_NAME}'").replace(f'"{NAME}"', f'"{DEFAULT_NAME}"')
    )
    return printed.removesuffix("\n")  # of the empty `echo`, which ends a line that has no end


@pytest.mark.parametrize("page", PAGES_WITH_BLOCKS, ids=documents.name)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, shell: subprocess.Popen[str]) -> None:
    for step in documents.steps(page.read_text()):
        printed = run(shell, step)
        assert documents.matches(step.output, printed), (
            f"{step.command}\n{step.output}--- printed:\n{printed}"
        )
