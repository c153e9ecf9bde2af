"""The report: its geometry, and the documents written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from netns.analysis.verdict import Circumstances, Verdict
from netns.record.recording import Outcome, Recording, Request
from netns.report import axis as axes
from netns.report import clients, deploys, lanes, render, tables, write
from netns.report.axis import Axis
from netns.report.moments import Actor, Moment, moments
from tests import recordings
from tests.unit.netns.analysis import story

HOUR = datetime(2026, 3, 1, 4, 31, 7, 250_000, tzinfo=UTC)
AXIS = Axis(60.0, 10.0, HOUR)


def numbers(path: str) -> list[tuple[int, int]]:
    """A path's strokes, as (column, height)."""
    return [(int(x), int(height)) for x, height in re.findall(r"M(\d+) \d+v(\d+)", path)]


# Axis


def test_a_moment_is_at_its_share_of_the_width_and_never_outside() -> None:
    assert [AXIS.x(time) for time in (-1, 0, 15, 60, 99)] == [0, 0, 25, 100, 100]


def test_the_wall_clock_runs_slower_by_the_speed() -> None:
    assert AXIS.wall_clock(0) == "04:31:07.25"
    assert AXIS.wall_clock(60) == "04:31:13.25"


@pytest.mark.parametrize("ended", [0.7, 5.0, 33.0, 60.0, 95.0, 600.0, 3600.0])
def test_ticks_are_round_few_and_within_the_run(ended: float) -> None:
    ticks = Axis(ended, 1.0, HOUR).ticks()
    assert 4 <= len(ticks) <= 12
    assert ticks[0] == 0
    assert ticks[-1] <= ended * (1 + 1e-9)


def test_what_fits_is_written_and_what_fits_nowhere_is_not() -> None:
    assert axes.fit(["FAILED · out of the binding list", "FAILED"], 50) == (
        ("wide", "FAILED · out of the binding list"),
        ("narrow", "FAILED"),
    )
    assert axes.fit(["ACTIVE"], 90) == (("", "ACTIVE"),)
    assert axes.fit(["ACTIVE"], 0.5) == ()


@pytest.mark.parametrize("drawing_px", [axes.WIDE_PX, axes.NARROW_PX])
def test_no_flag_covers_another(drawing_px: int) -> None:
    times = [0.0, 0.4, 1.0, 30.0, 30.1, 30.2, 33.0, 58.0, 59.0, 60.0]
    happened = [Moment(time, Actor.PEOPLE, str(n), (), "x" * 20, "") for n, time in enumerate(times)]
    boxes = []
    for flag in lanes.flags(AXIS, happened, Actor.PEOPLE):
        text = len(flag.text) * axes.CHARACTER_PX if drawing_px == axes.WIDE_PX else 0
        width = 100 * (lanes.MARK_PX + text) / drawing_px
        left = flag.x - width if flag.leftward else flag.x
        boxes.append((flag.row, left, left + width))
    for (row, left, right), (other_row, other_left, other_right) in combinations(boxes, 2):
        assert row != other_row or right <= other_left or other_right <= left


# Lanes


def test_the_curve_of_sessions_is_a_staircase_on_the_scale_of_all_servers() -> None:
    recording = recordings.reset_on_port_fail()
    one, two, three = lanes.server_lanes(recording, AXIS)
    assert one.peak > two.peak
    assert max(one.peak, three.peak) == max(sample.sessions for sample in recording.samples)
    assert two.peak_zombies == 7
    assert two.zombies.endswith("Z")
    assert one.zombies == ""
    heights = [float(y) for y in re.findall(r"V([\d.]+)", two.sessions)]
    assert heights[-1] == lanes.CURVE_PX - 1, "no session is left at the end"


def test_bands_say_what_the_box_said_of_a_server() -> None:
    two = lanes.server_lanes(recordings.trap(), AXIS)[1]
    assert [band.kind for band in two.bands] == ["ACTIVE", "SUSPECT", "FAILED out"]
    assert [band.x for band in two.bands] == [0, 27.0, 43.67]
    assert (
        two.bands[-1].tip
        == "rs2 FAILED (health check: 404), out of the binding list, 26.2 box s to 60.0 box s"
    )


@pytest.mark.parametrize("make", recordings.MAKERS)
def test_the_histogram_counts_every_request_once(make: recordings.Maker) -> None:
    recording = make()
    counted = lanes.histogram(recording, Axis(recording.ended, 10.0, HOUR))
    total = {True: 0, False: 0}
    for one in counted.bins:
        found = re.search(r": ([\d,]+) request", one.tip)
        assert found
        total[one.server < 0] += int(found[1].replace(",", ""))
    assert total == {True: recording.lost, False: len(recording.requests) - recording.lost}


def test_answers_of_a_server_that_is_out_are_apart_in_the_histogram() -> None:
    assert {one.server for one in lanes.histogram(recordings.trap(), AXIS).bins if one.out} == {1}
    assert not any(one.out for one in lanes.histogram(recordings.reset_on_port_fail(), AXIS).bins)


# Clients


