"""The pages of the repository: their links, the paths that they name, their blocks to run, their length."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from netns.analysis.causes import Cause
from tests import documents
from tests.documents import PAGES, ROOT

every_page = pytest.mark.parametrize("page", PAGES, ids=documents.name)

SHOWN = "rs1  FAILED  404, 8.4s ago\n…\nlost 22 of 251: …\n"
PRINTED = "rs1 FAILED 404, 10.04s ago\nand\nmore\nlost 1 of 1,251: why\n"


@every_page
def test_every_link_and_anchor_exists(page: Path) -> None:
    broken = []
    for link in documents.links(page.read_text()):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in documents.anchors(target.read_text())):
            broken.append(link)
    assert broken == []


@every_page
def test_every_path_that_is_named_exists(page: Path) -> None:
    assert [path for path in documents.paths(page.read_text()) if not (ROOT / path).exists()] == []


@every_page
def test_every_marker_stands_above_a_block(page: Path) -> None:
    documents.steps(page.read_text())


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            files = (link.partition("#")[0] for link in documents.links(page.read_text()))
            ahead += [(page.parent / file).resolve() for file in files if file]
    assert [documents.name(page) for page in PAGES if page not in reached] == []


def test_every_cause_of_a_loss_is_in_the_table_of_causes_as_it_is_printed() -> None:
    text = (ROOT / "docs/rehearsals.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \|", text, re.MULTILINE)
    slow = {Cause.SERVER_SLOW, Cause.PATH_SLOW, Cause.CLIENT_SLOW}
    wanted = {(cause.value, cause.name.lower()) for cause in Cause if cause not in {*slow, Cause.UNEXPLAINED}}
    assert set(rows) == wanted


def test_the_rooms_of_the_lab_are_told_as_import_linter_has_them() -> None:
    text = (ROOT / "docs/architecture.md").read_text().partition("## The lab\n")[2]
    drawn = [
        re.findall(r"(\w+)(?:/|\.py)", line) for line in re.findall(r"^    \|(.+)\|$", text, re.MULTILINE)
    ]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (
        one["layers"] for one in contracts if one["type"] == "layers" and "netns.labs" in one["layers"]
    )
    held = [re.findall(r"netns\.(\w+)", layer) for layer in layers]
    assert drawn == held
    assert re.findall(r"^\| `(\w+)(?:/|\.py)` \|", text, re.MULTILINE) == [
        room for layer in held for room in layer
    ]


def test_a_repeated_heading_has_a_numbered_anchor() -> None:
    assert documents.anchors("# A page's `name`\n## Limits\n## Limits\n```\n# none\n```\n") == {
        "a-pages-name",
        "limits",
        "limits-1",
    }


def test_a_marker_without_a_block_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="stands in the line above"):
        documents.steps("<!-- run -->\n\n    # l4lab up\n")


def test_a_block_is_commands_each_with_its_output() -> None:
    found = documents.steps("<!-- run -->\n```console\n# true\n# seq 2\n1\n2\n```\n")
    assert [(step.command, step.output) for step in found] == [("true", ""), ("seq 2", "1\n2\n")]


def test_figures_blanks_and_ellipses_match_whatever_was_printed() -> None:
    assert documents.matches(SHOWN, PRINTED)


@pytest.mark.parametrize(
    ("old", "new"),
    [("rs1", "rs2"), ("FAILED", "ACTIVE"), ("8.4", "soon"), ("of", "or"), ("lost", "and lost")],
)
def test_words_and_names_do_not_match_others(old: str, new: str) -> None:
    assert not documents.matches(SHOWN.replace(old, new), PRINTED)


def test_a_line_too_many_or_too_few_does_not_match() -> None:
    assert not documents.matches("a\n", "a\nb\n")
    assert not documents.matches("a\nb\n", "a\n")
    assert documents.matches("a\n…\n", "a\n")
