"""A run's report: `result.json` for programs, `report.html` for people.

The page is one file that opens from a disk, with no network: the drawing is SVG made here, its script only
shows what the marks' titles say. Whatever came from outside (names, errors) is escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from netns.analysis.findings import LOSSES, failed
from netns.analysis.rehearsal import Rehearsal
from netns.analysis.sweep import Sweep
from netns.analysis.wording import seconds, unit
from netns.plan import speeds
from netns.record.recording import RESULT, Recording
from netns.report import clients, deploys, lanes, sweep, tables
from netns.report.axis import Axis
from netns.report.headline import headline
from netns.report.moments import Actor, moments

PAGE: Final = "report.html"


def write(recording: Recording, directory: Path, rehearsal: Rehearsal | None = None) -> Path:
    """Both files into the directory, which is made if need be; the page's path.

    With `rehearsal`, whose recording it is, they tell of that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    document = recording.as_json() if rehearsal is None else rehearsal.as_json()
    result = json.dumps(document, default=str, ensure_ascii=False)
    _put(directory / RESULT, result + "\n")
    page = directory / PAGE
    _put(page, render(recording, rehearsal))
    return page


def write_sweep(swept: Sweep, directory: Path) -> Path:
    """A sweep's page and result, beside the directories of its rehearsals; the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    result = json.dumps(swept.as_json(), default=str, ensure_ascii=False)
    _put(directory / RESULT, result + "\n")
    page = directory / PAGE
    charts = [sweep.chart(one, swept.speed) for one in swept.combinations]
    text = _page(
        "sweep.html.j2",
        swept.speed,
        sweep=swept,
        clock=speeds.in_words(swept.speed),
        unit=unit(swept.speed),
        charts=charts,
        height_px=sweep.HEIGHT_PX,
        bars_px=sweep.BARS_PX,
    )
    _put(page, text)
    return page


def _put(path: Path, text: str) -> None:
    """Write the file whole or not at all. A name that is no UTF-8 is written with its bytes as \\x…."""
    fresh = path.with_name(f".{path.name}")
    try:
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def render(recording: Recording, rehearsal: Rehearsal | None = None) -> str:
    """The page. Its policy allows this script, by its hash, and nothing from anywhere else."""
    axis = Axis(recording.ended, recording.speed, _began(recording.started_at))
    happened = moments(recording)
    why = {one.request: one.text for one in rehearsal.explained} if rehearsal else {}
    return _page(
        "page.html.j2",
        recording.speed,
        recording=recording,
        rehearsal=rehearsal,
        deploy_rows=deploys.rows(rehearsal) if rehearsal else (),
        outages=deploys.outages(rehearsal) if rehearsal else (),
        stops=deploys.stop_rows(rehearsal) if rehearsal else (),
        why=why,
        axis=axis,
        clock=speeds.in_words(recording.speed),
        ticks=axis.ticks(),
        headline=list(headline(recording)),
        moments=happened,
        done_flags=lanes.flags(axis, happened, Actor.PEOPLE),
        box_flags=lanes.flags(axis, happened, Actor.BOX),
        servers=lanes.server_lanes(recording, axis),
        lack_keys=lanes.lack_keys(recording),
        resets=lanes.reset_shapes(recording, axis),
        histogram=lanes.histogram(recording, axis),
        clients=clients.client_lanes(recording, axis, why),
        cards=list(tables.cards(recording)),
        phases=tables.phase_rows(recording, axis),
        loss_columns=tables.loss_columns(recording),
        loss_rows=tables.loss_rows(recording),
        losers=len({request.client for request in failed(recording.requests)}),
        failed_rows=tables.failed_rows(recording),
        event_rows=list(tables.event_rows(recording, axis)),
        figures=list(tables.flat(recording.figures)),
        settings=json.dumps(recording.settings, indent=2, default=str, ensure_ascii=False),
        losses=LOSSES,
        columns=lanes.COLUMNS,
        curve_px=lanes.CURVE_PX,
        histogram_px=lanes.HISTOGRAM_PX,
        lane_px=clients.LANE_PX,
    )


def _page(template: str, speed: float, **values: object) -> str:
    """A template filled in, with the style, the script and the script's hash; its times are of that speed."""
    script = _asset("page.js")
    environment = Environment(
        loader=PackageLoader("netns", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = partial(seconds, speed=speed)
    environment.filters["tone"] = deploys.tone
    environment.filters["unbroken"] = unbroken
    return environment.get_template(template).render(
        result=RESULT,
        style=Markup(_asset("page.css")),  # noqa: S704  ours, not from outside
        script=Markup(script),  # noqa: S704
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def unbroken(text: str) -> str:
    """No line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?:box )?m?s\b", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def _began(started_at: str) -> datetime:
    began = datetime.fromisoformat(started_at)
    return began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC)


def _asset(name: str) -> str:
    return (resources.files("netns.report") / name).read_text(encoding="utf-8")
