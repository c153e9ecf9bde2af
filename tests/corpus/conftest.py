"""Which deploys of the corpus are played, and the table that is printed when they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.corpus.expect import load
from tests.corpus.play import deploys

HEAD: Final = ("deploy", "verdict", "requests", "lost", "causes", "unexplained", "seconds")
MARK: Final = "<!-- The table below is written by `make corpus ARGS=--corpus-table=docs/rehearsals.md`. -->\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole-corpus", action="store_true", help="Play every deploy of tests/corpus.")
    parser.addoption(
        "--corpus-table", type=Path, metavar="FILE", help="Write the table to FILE, below its mark."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "deploy" in metafunc.fixturenames:
        whole = metafunc.config.getoption("--whole-corpus", default=False)
        chosen = [one for one in deploys() if whole or load(one / "expect.toml").ci]
        metafunc.parametrize("deploy", chosen, ids=[one.name for one in chosen])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == "corpus"
    ]
    if not rows:
        return
    table = markdown(sorted(rows))
    terminalreporter.section("corpus")
    terminalreporter.write(table)
    if (file := config.getoption("--corpus-table")) is not None:
        text = file.read_text()
        file.write_text(text[: text.index(MARK) + len(MARK)] + table)


def pytest_configure(config: pytest.Config) -> None:
    """A table that has no place is said before twenty minutes of rehearsals, not after."""
    file = config.getoption("--corpus-table", default=None)
    if file is not None and not (file.is_file() and MARK in file.read_text()):
        raise pytest.UsageError(
            f"--corpus-table={file}: it has no line {MARK.strip()!r} to write the table after"
        )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table: the first column a name, figures to the right."""
    lines = [HEAD, ("---", "---", "--:", "--:", "---", "--:", "--:"), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
