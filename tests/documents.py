"""The Markdown pages of the repository, and what is in them: links, headings, paths, blocks to run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
MARKER = "<!-- run -->"
"""In the line above a block that tests/integration/test_docs.py runs."""

_FENCE = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w/.-])(?:netns|lb|tests|docs|examples|scripts|containers)/[\w./-]*\w/?")
_BLOCK = re.compile(rf"^{MARKER}\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"([A-Za-z_][\w-]*|\d[\d.,]*\d|\d|…)")


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a block, and the lines that it prints according to the page."""

    command: str
    output: str


def name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures that are in this repository."""
    return [link for link in _LINK.findall(_FENCE.sub("", text)) if "://" not in link]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; a repeated heading gets a number."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        numbered = (f"{anchor}-{number}" for number in range(1, 100))
        found.add(anchor if anchor not in found else next(one for one in numbered if one not in found))
    return found


def paths(text: str) -> list[str]:
    """The files and folders of this repository that a page names, links aside."""
    return _PATH.findall(_LINK.sub("", text))


def steps(text: str) -> list[Step]:
    """The commands of a page's blocks to run, in order; ValueError for a marker without a block."""
    blocks = _BLOCK.findall(text)
    if len(blocks) != len(re.findall(f"^{MARKER}$", text, re.MULTILINE)):
        raise ValueError(f"{MARKER} stands in the line above a ```console block")
    return [step for block in blocks for step in _steps(block)]


def _steps(block: str) -> Iterator[Step]:
    for part in re.split(r"^# ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output)


def matches(shown: str, printed: str) -> bool:
    """Whether a command printed what the page shows, but for figures and blanks.

    In the page, "…" on a line of its own stands for any number of lines, and within a line for any text.
    A digit in a word (rs1) is no figure.
    """
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else "".join(map(_pattern, _PART.split(line))) + r"\n"
        for line in _lines(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(printed))) is not None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def _pattern(part: str) -> str:
    if part == "…":
        return ".*"
    return r"\d[\d.,]*" if part[:1].isdigit() else re.escape(part)