def test_a_client_of_the_server_that_is_out_is_drawn_on_its_one_connection_to_the_end() -> None:
    lane = next(one for one in clients.client_lanes(recordings.trap(), AXIS) if one.name == "curl-2")
    (bar,) = lane.bars
    assert bar.kind == "1"
    assert bar.x + bar.width > 90
    (out,) = lane.outs
    assert (out.x, round(out.x + out.width, 2)) == (43.67, round(bar.x + bar.width, 2))
    assert re.search(r"\d+ while rs2 was out of the binding list", bar.tip)


def test_client_that_shows_no_connection_has_its_answers_marked_and_no_connections() -> None:
    hidden = tuple(
        replace(one, client="java-1", reused=None, local_port=0)
        for one in recordings.trap().requests
        if one.client == "curl-1"
    )
    recording = replace(recordings.trap(), requests=hidden)
    (lane,) = clients.client_lanes(recording, AXIS)
    assert lane.bars == ()
    assert [(bool(ticks.answered), ticks.opened) for ticks in lane.ticks] == [(True, "")]


def test_new_connections_have_strokes_of_their_own() -> None:
    recording = recordings.reset_on_port_fail()
    lane = next(one for one in clients.client_lanes(recording, AXIS) if one.name == "curl-2")
    opened = [stroke for ticks in lane.ticks for stroke in numbers(ticks.opened)]
    assert len(opened) == 2
    assert {height for _, height in opened} == {clients.LANE_PX}
    assert len(lane.bars) == 2


def test_equal_marks_of_one_column_are_drawn_once_but_no_lost_request_is_left_out() -> None:
    def sent(outcome: Outcome) -> tuple[Request, ...]:
        return tuple(
            Request("c", 30 + n / 1e6, 30 + n / 1e6, outcome, 200, "rs1", True, 5) for n in range(1000)
        )

    recording = replace(recordings.trap(), requests=sent(Outcome.OK) + sent(Outcome.RESET))
    (lane,) = clients.client_lanes(recording, AXIS)
    assert len(numbers(lane.ticks[0].answered)) == 1
    assert len(lane.failures) == 1000


def test_a_hang_is_as_long_as_its_client_waited() -> None:
    lane = next(one for one in clients.client_lanes(recordings.vip_down(), AXIS) if one.failures)
    (failure,) = lane.failures
    assert failure.outcome == "timeout"
    assert failure.hang_width == pytest.approx(100 * 5 / 60, abs=0.02)
    assert failure.hang_x + failure.hang_width == pytest.approx(failure.x, abs=0.02)
    assert "5.0 box s after it was sent (0.50 s of real time)" in failure.tip


def test_a_crowd_shares_a_lane_and_those_that_lost_requests_keep_theirs() -> None:
    requests = [
        Request(f"c-{n}", n / 10, n / 10 + 0.1, Outcome.OK, 200, "rs1", False, 5 + n) for n in range(200)
    ]
    requests.append(Request("c-150", 30, 31, Outcome.REFUSED, 0, "", False, 0))
    drawn = clients.client_lanes(replace(recordings.trap(), requests=tuple(requests)), AXIS)
    assert len(drawn) == clients.LANES + 1
    assert "c-150" in {lane.name for lane in drawn}
    assert drawn[-1].name == "140 more"
    assert sum(len(numbers(ticks.opened)) for lane in drawn for ticks in lane.ticks) == 200


# Tables


def test_phases_count_what_each_server_answered_and_over_which_connections() -> None:
    recording = recordings.trap()
    before, renamed, deployed = tables.phase_rows(recording, AXIS)
    assert [row.number for row in (before, renamed, deployed)] == [0, 1, 2]
    assert sum(cell.requests for row in (before, renamed, deployed) for cell in row.answered) == len(
        recording.requests
    )
    assert before.answered[1].out == 0
    assert deployed.answered[1].out == deployed.answered[1].requests == deployed.answered[1].reused > 0


def test_losses_are_told_by_client_and_by_outcome() -> None:
    recording = recordings.vip_down()
    assert tables.loss_columns(recording) == [Outcome.TIMEOUT]
    rows = tables.loss_rows(recording)
    assert len(rows) == 7
    assert sum(sum(row.lost) for row in rows) == recording.lost


def test_of_many_losers_the_table_has_those_that_lost_most() -> None:
    lost = [Request(f"c-{n}", n, n + 1, Outcome.RESET, 0, "", True, 5) for n in range(tables.LOSS_ROWS + 50)]
    worst = [replace(lost[-1], started=one, ended=one + 1) for one in range(3)]
    rows = tables.loss_rows(replace(recordings.trap(), requests=(*lost, *worst)))
    assert len(rows) == tables.LOSS_ROWS
    assert (rows[-1].client, rows[-1].lost) == (lost[-1].client, (4,))


def test_events_of_single_sessions_give_way_to_the_others() -> None:
    recording = recordings.trap()
    opened = tuple(recordings.event(1.0, "session_opened", server="rs1") for _ in range(tables.EVENT_ROWS))
    rows = list(tables.event_rows(replace(recording, events=opened + recording.events), AXIS))
    assert {kind for _, _, kind, _, _ in rows} == {"server_state"}


