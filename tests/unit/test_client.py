from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb import client as module
from lb.client import ApiError, BoxClient, Denied, Unreachable

from .fake_daemon import CLIENT, MISSING, VIP, FakeDaemon, Served, serve, web


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(FakeDaemon(web(), web("tls", port=443)), tmp_path / "l4box.sock") as served:
        yield served


@pytest.fixture
def box(served: Served) -> Iterator[BoxClient]:
    with BoxClient(served.path) as box:
        yield box


def test_healthz_and_stats(box: BoxClient) -> None:
    assert box.healthz()["status"] == "ok"
    assert box.stats()["name"] == "l4box"


def test_a_server_is_disabled_shut_down_and_enabled(box: BoxClient) -> None:
    assert {(row["virtual_server"], row["name"]) for row in box.servers()} == {
        ("web", "rs1"),
        ("web", "rs2"),
        ("tls", "rs1"),
        ("tls", "rs2"),
    }
    assert [row["state"] for row in box.disable("rs1")] == ["DISABLED", "DISABLED"]
    assert [row["state"] for row in box.shutdown("rs1", "tls")] == ["SHUTDOWN"]
    assert [row["state"] for row in box.enable("rs1", virtual_server="web")] == ["ENABLED"]


def test_configuration_is_fetched_and_sent_back_changed(box: BoxClient) -> None:
    wanted = box.configuration()
    wanted["virtual_server"][0]["real_server"] = []
    assert box.configure(wanted) == wanted == box.configuration()
    with pytest.raises(ApiError, match=r"dscp = 0: 1 to 63"):
        box.configure({**wanted, "virtual_server": [{**wanted["virtual_server"][0], "dscp": 0}]})


def test_sessions_are_fetched_over_all_pages(
    box: BoxClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 10)
    served.do(lambda: served.host.fill(25))
    assert len({row["client"] for row in box.sessions()}) == 25
    assert len(list(box.sessions(limit=12))) == 12
    assert len(list(box.sessions(client="10.1.0.0/29"))) == 7


def test_sessions_are_filtered_and_cleared(box: BoxClient, served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001, 40002, 40003))
    assert {row["server"] for row in box.sessions(server="rs2")} == {"rs2"}
    assert [row["client"] for row in box.sessions(client=f"{CLIENT}:40001")] == [f"{CLIENT}:40001"]
    assert box.clear_sessions(server="rs1") == 2
    assert box.clear_sessions(everything=True) == 2
    assert list(box.sessions()) == []


def test_sessions_are_reset(box: BoxClient, served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001, 40002, 40003))
    assert box.reset_sessions(server="rs1", virtual_server="web") == 2
    assert box.reset_sessions(client=f"{CLIENT}:40001", vip=VIP, state="ESTABLISHED") == 1
    assert box.reset_sessions(everything=True) == 1
    assert box.stats()["session_resets"]["administrator"]["client"] == 4
    assert list(box.sessions()) == []


def test_a_server_is_disabled_with_its_sessions_reset(box: BoxClient, served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001))
    assert [row["resetting"] for row in box.disable("rs1")] == [0, 0]
    assert [row["resetting"] for row in box.disable("rs2", virtual_server="web", reset=True)] == [1]
    served.do(lambda: served.host.wait(0))
    assert [row["server"] for row in box.sessions()] == ["rs1"]


def test_a_server_is_shut_down_with_a_deadline(box: BoxClient, served: Served) -> None:
    served.do(lambda: served.host.open(40000, 40001))
    box.shutdown("rs1", "web", drain_timeout_s=2.5)
    box.shutdown("rs2", "web")
    served.do(lambda: served.host.wait(2))
    assert len(list(box.sessions())) == 2
    served.do(lambda: served.host.wait(1))
    assert [row["server"] for row in box.sessions()] == ["rs2"]


def test_explain(box: BoxClient, served: Served) -> None:
    served.do(lambda: served.host.open(40000))
    found = box.explain(f"{CLIENT}:40000", "192.0.2.10:80")
    assert found["virtual_servers"][0]["other_packets"]["servers"] == ["rs1"]


def test_events_that_are_kept(box: BoxClient) -> None:
    kept = list(box.events())
    assert [event["id"] for event in kept] == list(range(1, len(kept) + 1))
    assert [event["id"] for event in box.events(since=-2)] == [len(kept) - 1, len(kept)]


def test_followed_events_come_as_they_happen_and_end_with_the_box(box: BoxClient, served: Served) -> None:
    following = box.events(since=box.stats()["last_event"], follow=True)
    arrivals: list[dict[str, Any]] = []
    for number in (1, 2):
        served.do(lambda: served.host.probe("web/rs1", MISSING))
        arrivals += [next(following), next(following)]
        assert len(arrivals) == 2 * number
    assert [event["new"] for event in arrivals if event["kind"] == "server_state"] == ["SUSPECT", "FAILED"]
    served.do(served.host.event_log.close)
    assert list(following) == []


def test_a_reader_that_goes_away_leaves_the_box_as_it_was(box: BoxClient, served: Served) -> None:
    following = box.events(follow=True)
    next(following)
    box.close()
    served.do(lambda: served.host.probe("web/rs1", MISSING))
    with BoxClient(served.path) as other:
        assert other.servers()[0]["state"] == "SUSPECT"


def test_a_refusal_is_typed(box: BoxClient) -> None:
    with pytest.raises(ApiError, match="no real server is named 'rs9'") as caught:
        box.disable("rs9")
    assert (caught.value.status, caught.value.code) == (404, "unknown_server")
    with pytest.raises(ApiError) as caught:
        box.clear_sessions()
    assert caught.value.code == "filter_required"
    with pytest.raises(ApiError) as caught:
        box.reset_sessions(server=None)
    assert caught.value.code == "filter_required"
    with pytest.raises(ApiError) as caught:
        list(box.events(since="yesterday"))  # type: ignore[arg-type]
    assert caught.value.code == "invalid_request"


def test_a_name_cannot_leave_its_place_in_the_path(box: BoxClient) -> None:
    with pytest.raises(ApiError) as caught:
        box.disable("../../healthz?")
    assert caught.value.status == 404


def test_no_box(tmp_path: Path) -> None:
    path = tmp_path / "nobody.sock"
    with BoxClient(path) as box, pytest.raises(Unreachable, match=r"no box answers on .*nobody\.sock"):
        box.healthz()
    with BoxClient(path) as box, pytest.raises(Unreachable):
        list(box.events())


def test_a_box_that_was_killed_leaves_a_socket_on_which_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with BoxClient(path) as box, pytest.raises(Unreachable):
        box.servers()


def test_a_box_that_hangs_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "hung.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with BoxClient(path, timeout_s=0.05) as box, pytest.raises(Unreachable):
            box.servers()


def test_something_else_on_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            asked = b""
            while not asked:  # the first connection may only try the door
                connection, _ = listener.accept()
                with connection:
                    asked = connection.recv(65536)
                    if asked:
                        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno")

        thread = threading.Thread(target=answer)
        thread.start()
        with BoxClient(path) as box, pytest.raises(ApiError, match="502") as caught:
            box.servers()
        thread.join(10)
    assert caught.value.code == "unexpected_answer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_a_socket_of_root_is_not_for_everybody(box: BoxClient, served: Served) -> None:
    served.path.parent.chmod(0o711)
    os.seteuid(65534)
    try:
        with pytest.raises(Denied, match="run as root"):
            box.healthz()
    finally:
        os.seteuid(0)
