"""What ss, nstat and access logs print, and what is watched of a box."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netns.lab.interface import Lab
from netns.observe import kernels
from netns.observe.box import BoxWatch
from netns.observe.kernels import Served, Socket, parse_counters, parse_served, parse_sockets


def test_sockets_are_read_from_ss_and_those_that_listen_are_left_out() -> None:
    text = (
        "LISTEN    0      4096      0.0.0.0:80      0.0.0.0:*    \n"
        "ESTAB     0      0       192.0.2.10:80    10.80.4.2:40001\n"
        "CLOSE-WAIT 1     0       192.0.2.10:80    10.80.4.2:40002 \n"
    )
    assert parse_sockets(text) == [
        Socket("ESTAB", "192.0.2.10:80", "10.80.4.2:40001"),
        Socket("CLOSE-WAIT", "192.0.2.10:80", "10.80.4.2:40002"),
    ]


def test_counters_are_read_from_nstat_and_one_that_is_not_there_is_zero() -> None:
    counters = parse_counters("#kernel\nTcpEstabResets                  12                 0.0\n")
    assert counters["TcpEstabResets"] == 12
    assert counters["TcpExtTCPChallengeACK"] == 0


def test_access_logs_of_nginx_and_of_the_builtin_server_are_read() -> None:
    text = (
        '1795411110.058 10.80.4.2:56682 192.0.2.10 "GET /?1 HTTP/1.1" 200 4 connection=3 request=1 "curl"\n'
        '1795411110.100 10.80.4.2:56682 192.0.2.10 "GET /no HTTP/1.1" 404 4 "curl"\n'
    )
    assert parse_served(text) == [
        Served(1795411110.058, "10.80.4.2:56682", "GET /?1 HTTP/1.1", 200),
        Served(1795411110.1, "10.80.4.2:56682", "GET /no HTTP/1.1", 404),
    ]


def test_watch_that_was_stopped_lets_go_of_the_boxs_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coming: SimpleQueue[dict[str, Any]] = SimpleQueue()
    let_go = threading.Event()

    def events(**_: object) -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield coming.get()
        finally:
            let_go.set()

    monkeypatch.setattr(kernels, "sample", lambda *_: [])
    watch = BoxWatch(cast(Lab, SimpleNamespace(box=SimpleNamespace(events=events))), lambda s: s, since=0)
    watch.start()
    coming.put({"id": 1})
    watch.catch_up(1)
    watch.stop()
    watch.catch_up(2, timeout_s=0.0)
    assert not let_go.is_set()
    coming.put({"id": 2})
    assert let_go.wait(10)
    assert [event["id"] for event in watch.events] == [1]
