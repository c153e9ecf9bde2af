"""A rehearsal's report holds all that its verdict needs: it is judged again from that alone."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netns.analysis.causes import Cause
from netns.analysis.expected import with_expectations
from netns.analysis.judge import judge
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.rejudge import rejudge
from netns.analysis.sweep import Combination, Repetition, Sweep
from netns.analysis.terms import Terms
from netns.analysis.verdict import Circumstances, Verdict
from netns.cli.main import main
from netns.errors import LabError
from netns.record.document import Document
from netns.record.pcapng import Trace, merge
from netns.record.recording import RESULT, Outcome, Recording, Wait
from netns.record.segments import Captures, Segment
from netns.report import write, write_sweep
from tests import recordings
from tests.unit.netns.analysis import story
from tests.unit.netns.analysis.story import HASTY, Story

NODES = ("client", "box", *story.ADDRESS)
KINDS = {"rs1": "nginx", "rs2": "apache", "rs3": "node"}
NOTHING = Circumstances()


def frame(one: Segment) -> bytes:
    source, sport = one.source.split(":")
    destination, dport = one.destination.split(":")
    ip = IP(src=source, dst=destination, tos=one.dscp << 2)
    tcp = TCP(sport=int(sport), dport=int(dport), flags=one.flags, seq=one.seq, ack=one.ack)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / tcp / Raw(one.payload))


def capture(told: Story, node: str, directory: Path) -> Path:
    """What passed the node, as a capture that tcpdump and the lab made."""
    data = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for one in sorted(told.segments, key=lambda segment: segment.time):
        if one.point == node:
            packet, nanoseconds = frame(one), round((story.BEGAN_S + one.time / told.speed) * 1e9)
            data += struct.pack("=II", *divmod(nanoseconds, 1_000_000_000))
            data += struct.pack("=II", len(packet), len(packet)) + packet
    pcap = directory / f"{node}.pcap"
    pcap.write_bytes(data)
    merge([Trace(node, pcap)], directory / f"{node}.pcapng")
    pcap.unlink()
    return directory / f"{node}.pcapng"


def rehearsed(
    told: Story, directory: Path, *, terms: Terms | None = None, circumstances: Circumstances = NOTHING
) -> Rehearsal:
    """The story as a rehearsal would have it, and its report in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {node: capture(told, node, directory) for node in NODES}
    sizes = {path.name: path.stat().st_size for path in paths.values()}
    recording = replace(
        told.recording(),
        settings=story.CONFIG.model_dump(mode="json"),
        captures=tuple(sizes),
        capture_bytes=sizes,
        figures={"seed": 4, "this machine": {"loop_s": 0.005}},
    )
    if circumstances.ill:
        found = Rehearsal(recording, (), (), (), (), (), story.PLACES, KINDS)
    else:
        deploy = replace(HASTY, real_s=2.5, outside_s=0.5, waits=(Wait("sleep 7", 20.0, 27.0),))
        found = judge(
            recording,
            [deploy],
            story.CONFIG,
            story.PLACES,
            Captures(paths, recording.at),
            kinds=KINDS,
            box_ended=circumstances.box_ended,
        )
    found = with_expectations(replace(found, terms=terms or Terms(), circumstances=circumstances))
    write(found.recording, directory, found)
    return found


def plain(document: dict[str, Any]) -> Any:
    """As it is once it has been written and read."""
    return json.loads(json.dumps(document))


def again(directory: Path) -> Rehearsal:
    found = rejudge(directory).result
    assert isinstance(found, Rehearsal)
    return found


def cut_while_asked() -> Story:
    """rs2 closes under a request, and the box's daemon ends at 60."""
    told = story.hasty_run(10.0)
    told.connection(45000, "rs2").open(22.0).ask(22.1, "curl-1.900").fin(22.2)
    told.request("curl-1.900", 22.1, 22.2, Outcome.CLOSED, port=45000)
    told.told_to_stop("rs2", 27.0, "graceful: QUIT")
    told.box_ended = 60.0
    return told


