"""Where tables go, and how wide they are there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.table import Table

from lb.terminal import console

LONG = "a-name-" * 40


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    table = Table("name", "address", box=None)
    table.add_row(LONG, "192.0.2.10")
    console().print(table)
    return capsys.readouterr().out.splitlines()


def test_table_that_is_piped_has_its_rows_on_a_line_each_and_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    _, row = printed(capsys)
    assert row.split() == [LONG, "192.0.2.10"]


def test_table_is_as_wide_as_columns_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert {len(line) for line in printed(capsys)} <= set(range(61))


def test_every_table_goes_by_one_console() -> None:
    """A Console made elsewhere on stdout would cut what is piped at 80 columns."""
    top = Path(sys.modules["lb"].__file__ or "").parents[1]
    made = [
        path.relative_to(top).as_posix()
        for package in ("lb", "netns")
        for path in (top / package).rglob("*.py")
        if "Console(highlight" in path.read_text()
    ]
    assert made == ["lb/terminal.py"]
