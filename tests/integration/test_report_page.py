"""The report's page in a real browser, opened from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netns.analysis.sweep import Combination, Repetition, Sweep, phases
from netns.analysis.verdict import Verdict
from netns.record.recording import Outcome, Recording
from netns.report import write, write_sweep
from tests import recordings
from tests.integration.browser import Page, chromium
from tests.unit.netns.analysis import story

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(params=recordings.MAKERS, ids=lambda make: make.__name__)
def recording(request: pytest.FixtureRequest) -> Recording:
    made: Recording = request.param()
    return made


def every_way_to_lose() -> Recording:
    """Each kind of failure, many times over, some at the very same moment."""
    recording = recordings.vip_down()
    ways = [outcome for outcome in Outcome if outcome is not Outcome.OK]
    lost = tuple(
        replace(one, outcome=ways[number % len(ways)], server="", ended=one.started + number % 3)
        for number, one in enumerate(recording.requests[:300])
    )
    return replace(recording, requests=lost + recording.requests[300:] + lost[:50])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_opens_without_a_complaint_without_the_network_and_without_scrolling_sideways(
    page: Page, recording: Recording, tmp_path: Path, width: int, dark: bool
) -> None:
    file = write(recording, tmp_path)
    page.open(file, width=width, dark=dark)
    assert page.complaints == []
    assert page.asked == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('h1').textContent") == recording.title
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 22, 27)" if dark else "rgb(255, 255, 255)")


def test_every_lost_request_is_on_the_page(page: Page, tmp_path: Path) -> None:
    recording = every_way_to_lose()
    page.open(write(recording, tmp_path), width=1280)
    drawn = page.evaluate("[...document.querySelectorAll('.failure')].map(mark => mark.dataset.outcome)")
    lost = [one.outcome.value for one in recording.requests if one.outcome is not Outcome.OK]
    assert sorted(drawn) == sorted(lost)
    boxes = "[...document.querySelectorAll('.failure use')].map(mark => mark.getBoundingClientRect().width)"
    assert min(page.evaluate(boxes)) > 5, "a mark that nobody can see"


def test_what_is_drawn_is_told_to_the_keyboard(page: Page, tmp_path: Path) -> None:
    page.open(write(recordings.trap(), tmp_path), width=1280)
    page.evaluate("document.querySelector('.row.client .lane').focus()")
    assert page.evaluate("document.getElementById('tip').hidden")
    page.press("ArrowRight")
    assert not page.evaluate("document.getElementById('tip').hidden")
    assert page.evaluate("document.getElementById('tip').textContent").startswith(
        "curl-1, port 40001, to rs1"
    )
    page.press("Tab")
    assert page.evaluate("document.getElementById('tip').hidden")


def test_no_label_of_the_drawing_covers_another(page: Page, recording: Recording, tmp_path: Path) -> None:
    file = write(recording, tmp_path)
    for width in (1280, 400):
        page.open(file, width=width)
        covered = page.evaluate(
            """(() => {
              const apart = (a, b) => a.right <= b.left + 1 || a.bottom <= b.top + 1;
              const boxes = [...document.querySelectorAll('.flag, .tick')]
                .map(one => [one.textContent, one.getBoundingClientRect()]).filter(([, box]) => box.width);
              return boxes.flatMap(([text, a], index) => boxes.slice(index + 1)
                .filter(([, b]) => !apart(a, b) && !apart(b, a))
                .map(([other]) => `${text} / ${other}`));
            })()"""
        )
        assert covered == []


def test_it_prints(page: Page, tmp_path: Path) -> None:
    page.open(write(recordings.trap(), tmp_path), width=1280)
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
def test_a_rehearsals_page_says_why_and_what_would_have_helped(
    page: Page, tmp_path: Path, width: int
) -> None:
    found = story.hasty()
    page.open(write(found.recording, tmp_path, found), width=width)
    assert page.complaints == []
    assert page.asked == [(tmp_path / "report.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.evaluate("document.body.innerText")
    assert "Wait at least 20\N{NO-BREAK SPACE}s" in text
    assert "sent to a stopped server before the box noticed" in text
    assert "<b>curl</b>-1" in text
    tips = page.evaluate("[...document.querySelectorAll('.failure')].map(mark => mark.dataset.tip)")
    assert len(tips) == found.lost > 0
    assert all("nothing listened there" in tip for tip in tips)
    lacks = page.evaluate("[...document.querySelectorAll('.lack[data-tip]')].map(mark => mark.dataset.tip)")
    assert lacks == [
        "rs2: health file gone, 20.0 s to 45.0 s (25.0 s)",
        "rs2: nothing listens, 27.3 s to 40.0 s (12.7 s)",
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_sweeps_page_shows_each_rehearsal_and_leads_to_its_report(
    page: Page, tmp_path: Path, width: int, dark: bool
) -> None:
    found = story.hasty()
    repetitions = [
        replace(
            Repetition.of(found, phase_s, f"run-{number:02}"),
            verdict=Verdict.LOST if number % 2 else Verdict.INCONCLUSIVE,
        )
        for number, phase_s in enumerate(phases(10.0, 10))
    ]
    swept = Sweep(
        ("./deploy.sh", "{server}"), 20.0, (Combination({"retries": 1}, 10.0, 20.0, tuple(repetitions)),)
    )
    page.open(write_sweep(swept, tmp_path), width=width, dark=dark)
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    links = page.evaluate(
        "[...document.querySelectorAll('.columns a')].map(link => link.getAttribute('href'))"
    )
    assert links == [f"run-{number:02}/report.html" for number in range(10)]
    dots = page.evaluate("[...document.querySelectorAll('.mark .needed')].length")
    assert dots == 10
    verdict = page.evaluate("document.querySelector('.verdict').textContent")
    assert "10 rehearsals: 5 lost, 5 inconclusive. 20 requests lost." in verdict