RUNS: dict[str, tuple[Callable[[], Story], Terms, Circumstances]] = {
    "hasty": (story.hasty_run, Terms(), NOTHING),
    "hasty at speed 10": (lambda: story.hasty_run(10.0), Terms(2, {Cause.HEALTH_WINDOW: 1}), NOTHING),
    "the box ended": (
        cut_while_asked,
        Terms(0, {Cause.HEALTH_WINDOW: None}),
        Circumstances(box_ended=60.0, box_said="ended by signal 9", not_deployed=("rs3",), unfinished=2),
    ),
    "ill": (story.hasty_run, Terms(), Circumstances(ill="4 of 9 requests were lost before the deploy began")),
}


@pytest.mark.parametrize("name", RUNS)
def test_report_judged_again_gives_the_same_document(tmp_path: Path, name: str) -> None:
    told, terms, circumstances = RUNS[name]
    original = rehearsed(told(), tmp_path, terms=terms, circumstances=circumstances)
    assert original.explained or circumstances.ill
    assert plain(again(tmp_path).as_json()) == plain(original.as_json())
    assert again(tmp_path).recording == original.recording


def test_report_tells_causes_by_its_captures_and_not_by_what_was_found_before(tmp_path: Path) -> None:
    original = rehearsed(story.hasty_run(), tmp_path)
    path = tmp_path / RESULT
    document = json.loads(path.read_text())
    assert document["causes"] == {"health_window": original.lost}
    stale = {
        "causes": {},
        "explained": [],
        "advice": [],
        "windows": [],
        "verdict": "ok",
        "text": "",
        "stops": [],
    }
    path.write_text(json.dumps({**document, **stale}))
    assert plain(again(tmp_path).as_json()) == document


def test_report_of_a_compose_project_whose_servers_have_long_names_is_read(tmp_path: Path) -> None:
    rehearsed(story.hasty_run(), tmp_path)
    document = json.loads((tmp_path / RESULT).read_text())
    document["settings"]["server"].append({"name": "storefront-checkout-api-2"})
    (tmp_path / RESULT).write_text(json.dumps(document))
    assert plain(again(tmp_path).as_json()) == document


@pytest.mark.parametrize("maker", recordings.MAKERS)
def test_recording_is_read_as_it_was_written(tmp_path: Path, maker: recordings.Maker) -> None:
    written: Recording = maker()
    write(written, tmp_path)
    assert Document.read(tmp_path / RESULT).recording() == written


# What is not whole


def test_missing_captures_are_said_and_what_they_would_have_told(tmp_path: Path) -> None:
    original = rehearsed(story.hasty_run(), tmp_path)
    for name in ("rs2.pcapng", "client.pcapng"):
        (tmp_path / name).unlink()
    found = again(tmp_path)
    assert found.circumstances.lacking == "client.pcapng is missing, rs2.pcapng is missing"
    assert found.judgement.verdict is Verdict.LOST, "whatever the causes, nothing was allowed"
    assert found.causes() == {Cause.UNEXPLAINED: original.lost}
    assert {one.text for one in found.explained} == {"refused: without the captures, nothing tells why"}
    assert (found.windows, found.stops, found.advice) == (original.windows, (), ())
    assert any("Copy the captures" in reason for reason in found.judgement.reasons)


def test_without_captures_a_loss_that_may_be_an_allowed_one_is_inconclusive(tmp_path: Path) -> None:
    terms = Terms(causes={Cause.HEALTH_WINDOW: None})
    original = rehearsed(story.hasty_run(), tmp_path, terms=terms)
    assert original.passed
    (tmp_path / "box.pcapng").unlink()
    assert again(tmp_path).judgement.verdict is Verdict.INCONCLUSIVE
    assert Terms(1, {Cause.HEALTH_WINDOW: 2}).beyond_at_least(5) == 2


def test_without_captures_a_run_that_lost_nothing_is_judged_all_the_same(tmp_path: Path) -> None:
    told = Story()
    told.request("curl-1.1", 30.0, 30.1, Outcome.OK, status=200)
    assert rehearsed(told, tmp_path).passed
    (tmp_path / "box.pcapng").unlink()
    assert again(tmp_path).passed


