"""Whatever the captures hold, each lost request has one cause, and no time in it exceeds its own."""

from __future__ import annotations

import re
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from netns.analysis.causes import is_slow
from netns.record.recording import Fact, Outcome, Request
from netns.record.segments import ACK, FIN, RST
from tests.unit.netns.analysis.story import ADDRESS, Connection, Story

ENDED_S: Final = 60.0
SLACK_S: Final = 0.05
OWN_TIME = re.compile(
    r"(?:took |there for )([\d.,]+)(?: box)? s$"
    r"|took ([\d.,]+)(?: box)? s:"
    r"|([\d.,]+)(?: box)? s (?:of them|after (?:the request|it) had)"
)
"""Times of the request, and none of what its server had lacked by then."""

times = st.floats(1.0, ENDED_S)
servers = st.sampled_from(sorted(ADDRESS))
places = st.sampled_from(["nowhere", "box", "lost", "server"])
NAMES: Final = ("curl-1.1", "curl-1.2", "java-1.7", "curl@api-3.17")


@st.composite
def _acts(draw: st.DrawFn, connection: Connection, name: str, started: float, ended: float) -> None:
    """Something happens on a connection; its client writes the request in the time that it says."""
    at = draw(times)
    match draw(st.integers(0, 13)):
        case 0:
            connection.syn(at, to=draw(places))
        case 1:
            connection.open(at)
        case 2 | 3:
            connection.ask(draw(st.floats(started, ended)), name, to=draw(places))
        case 4:
            connection.took(at, name)
        case 5:
            connection.answer(at)
        case 6:
            connection.fin(at)
        case 7:
            connection.rst(at)
        case 8:
            connection.bare_rst(at)
        case 9:
            connection.refuse(at)
        case 10:
            connection.box_rst(at)
        case 11:
            connection.icmp(at)
        case 12:
            connection.answers_from_own_address(at)
        case _:
            connection.leaves(at, draw(st.sampled_from([FIN | ACK, RST, RST | ACK])))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    story = Story(ended=ENDED_S, speed=draw(st.sampled_from([1.0, 10.0])))
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
        started, took = draw(times), draw(st.floats(0.001, 10.0))
        outcome = draw(st.sampled_from(Outcome))
        port = draw(st.sampled_from([0, 40001]))
        story.request(name, started, started + took, outcome, port=port)
        connection = story.connection(
            draw(st.integers(40001, 40003)), draw(servers), draw(st.integers(80, 81))
        )
        for _ in range(draw(st.integers(0, 8))):
            draw(_acts(connection, name, started, started + took))
    for fact in draw(st.lists(st.sampled_from(Fact), max_size=3)):
        began = draw(times)
        story.loses(draw(servers), fact, began, draw(st.none() | st.floats(began, ENDED_S)))
    for fact in draw(st.lists(st.sampled_from(Fact), max_size=2)):
        story.unwatched(fact)
    if draw(st.booleans()):
        story.fails(draw(servers), draw(times), of=draw(st.sampled_from(["web", "api"])))
    story.box_ended = draw(st.none() | times)
    return story


def suffered(story: Story) -> list[Request]:
    return [one for one in story.requests if one.outcome is not Outcome.OK or is_slow(one, story.speed)]


@given(stories())
def test_every_lost_or_slow_request_has_one_cause_and_no_time_longer_than_its_own(story: Story) -> None:
    explained = story.explained()
    assert sorted(one.request.id for one in explained) == sorted(one.id for one in suffered(story))
    for one in explained:
        assert one.text
        assert one.server in ("", *ADDRESS)
        own_s = one.request.ended - one.request.started + SLACK_S
        for said in OWN_TIME.findall(one.text):
            printed = float("".join(said).replace(",", ""))
            assert printed <= own_s * 1.01 + 0.05, one.text
