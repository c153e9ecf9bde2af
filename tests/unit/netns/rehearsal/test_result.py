"""A rehearsal's result, as programs read it."""

from __future__ import annotations

import json

from netns.rehearsal.causes import Cause
from tests.unit.netns.rehearsal import story


def test_lost_requests_are_counted_by_client_method_and_cause() -> None:
    found = story.hasty()
    assert found.causes() == {Cause.HEALTH_WINDOW: found.lost}
    rows = {(row.kind, row.method): row for row in found.tally()}
    assert rows["urllib3", "GET"].lost == found.lost
    assert rows["urllib3", "GET"].why == f"{found.lost} × new flow in the health window"
    assert rows["<b>curl</b>", "GET"].lost == 0
    assert sum(row.requests for row in rows.values()) == len(found.recording.requests)


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
