"""How a lab was before a deploy."""

from __future__ import annotations

from typing import Any

from netns.analysis import baseline
from netns.record.recording import ClientGroup, Outcome, Request

GROUPS = (
    ClientGroup("curl@web", "curl", "web", 2, 10.0, 2.0),
    ClientGroup("curl@api", "curl", "api", 1, 10.0, 2.0),
)


def request(client: str, outcome: Outcome = Outcome.OK, status: int = 200, error: str = "") -> Request:
    return Request(client, 1.0, 1.1, outcome, status, "", True, 40000, error)


def row(name: str, state: str = "ACTIVE", service: str = "web") -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "bound": state in ("ACTIVE", "SUSPECT"),
        "virtual_server": service,
        "last_check": "404",
    }


def test_nothing_lost_is_nothing_to_say() -> None:
    assert baseline.loss([request("curl@web-1"), request("curl@api-1")], GROUPS) == ""


def test_what_was_lost_is_told_by_virtual_server_with_the_clients_words() -> None:
    text = baseline.loss(
        [
            request("curl@web-1"),
            request("curl@api-1", Outcome.REFUSED, 0, "Connection refused"),
            request("curl@api-1", Outcome.REFUSED, 0, "Connection refused"),
            request("curl@web-2", Outcome.HTTP_ERROR, 502, "Bad Gateway"),
        ],
        GROUPS,
    )
    assert text.startswith("3 of 4 requests were lost before the deploy began: 2 on api refused, ")
    assert "1 on web answered with an HTTP error" in text
    assert "(the first: curl@api-1: Connection refused)" in text


def test_server_that_the_box_does_not_bind_or_know_is_named() -> None:
    rows = [row("rs1"), row("rs2", "FAILED"), row("rs2", service="api"), row("rs3", "SUSPECT")]
    assert baseline.not_bound(rows, ["rs1", "rs3"]) == ""
    assert baseline.not_bound(rows, ["rs1", "rs2"]) == (
        "Before the deploy began, rs2 is FAILED on web (last check: 404)"
    )
    assert "web-2 is unknown to the box" in baseline.not_bound(rows, ["web-2"])
    assert "rs1 is unknown" in baseline.not_bound([], ["rs1"])