def test_capture_that_was_cut_short_or_swapped_is_said(tmp_path: Path) -> None:
    rehearsed(story.hasty_run(), tmp_path)
    torn, other = tmp_path / "rs2.pcapng", tmp_path / "box.pcapng"
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) - 5])
    other.write_bytes(other.read_bytes() + whole)
    lacking = again(tmp_path).circumstances.lacking
    assert f"rs2.pcapng is cut short ({len(whole) - 5:,} of {len(whole):,} bytes)" in lacking
    assert "box.pcapng is another file" in lacking


def test_report_that_was_written_without_captures_says_so(tmp_path: Path) -> None:
    found = rehearsed(story.hasty_run(), tmp_path)
    recording = replace(found.recording, captures=(), capture_bytes={})
    write(recording, tmp_path, replace(found, recording=recording))
    assert again(tmp_path).circumstances.lacking == "The report was written without captures"


def without(*path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


def with_value(value: Any, *path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("version"), "version is missing: an older l4lab wrote this document"),
        (with_value(2, "version"), "version is 2, and this l4lab reads version 1"),
        (with_value("1", "version"), 'version is "1": input should be a valid integer'),
        (without("unix_s"), "unix_s is missing"),
        (without("kinds"), "kinds is missing"),
        (without("request_log", 3, "ended"), "request_log[3].ended is missing"),
        (
            with_value("soon", "request_log", 3, "ended"),
            'request_log[3].ended is "soon": input should be a valid number',
        ),
        (
            with_value("lost", "request_log", 0, "outcome"),
            "request_log[0].outcome is \"lost\": input should be 'ok', 'http_error'",
        ),
        (with_value({}, "changes"), "changes is {}: input should be a valid array"),
        (
            with_value(1, "actors", "servers", "10.80.1.2"),
            "actors.servers.10.80.1.2 is 1: input should be a valid string",
        ),
        (with_value([], "circumstances"), "circumstances is []: input should be an object"),
        (without("deploys", 0, "waits", 0, "began"), "deploys[0].waits[0].began is missing"),
        (with_value({"luck": 1}, "terms", "causes"), "terms.causes.luck is no cause"),
        (with_value(0, "settings", "speed"), "settings: speed"),
        (
            with_value(["../client.pcapng"], "captures"),
            "captures: '../client.pcapng' is no name of a file beside it",
        ),
        (with_value([".."], "captures"), "captures: '..' is no name of a file beside it"),
        (with_value(["/etc/hosts"], "captures"), "captures: '/etc/hosts' is no name of a file beside it"),
        (with_value("vip_down", "name"), "name is 'vip_down': the report of a rehearsal or a sweep"),
    ],
)
def test_document_that_cannot_be_read_is_named_with_its_field(
    tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    rehearsed(story.hasty_run(), tmp_path)
    path = tmp_path / RESULT
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(LabError) as raised:
        rejudge(tmp_path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)


def test_document_that_was_cut_short_or_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="name the directory of a report"):
        rejudge(tmp_path)
    rehearsed(story.hasty_run(), tmp_path)
    (tmp_path / RESULT).write_text((tmp_path / RESULT).read_text()[:5000])
    with pytest.raises(LabError, match="is no whole JSON document"):
        rejudge(tmp_path)
    (tmp_path / RESULT).write_text("[]")
    with pytest.raises(LabError, match="is no JSON object"):
        rejudge(tmp_path)


# The command


def swept(directory: Path) -> Sweep:
    runs = []
    for number, told in enumerate((story.hasty_run(), Story()), 1):
        found = rehearsed(told, directory / f"run-{number:02}")
        runs.append(Repetition.of(found, 3.3 * number, f"run-{number:02}"))
    sweep = Sweep(("./deploy.sh", "{server}"), 1.0, (Combination({"retries": 2}, 10.0, 20.0, tuple(runs)),))
    write_sweep(sweep, directory)
    return sweep


