"""A rehearsal judged again, from its report's `result.json` and captures alone: by today's code, anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lb.config import ConfigError, parse
from netns.analysis.attempts import Actors
from netns.analysis.causes import Cause
from netns.analysis.expected import with_expectations
from netns.analysis.judge import judge
from netns.analysis.rehearsal import NAME, Rehearsal
from netns.analysis.sweep import SWEEP, Combination, Repetition, Sweep
from netns.analysis.terms import Terms
from netns.analysis.verdict import Circumstances
from netns.errors import LabError
from netns.plan.config import LabConfig
from netns.plan.project import ProjectConfig
from netns.record.document import Document
from netns.record.recording import RESULT, Deploy, Recording
from netns.record.segments import Captures

CAUSES: Final = {cause.name.lower(): cause for cause in Cause}


@dataclass(frozen=True, slots=True)
class Rejudged:
    """What a report's directory holds, judged again."""

    result: Rehearsal | Sweep
    runs: tuple[tuple[str, Rehearsal], ...] = ()
    """A sweep's rehearsals, each by the name of its directory."""


def rejudge(directory: Path) -> Rejudged:
    """LabError for a directory that is no report of a rehearsal or a sweep, naming file and field.

    Where captures are missing or cut short, the result says so: `circumstances.lacking`.
    """
    document = Document.read(directory / RESULT)
    name = document.take("name", str)
    if name == NAME:
        return Rejudged(_rehearsal(document, directory))
    if name == SWEEP:
        return _sweep(document, directory)
    raise LabError(f"{document.path}: name is {name!r}: the report of a rehearsal or a sweep is allowed")


def _rehearsal(document: Document, directory: Path) -> Rehearsal:
    recording = document.recording()
    for name in recording.captures:
        _plain(document, "captures", name)
    actors, kinds = _actors(document), document.take("kinds", dict[str, str])
    lacking = ", ".join(_lacking(recording, actors, directory))
    circumstances = replace(document.take("circumstances", Circumstances), lacking=lacking)
    terms = _terms(document)
    if circumstances.ill:
        found = Rehearsal(recording, (), (), (), (), (), actors, kinds)
    else:
        paths = {Path(name).stem: directory / name for name in recording.captures}
        found = judge(
            recording,
            document.take("deploys", tuple[Deploy, ...]),
            _config(document, recording),
            actors,
            None if lacking else Captures(paths, recording.at),
            kinds=kinds,
            box_ended=circumstances.box_ended,
        )
    return with_expectations(replace(found, terms=terms, circumstances=circumstances))


def _plain(document: Document, field: str, name: str) -> None:
    """LabError for what is no name of a file beside the document: a report may come from anybody."""
    if name in ("", "..") or name != Path(name).name:
        raise LabError(f"{document.path}: {field}: {name!r} is no name of a file beside it")


def _lacking(recording: Recording, actors: Actors, directory: Path) -> Iterator[str]:
    """What of the captures that a verdict needs is not there."""
    needed = {f"{node}.pcapng" for node in (*actors.clients, actors.box, *actors.servers.values())}
    if not recording.captures:
        yield "The report was written without captures"
    for name in recording.captures:
        if name not in needed:
            continue
        whole = recording.capture_bytes.get(name, 0)
        try:
            size = (directory / name).stat().st_size
        except OSError:
            yield f"{name} is missing"
            continue
        if size < whole:
            yield f"{name} is cut short ({size:,} of {whole:,} bytes)"
        elif size > whole:
            yield f"{name} is another file ({size:,} bytes in place of {whole:,})"


def _config(document: Document, recording: Recording) -> LabConfig:
    """Of the lab, or of the compose project: whatever is one of a lab is one of a project."""
    try:
        return parse(ProjectConfig, recording.settings, f"{document.path}: settings")
    except ConfigError as error:
        raise LabError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _ServerVip:
    address: str
    dscp: int
    vip: str


@dataclass(frozen=True, slots=True)
class _Actors:
    """Actors as the document has them."""

    clients: tuple[str, ...]
    box: str
    checker: str
    servers: dict[str, str]
    services: dict[str, str]
    vips: tuple[_ServerVip, ...]


def _actors(document: Document) -> Actors:
    told = document.take("actors", _Actors)
    return Actors(
        clients=frozenset(told.clients),
        box=told.box,
        checker=told.checker,
        servers=told.servers,
        services=told.services,
        vips={(one.address, one.dscp): one.vip for one in told.vips},
    )


@dataclass(frozen=True, slots=True)
class _Terms:
    """Terms as the document has them."""

    lost: int
    causes: dict[str, int | None]


def _terms(document: Document) -> Terms:
    told = document.take("terms", _Terms)
    for name in told.causes:
        if name not in CAUSES:
            raise LabError(f"{document.path}: terms.causes.{name} is no cause: {', '.join(CAUSES)} are")
    return Terms(told.lost, {CAUSES[name]: count for name, count in told.causes.items()})


@dataclass(frozen=True, slots=True)
class _Run:
    """A repetition, as a sweep's document has it."""

    phase_s: float
    report: str


@dataclass(frozen=True, slots=True)
class _Combination:
    varied: dict[str, Any]
    interval_s: float
    worst_s: float
    runs: tuple[_Run, ...]


def _sweep(document: Document, directory: Path) -> Rejudged:
    runs: list[tuple[str, Rehearsal]] = []
    combinations = []
    for told in document.take("combinations", tuple[_Combination, ...]):
        repetitions = []
        for run in told.runs:
            if not run.report:
                raise LabError(f"{document.path}: a rehearsal has no report: the sweep can't be judged again")
            _plain(document, "report", run.report)
            found = _rehearsal(Document.read(directory / run.report / RESULT), directory / run.report)
            runs.append((run.report, found))
            repetitions.append(Repetition.of(found, run.phase_s, run.report))
        combinations.append(Combination(told.varied, told.interval_s, told.worst_s, tuple(repetitions)))
    command, speed = document.take("command", tuple[str, ...]), document.take("speed", float)
    return Rejudged(Sweep(command, speed, tuple(combinations)), tuple(runs))
