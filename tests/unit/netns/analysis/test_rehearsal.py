"""A rehearsal's result, as programs read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netns.analysis.causes import Cause
from netns.analysis.sweep import Combination, Repetition, Sweep
from tests.unit.netns.analysis import story

DOCS = Path(__file__).parents[4] / "docs" / "json.md"
BY_NAME = {
    *("causes", "needed_s", "settings", "figures", "versions", "sockets", "varied", "events"),
    *("capture_bytes", "kinds", "servers", "services"),
}
"""Fields whose own keys are names of other things, or told elsewhere."""


def test_lost_requests_are_counted_by_client_method_and_cause() -> None:
    found = story.hasty()
    assert found.causes() == {Cause.HEALTH_WINDOW: found.lost}
    rows = {(row.kind, row.method): row for row in found.tally()}
    assert rows["urllib3", "GET"].lost == found.lost
    assert rows["urllib3", "GET"].why == f"{found.lost} × sent to a stopped server before the box noticed"
    assert rows["<b>curl</b>", "GET"].lost == 0
    assert sum(row.requests for row in rows.values()) == len(found.requests)
    assert len(found.requests) < len(found.recording.requests), "those before the deploy are not counted"


def test_document_is_plain_json_with_the_fields_that_others_rely_on() -> None:
    found = story.hasty()
    document = json.loads(json.dumps(found.as_json()))
    assert (document["name"], document["passed"], document["unexplained"]) == ("rehearsal", False, 0)
    assert document["lost"] == len(document["explained"]) == sum(document["causes"].values())
    assert {"text", "passed", "measured"} <= set(document["expectations"][0])
    assert document["deploys"][0]["verdict"] == "exit 0"
    assert document["windows"][0]["waited_s"] == document["windows"][0]["stopped"] - 20.0
    assert document["advice"][0]["wait_s"] == 20.0
    assert {change["fact"] for change in document["changes"]} == {fact.value for fact in story.IN_NAMESPACES}


def fields(document: Any) -> Iterator[str]:
    """The names of all fields, those of nested objects too."""
    match document:
        case dict():
            for name, value in document.items():
                yield name
                if name not in BY_NAME:
                    yield from fields(value)
        case list() | tuple():
            for one in document:
                yield from fields(one)


def test_every_field_of_a_rehearsal_and_of_a_sweep_is_documented() -> None:
    found = story.hasty()
    swept = Sweep(("deploy",), 1.0, (Combination({}, 10.0, 20.0, (Repetition.of(found, 0.5),)),))
    documented = set(re.findall(r"`(\w+)`", DOCS.read_text(encoding="utf-8")))
    for document in (found.as_json(), swept.as_json()):
        assert set(fields(document)) - documented == set()