def test_nested_figures_are_flat() -> None:
    assert list(tables.flat({"resets": {"per_second": 1166.7, "sides": ["client"]}, "ok": True})) == [
        ("resets.per_second", "1,167"),
        ("resets.sides", "client"),
        ("ok", "yes"),
    ]


# Rehearsals


@pytest.mark.parametrize(
    ("told", "tone"),
    [
        (Verdict.OK, "passed"),
        (Verdict.INCONCLUSIVE, "doubtful"),
        (Verdict.LOST, "failed"),
        (Verdict.FAILED, "failed"),
        (Verdict.ILL, "failed"),
    ],
)
def test_only_ok_is_green_and_only_inconclusive_is_amber(told: Verdict, tone: str) -> None:
    assert deploys.tone(told) == tone


def test_page_of_a_rehearsal_tells_the_verdict_then_reasons_then_causes_then_details() -> None:
    doubts = Circumstances(unchanged=("rs3",), unfelt=("rs1",))
    found = replace(story.hasty(), circumstances=doubts)
    text = render(found.recording, found)
    in_order = (
        '<p class="verdict failed">',
        "<strong>lost</strong> 2 of 31 requests lost",
        "No change of rs3 was seen",
        "No request reached rs1",
        "Why requests were lost",
        "What would have saved them",
        "What was expected",
        "The deploys",
        "The run",
    )
    places = [text.index(part) for part in in_order]
    assert places == sorted(places)


def test_command_for_the_whole_fleet_is_told_without_a_servers_name() -> None:
    found = story.hasty()
    (deploy,) = found.deploys
    fleet = replace(found, deploys=(replace(deploy, server=""),))
    text = render(fleet.recording, fleet)
    assert "<li>exit 0, " in text
    assert "<summary>What the command wrote</summary>" in text


def test_each_outage_of_a_server_has_its_row() -> None:
    found = story.hasty()
    (first,) = found.windows
    again = replace(first, failing=60.0, health_off=60.0, stopped=61.5, unbound=None, bound=None)
    rows = deploys.outages(replace(found, windows=(first, again)))
    assert [(row.server, row.stopped) for row in rows] == [
        ("rs2", "27.3 s, 7.3 s after it began to fail its check"),
        ("rs2", "61.5 s, 1.5 s after it began to fail its check"),
    ]
    assert rows[1].bound == "–"


# Documents


@pytest.mark.parametrize("make", recordings.MAKERS)
def test_both_documents_are_written_into_a_directory_that_is_made(
    make: recordings.Maker, tmp_path: Path
) -> None:
    recording = make()
    page = write(recording, tmp_path / "new" / "run")
    assert page == tmp_path / "new" / "run" / "report.html"
    result = json.loads((page.parent / "result.json").read_text())
    assert (result["passed"], result["requests"], result["lost"]) == (
        recording.passed,
        len(recording.requests),
        recording.lost,
    )
    text = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert all(expectation.measured in text for expectation in recording.expectations)


def test_names_and_errors_from_outside_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"&'"
    recording = recordings.vip_down()
    requests = tuple(replace(one, client=evil, error=evil) for one in recording.requests)
    steps = tuple(replace(one, text=evil, node=evil) for one in recording.steps)
    changed = replace(
        recording,
        name=evil,
        title=evil,
        intent=evil,
        servers=(evil, *recording.servers),
        requests=requests,
        steps=steps,
        settings={evil: evil},
        figures={evil: evil},
        captures=(evil,),
        versions={evil: evil},
    )
    text = write(changed, tmp_path).read_text()
    assert "<script>alert" not in text
    assert "\"&'" not in text
    assert text.count("<script>") == 1


def test_nothing_is_asked_for_from_elsewhere(tmp_path: Path) -> None:
    text = write(recordings.trap(), tmp_path).read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=\"(?!#|result\.json|\w+\.pcapng)", text)
    assert not re.search(r"@import|url\((?!#)|https?://", text)


def test_a_long_run_of_busy_clients_makes_a_page_that_opens(tmp_path: Path) -> None:
    """20 clients at 10 requests a second for four minutes."""
    recording = recordings.trap(clients=20, rate=10.0, ended=240.0)
    assert len(recording.requests) > 40_000
    assert write(recording, tmp_path).stat().st_size < 1_000_000


def empty() -> Recording:
    return replace(
        recordings.trap(),
        steps=(),
        events=(),
        requests=(),
        samples=(),
        expectations=(),
        servers=(),
        ended=0.0,
    )


def test_a_run_that_ended_before_anything_happened_has_a_report_too(tmp_path: Path) -> None:
    text = write(empty(), tmp_path).read_text()
    assert "No request was sent." in text
    assert "Nothing was expected of this run." in text


def test_moments_are_in_order() -> None:
    times = [moment.time for moment in moments(recordings.recommended_l7())]
    assert len(times) == 9
    assert all(one <= other for one, other in pairwise(times))