def test_sweep_judged_again_gives_the_same_document(tmp_path: Path) -> None:
    original = swept(tmp_path)
    found = rejudge(tmp_path)
    assert plain(found.result.as_json()) == plain(original.as_json())
    assert [name for name, _ in found.runs] == ["run-01", "run-02"]
    (tmp_path / "run-02" / RESULT).unlink()
    with pytest.raises(LabError, match=r"run-02/result\.json"):
        rejudge(tmp_path)


def test_explain_prints_what_the_run_did_and_ends_as_it_did(tmp_path: Path) -> None:
    original = rehearsed(story.hasty_run(), tmp_path)
    told = CliRunner().invoke(main, ["explain", str(tmp_path)])
    assert told.exit_code == original.judgement.verdict.exit_code == 1
    assert told.stdout.splitlines()[1].startswith(f"lost  {original.lost} of")
    assert "(health_window)" in told.stdout
    assert told.stderr == ""
    as_json = CliRunner().invoke(main, ["explain", "--json", str(tmp_path)])
    assert json.loads(as_json.stdout) == plain(original.as_json())


def test_explain_writes_a_report_that_can_be_explained_in_its_turn(tmp_path: Path) -> None:
    rehearsed(story.hasty_run(), tmp_path / "run")
    told = CliRunner().invoke(main, ["explain", "--report", str(tmp_path / "new"), str(tmp_path / "run")])
    assert told.exit_code == 1, told.stderr
    before, after = ({path.name for path in (tmp_path / name).iterdir()} for name in ("run", "new"))
    assert before == after
    page, fresh = tmp_path / "run" / "report.html", tmp_path / "new" / "report.html"
    assert page.read_text() == fresh.read_text()
    assert plain(again(tmp_path / "new").as_json()) == plain(again(tmp_path / "run").as_json())
    page.unlink()
    in_place = CliRunner().invoke(main, ["explain", "--report", str(tmp_path / "run"), str(tmp_path / "run")])
    assert in_place.exit_code == 1
    assert page.read_text() == fresh.read_text()


def test_explain_of_a_sweep_tells_each_run_and_then_the_sweep(tmp_path: Path) -> None:
    original = swept(tmp_path / "sweep")
    words = ["explain", "--report", str(tmp_path / "new"), str(tmp_path / "sweep")]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == original.verdict.exit_code
    places = [told.stdout.index(text) for text in ("run-01", "run-02", "Sweep of")]
    assert places == sorted(places)
    assert plain(rejudge(tmp_path / "new").result.as_json()) == plain(original.as_json())


def test_explain_says_what_a_report_lacks(tmp_path: Path) -> None:
    rehearsed(story.hasty_run(), tmp_path)
    (tmp_path / "box.pcapng").unlink()
    told = CliRunner().invoke(main, ["explain", str(tmp_path)])
    assert (told.exit_code, "box.pcapng is missing: nothing tells why" in told.stderr) == (1, True)
    (tmp_path / RESULT).write_text("{}")
    told = CliRunner().invoke(main, ["explain", str(tmp_path)])
    assert (told.exit_code, told.stdout) == (9, "")
    assert f"no verdict: {tmp_path / RESULT}: version is missing" in told.stderr


def test_explain_loads_nothing_that_needs_a_lab_or_this_kernel(tmp_path: Path) -> None:
    rehearsed(story.hasty_run(), tmp_path)
    code = f"""
import sys
from netns.cli.main import main
main(["explain", "--report", {str(tmp_path / "new")!r}, {str(tmp_path)!r}], standalone_mode=False)
rooms = ("lab", "labs", "namespaces", "docker", "observe", "clients", "web", "play", "rehearsal")
loaded = {{*rooms}} & {{name.split(".")[1] for name in sys.modules if name.startswith("netns.")}}
sys.exit(str(loaded | {{"pyroute2", "docker", "netfilterqueue"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "health_window" in done.stdout, done.stderr
    assert done.stderr.splitlines()[-1] == "set()"
