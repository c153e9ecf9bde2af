"""Kinds of clients: what is asked for, what they are told, what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netns.clients import spec
from netns.clients.kinds import KINDS, Wanted, missing, parse_clients
from netns.clients.spec import ClientSpec


def test_clients_are_asked_for_by_kind_and_number() -> None:
    assert parse_clients("curl:20, urllib3:5") == [Wanted(KINDS["curl"], 20), Wanted(KINDS["urllib3"], 5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wget:3", "'wget' is no kind of client: curl, curl-post, curl-new, .* are allowed"),
        ("curl", "'curl': a number of clients is missing, as in curl:20"),
        ("curl:0", "a number of clients is missing"),
        ("curl:-1", "a number of clients is missing"),
        ("", "'' is no kind of client"),
    ],
)
def test_clients_that_make_no_sense_are_refused_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_clients(text)


def test_kind_that_is_not_installed_is_named_with_what_installs_it() -> None:
    absent = replace(KINDS["urllib3"], version=lambda: "")
    assert missing([Wanted(KINDS["idle"], 1), Wanted(absent, 5)]) == {
        "urllib3": "urllib3 clients are not installed: pip install urllib3"
    }


def test_order_is_read_as_it_was_said() -> None:
    told = ClientSpec("192.0.2.10", 8080, "java", 3, 0.5, 1.25, 5, 60, on_demand=True)
    assert spec.read(told.words()) == told
    assert spec.read(ClientSpec("192.0.2.10", 80, "curl").words()) == ClientSpec("192.0.2.10", 80, "curl")


@pytest.mark.parametrize(
    ("post_every", "methods"), [(4, "GGGPGGGP"), (0, "GGGGGGGG"), (1, "PPPPPPPP"), (2, "GPGPGPGP")]
)
def test_each_so_manieth_request_is_a_post(post_every: int, methods: str) -> None:
    told = ClientSpec("192.0.2.10", 80, "urllib3", post_every=post_every)
    assert "".join(told.method(number)[0] for number in range(1, 9)) == methods


def test_clients_of_one_rate_do_not_all_begin_at_the_same_moment() -> None:
    told = ClientSpec("192.0.2.10", 80, "urllib3", count=4, rate=10)
    assert [told.delay_s(number) for number in (1, 2, 3, 4)] == pytest.approx([0, 0.025, 0.05, 0.075])
