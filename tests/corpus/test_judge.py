"""The corpus' judge: what it reads from logs and packets, and what it objects to."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.expect import Expect, load
from tests.corpus.judge import ACK, FIN, PROOFS, RST, SYN, Logged, Packet, Wire, logged, objections, of_run

CLIENT, VIP, SERVER = "10.80.4.2", "192.0.2.10", "10.80.1.2"
FLAGS = {"SYN": SYN, "SYN+ACK": SYN | ACK, "ACK": ACK, "RST": RST, "FIN": FIN | ACK}


def packet(time: float, point: str, what: str, *, port: int = 40000, by: str = VIP, to: str = VIP) -> Packet:
    """ "> GET curl-1.1" goes from the client to `to`, "< 200" from `by` to the client."""
    way, word, *rest = what.split()
    outgoing = way == ">"
    return Packet(
        time=time,
        point=point,
        source=CLIENT if outgoing else by,
        destination=to if outgoing else CLIENT,
        client=f"{CLIENT}:{port}",
        port=80,
        from_client=outgoing,
        flags=FLAGS.get(word, ACK),
        length=0 if word in FLAGS or word == "ICMP" else 80,
        request=rest[0] if word == "GET" else "",
        status=int(word) if word.isdigit() else 0,
        icmp=word == "ICMP",
    )


def wire(*seen: str, port: int = 40000) -> Wire:
    """Of "1.0 client > SYN" and the like: at the box "=>" is the copy that goes on to the server."""
    found = []
    for line in seen:
        when, point, what = line.split(" ", 2)
        to = SERVER if what.startswith("=>") or point == "rs1" else VIP
        by = SERVER if what.endswith(" own") else VIP
        found.append(
            packet(float(when), point, what.removeprefix("=").removesuffix(" own"), port=port, by=by, to=to)
        )
    return Wire(found)


OPENED = (
    "1.0 client > SYN",
    "1.0 box > SYN",
    "1.0 box => SYN",
    "1.0 rs1 > SYN",
    "1.0 rs1 < SYN+ACK",
    "1.0 client < SYN+ACK",
)
ASKED = ("1.1 client > GET a-1.1", "1.1 box => GET a-1.1", "1.1 rs1 > GET a-1.1")
ANSWERED = ("1.2 rs1 < 200", "1.2 client < 200")
AGAIN = ("2.0 client > GET a-1.2", "2.0 box => GET a-1.2", "2.0 rs1 > GET a-1.2")
REQUEST = Logged("a-1.1", 1.0, 1.5, ok=False)
LATER = Logged("a-1.2", 2.0, 2.5, ok=False)


def shown(request: Logged, *seen: str) -> set[str]:
    """The causes that the captures show."""
    attempts = wire(*seen).attempts(request)
    return {cause for cause, (_, proof) in PROOFS.items() if any(map(proof, attempts))}


@pytest.mark.parametrize(
    ("cause", "request_", "seen"),
    [
        ("health_window", REQUEST, (*OPENED[:4], "1.1 rs1 < RST", "1.1 client < RST")),
        ("stuck_session", LATER, (*OPENED, *ASKED, *ANSWERED, *AGAIN, "2.1 rs1 < RST", "2.1 client < RST")),
        ("vip_down", LATER, (*OPENED, *ASKED, *ANSWERED, *AGAIN)),
        ("filtered", REQUEST, (*OPENED[:4], "1.1 rs1 < ICMP")),
        ("no_dsr_rule", LATER, (*OPENED, *ASKED, *ANSWERED, *AGAIN, "2.1 rs1 < RST own")),
        ("unreachable", LATER, (*OPENED, *ASKED, *ANSWERED, *AGAIN[:2])),
        ("stopped_in_hand", REQUEST, (*OPENED, *ASKED, "1.3 rs1 < FIN", "1.3 client < FIN")),
        (
            "closed_under_way",
            LATER,
            (*OPENED, *ASKED, *ANSWERED, "1.99 rs1 < FIN", *AGAIN, "2.0 client < FIN"),
        ),
        ("box_reset", REQUEST, (*OPENED, *ASKED, "1.3 box < RST", "1.3 client < RST")),
        ("no_server", REQUEST, ("1.0 client > SYN", "1.0 box > SYN", "1.0 box < RST", "1.0 client < RST")),
        ("box_down", REQUEST, ("1.0 client > SYN", "1.0 box > SYN")),
        ("server_error", REQUEST, (*OPENED, *ASKED, "1.2 rs1 < 502", "1.2 client < 502")),
        ("server_hung", REQUEST, (*OPENED, *ASKED, "1.1 rs1 < ACK", "3.1 client > FIN", "3.2 rs1 < FIN")),
    ],
)
def test_a_cause_is_shown_by_the_packets_that_it_makes(
    cause: str, request_: Logged, seen: tuple[str, ...]
) -> None:
    assert cause in shown(request_, *seen)


def test_a_good_response_shows_no_cause_of_a_first_or_later_request() -> None:
    assert shown(REQUEST, *OPENED, *ASKED, *ANSWERED).isdisjoint(
        {"health_window", "stuck_session", "server_hung"}
    )
    answered = ("2.1 rs1 < 200", "2.1 client < 200")
    assert "stuck_session" not in shown(LATER, *OPENED, *ASKED, *ANSWERED, *AGAIN, *answered)


def test_a_rst_from_another_address_than_the_vip_closes_nothing() -> None:
    wrong = ("2.1 rs1 < RST own", "2.1 client < RST own")
    found = shown(LATER, *OPENED, *ASKED, *ANSWERED, *AGAIN, *wrong)
    assert found.isdisjoint({"stopped_in_hand", "closed_under_way", "filtered"})


def test_a_request_that_an_icmp_error_quotes_was_not_sent_again() -> None:
    quoted = packet(1.2, "client", "< ICMP")
    seen = wire(*OPENED, *ASKED).connections[0].packets
    (found,) = Wire([*seen, replace(quoted, request="a-1.1")]).attempts(REQUEST)
    assert found.sent == 1.1


def test_a_close_after_the_clients_own_is_no_stop_in_hand() -> None:
    assert "stopped_in_hand" not in shown(REQUEST, *OPENED, *ASKED, "3.1 client > FIN", "3.2 rs1 < FIN")


def test_a_close_long_before_the_request_left_is_no_crossing() -> None:
    told = ("1.5 rs1 < FIN", "1.5 client < FIN")
    assert "closed_under_way" not in shown(LATER, *OPENED, *ASKED, *ANSWERED, *told, *AGAIN)


def test_a_request_that_went_to_the_server_was_not_dropped_by_the_box() -> None:
    assert shown(REQUEST, *OPENED, *ASKED).isdisjoint({"box_down", "no_server", "box_reset"})


def test_a_download_that_is_cut_before_its_client_knows_is_lost() -> None:
    seen = wire(*OPENED, *ASKED, "1.9 rs1 < FIN", "1.9 client < FIN", "3.0 client > FIN")
    assert seen.cut([]) == {"a-1.1"}
    assert seen.cut([REQUEST]) == set()


def test_a_request_that_its_client_ended_or_had_no_time_to_log_is_not_cut() -> None:
    assert wire(*OPENED, *ASKED, "1.8 client > FIN", "1.9 client < FIN", "3.0 rs1 < FIN").cut([]) == set()
    assert wire(*OPENED, *ASKED, "1.9 client < FIN", "2.0 client > FIN").cut([]) == set()


def test_a_whole_response_before_the_servers_close_is_not_cut() -> None:
    assert wire(*OPENED, *ASKED, *ANSWERED, "1.9 client < FIN", "3.0 client > FIN").cut([]) == set()


def test_what_comes_after_its_client_gave_up_is_of_no_account() -> None:
    late = ("2.9 rs1 < 200", "2.9 client < 200")
    assert "vip_down" in shown(LATER, *OPENED, *ASKED, *ANSWERED, *AGAIN, *late)


def test_a_syn_again_is_the_same_connection_and_a_port_again_is_another() -> None:
    assert len(wire("1.0 client > SYN", "2.0 client > SYN").connections) == 1
    assert len(wire(*OPENED, *ASKED, "2.0 client > FIN", "3.0 client > SYN").connections) == 2


def test_logs_are_read_in_unix_time(tmp_path: Path) -> None:
    now = time.monotonic()
    row = {"client": "a-1", "id": "a-1.1", "started": now - 1, "ended": now, "outcome": "closed"}
    (tmp_path / "clients-a.log").write_text(f"a word\n{json.dumps(row)}\n")
    (found,) = logged(tmp_path)
    assert (found.id, found.ok) == ("a-1.1", False)
    assert abs(found.ended - time.time()) < 1


def test_what_ends_after_the_last_request_of_the_result_is_not_of_the_run() -> None:
    earlier = Logged("b-1.1", 1.0, 1.4, ok=False)
    later = Logged("b-1.2", 1.4, 1.6, ok=False)
    assert of_run([REQUEST, earlier, later], result()) == [REQUEST, earlier]


def result(*explained: dict[str, Any]) -> dict[str, Any]:
    log = [{"id": "a-1.1"}]
    return {
        "lost": len(explained),
        "explained": list(explained),
        "request_log": log,
        "causes": {},
        "advice": [],
    }


def lost(cause: str) -> dict[str, Any]:
    return {"id": "a-1.1", "lost": True, "cause": cause, "text": "so it was"}


REFUSED = wire(*OPENED[:4], "1.1 rs1 < RST", "1.1 client < RST")


def test_nothing_is_objected_to_when_log_capture_and_result_agree() -> None:
    assert objections(result(lost("health_window")), [REQUEST], REFUSED) == []


def test_a_lost_request_that_the_result_does_not_have_is_objected_to() -> None:
    first, second = objections(result(), [REQUEST], REFUSED)
    assert "not by the result" in first
    assert "the clients say 1" in second


def test_a_lost_request_that_its_client_calls_good_is_objected_to() -> None:
    good = Logged("a-1.1", 1.0, 1.5, ok=True)
    assert "by the result only" in objections(result(lost("health_window")), [good], REFUSED)[0]


def test_a_cause_that_the_captures_do_not_show_is_objected_to() -> None:
    (found,) = objections(result(lost("stuck_session")), [REQUEST], REFUSED)
    assert "the captures do not show: a later request" in found


def test_unexplained_is_always_objected_to() -> None:
    (found,) = objections(result(lost("unexplained")), [REQUEST], REFUSED)
    assert "unexplained" in found


def test_what_is_expected_of_verdict_count_causes_and_advice_is_held() -> None:
    right = Expect(
        about="",
        verdict=("lost",),
        lost=(1, 2),
        causes=("vip_down",),
        must=("vip_down",),
        advice=("wait 4 s",),
        no_advice=("drain",),
    )
    assert right.objections(1, 1, {"causes": {"vip_down": 1}, "advice": [{"text": "wait 4 s"}]}) == []
    found = right.objections(0, 3, {"causes": {"filtered": 3}, "advice": [{"text": "drain it"}]})
    assert [one.partition(":")[0] for one in found] == [
        "the verdict is ok, not lost",
        "the verdict is ok, and 3 requests are lost",
        "3 requests are lost, not 1 to 2",
        "3 × filtered, which can't be",
        "vip_down is not among the causes",
        "no advice says /wait 4 s/",
        "an advice says /drain/",
    ]


def test_a_verdict_that_contradicts_the_count_is_objected_to_where_either_is_right() -> None:
    right = Expect(about="", verdict=("ok", "lost"), lost=(0, 3))
    assert right.objections(0, 0, {}) == right.objections(1, 1, {}) == []
    assert right.objections(0, 1, {}) == ["the verdict is ok, and 1 requests are lost"]
    assert right.objections(1, 0, {}) == ["the verdict is lost, and 0 requests are lost"]


def test_an_unknown_key_verdict_or_cause_in_expect_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "expect.toml"
    for text in (
        'loss = 3\nverdict = ["ok"]',
        'verdict = ["green"]',
        'verdict = ["ok"]\nmust = ["vip_down"]',
    ):
        file.write_text(f'about = ""\n{text}\n')
        with pytest.raises(ValueError, match=r"expect\.toml"):
            load(file)
