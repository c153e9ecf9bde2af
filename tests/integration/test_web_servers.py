"""Each kind of web server, the real program: it serves as the others do, and stops in its own way."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from netns import labs, web
from netns.analysis.stop_pattern import StopPattern
from netns.cli.main import main
from netns.errors import LabError
from netns.lab import state
from netns.linux import namespace, process, sock_diag
from netns.measure.servers import IDLE, Measured, configuration, measure_in
from netns.namespaces.lab import NamespaceLab
from netns.observe import kernels
from netns.plan.config import load
from netns.web import KINDS, StopSignal
from tests.integration.conftest import eventually

pytestmark = pytest.mark.integration

times_stops = pytest.mark.alone
"""Of tests that judge how long each kind of server takes to stop."""

NAME = "kinds"
OWN = "webown"
SINGLE = ("uvicorn", "node", "builtin")
"""Kinds that are one process."""


@pytest.fixture(scope="module")
def lab() -> Iterator[NamespaceLab]:
    """A server of each kind, side by side."""
    made = labs.up(configuration(list(KINDS), NAME))
    yield made
    made.close()
    labs.down(NAME)


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Path]:
    """The lab.toml to write, of a lab that is taken down afterwards."""
    yield tmp_path / "lab.toml"
    labs.down(OWN)


def curl(lab: NamespaceLab, *words: str) -> str:
    return lab.run("client", ["curl", "-sS", "--max-time", "5", *words], check=True).stdout


def revive(lab: NamespaceLab) -> None:
    """Start again what was stopped, or left half dead."""
    for node in lab.plan.servers:
        lab.stop(node.name, StopSignal.KILL)
        lab.start(node.name)
    lab.wait_until_bound()


@pytest.fixture(scope="module")
def stopped(lab: NamespaceLab) -> dict[str, dict[str, Measured]]:
    """What was measured, by way of stopping and kind."""
    found = {}
    for how in (StopSignal.GRACEFUL, StopSignal.ABRUPT, StopSignal.KILL_MAIN):
        measured = measure_in(lab, how, patience_s=12, say=print)
        found[how.value] = {one.kind: one for one in measured}
        revive(lab)
    return found


# What each serves


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_its_name_to_get_and_post_and_ignores_the_query(
    lab: NamespaceLab, kind: str
) -> None:
    url = f"http://{lab.node(kind).address}/"
    assert curl(lab, f"{url}?a=1") == f"{kind}\n"
    assert curl(lab, "--data", "some=thing", f"{url}?b=2") == f"{kind}\n"
    (lab.web(kind).root / "index.html").write_text(f"{kind}\nthe new release\n")
    assert curl(lab, url) == f"{kind}\nthe new release\n"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_serves_files_and_keeps_the_connection_from_one_request_to_the_next(
    lab: NamespaceLab, kind: str
) -> None:
    page = lab.web(kind).root / "download"
    page.write_bytes(bytes(range(256)) * 4096)
    url = f"http://{lab.node(kind).address}"
    wanted = [f"{url}/download", f"{url}/health_check.html?x", f"{url}/"]
    told = ["-w", "%{http_code} %{size_download} %{num_connects}\n"]
    sizes = (len(page.read_bytes()), 3, len((lab.web(kind).root / "index.html").read_bytes()))
    out = curl(lab, *told, *(word for one in wanted for word in (one, "-o", "/dev/null")))
    assert out.splitlines() == [f"200 {sizes[0]} 1", f"200 {sizes[1]} 0", f"200 {sizes[2]} 0"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_404_for_what_is_not_there_and_for_what_is_above_its_root(
    lab: NamespaceLab, kind: str
) -> None:
    (lab.web(kind).directory / "secret").write_text("secret")
    for path in ("nothing.html?x", "../secret", "%2e%2e/secret", "..%2fsecret", "%zz"):
        out = curl(lab, "--path-as-is", "-w", "\n%{http_code}", f"http://{lab.node(kind).address}/{path}")
        assert out.endswith(("\n404", "\n400")), path
        assert "secret" not in out.replace(path, "")


@pytest.mark.parametrize("kind", KINDS)
def test_access_log_of_every_kind_is_read_alike(lab: NamespaceLab, kind: str) -> None:
    seen = len(kernels.served(lab, kind))
    url = f"http://{lab.node(kind).address}/"
    out = curl(lab, "-w", "%{local_port} ", "-o", "/dev/null", f"{url}?one", "--next", "-sS", "-d", "x", url)
    port = out.split()[0]
    logged = eventually(lambda: kernels.served(lab, kind)[seen:][1:], f"{kind} logs both") and kernels.served(
        lab, kind
    )
    first, second = logged[seen:]
    client = f"{lab.node('client').address}:{port}"
    assert [(row.client, row.request, row.status) for row in (first, second)] == [
        (client, "GET /?one HTTP/1.1", 200),
        (client, "POST / HTTP/1.1", 200),
    ]
    assert 0 <= second.time - first.time < 60


# How each stops


def assert_only_what_asked_meanwhile_is_reset(pattern: StopPattern) -> None:
    """Every idle connection ends, by a FIN; but a kernel resets one that is closed with a request unread."""
    assert pattern.idle.kept == 0
    assert pattern.idle.rst <= pattern.later.rst


@times_stops
@pytest.mark.parametrize("kind", ["nginx", "apache", "uvicorn", "builtin"])
def test_graceful_stop_finishes_what_is_in_hand_closes_what_is_idle_and_refuses_what_is_new(
    stopped: dict[str, dict[str, Measured]], kind: str
) -> None:
    pattern = stopped["graceful"][kind].pattern
    assert pattern.idle.fin >= IDLE
    assert_only_what_asked_meanwhile_is_reset(pattern)
    assert pattern.in_hand.finished == pattern.in_hand.total > 0
    # One that is being accepted in that very moment may be reset, or with uvicorn be forgotten.
    assert pattern.new.refused > pattern.new.total / 2
    assert pattern.listener_gone_s is not None
    assert pattern.ended_s is not None
    assert pattern.listener_gone_s < pattern.ended_s
    assert pattern.still_answers is False
    assert stopped["graceful"][kind].l4.state == stopped["graceful"][kind].l7.state == "FAILED"


@times_stops
def test_graceful_gunicorn_answers_nobody_new_while_its_port_is_open_until_its_last_request_is_done(
    stopped: dict[str, dict[str, Measured]],
) -> None:
    measured = stopped["graceful"]["gunicorn"]
    pattern = measured.pattern
    assert_only_what_asked_meanwhile_is_reset(pattern)
    assert pattern.in_hand.finished == pattern.in_hand.total > 0
    assert pattern.later.finished > 0  # it lets clients ask once more, and says close
    assert pattern.later.fin == pattern.later.rst == 0
    assert pattern.new.refused == 0
    assert pattern.new.hanging + pattern.new.rst > 0
    assert pattern.still_answers is False
    assert pattern.listener_gone_s is not None
    assert pattern.idle_ended_s is not None
    assert pattern.listener_gone_s > pattern.idle_ended_s
    assert measured.l4.good_s is not None
    assert measured.l4.good_s > (measured.l7.good_s or 0)
    assert measured.l4.state == measured.l7.state == "FAILED"


@times_stops
def test_graceful_node_goes_on_answering_the_connections_that_were_busy(
    stopped: dict[str, dict[str, Measured]],
) -> None:
    measured = stopped["graceful"]["node"]
    pattern = measured.pattern
    assert pattern.idle.fin >= IDLE
    assert pattern.in_hand.finished == pattern.in_hand.total > 0
    assert pattern.later.finished > 0
    assert pattern.new.refused > pattern.new.total / 2
    assert pattern.listener_gone_s is not None
    assert pattern.ended_s is None
    assert pattern.still_answers is True
    assert measured.l4.state == measured.l7.state == "FAILED"


@times_stops
@pytest.mark.parametrize("kind", ["nginx", "apache", "uvicorn", "node", "builtin"])
def test_abrupt_stop_cuts_the_downloads_and_ends_every_connection(
    stopped: dict[str, dict[str, Measured]], kind: str
) -> None:
    pattern = stopped["abrupt"][kind].pattern
    assert pattern.idle.fin + pattern.idle.rst >= IDLE
    assert pattern.idle.kept == 0
    assert pattern.in_hand.fin + pattern.in_hand.rst > 0
    assert pattern.in_hand.hanging == 0
    assert pattern.listener_gone_s is not None
    assert pattern.ended_s is not None
    assert pattern.still_answers is False


@times_stops
def test_abrupt_gunicorn_finishes_its_downloads_all_the_same_and_answers_nothing_else(
    stopped: dict[str, dict[str, Measured]],
) -> None:
    pattern = stopped["abrupt"]["gunicorn"].pattern
    assert pattern.in_hand.finished > 0
    assert pattern.in_hand.fin == pattern.in_hand.rst == 0
    assert pattern.later.hanging + pattern.later.rst > 0
    assert pattern.still_answers is False


@times_stops
@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_killed_main_process_leaves_a_worker_that_serves_and_both_checks_are_green(
    stopped: dict[str, dict[str, Measured]], kind: str
) -> None:
    measured = stopped["kill-main"][kind]
    pattern = measured.pattern
    assert measured.left == 1
    assert pattern.idle.kept == pattern.idle.total >= IDLE
    assert pattern.in_hand.finished == pattern.in_hand.total
    assert pattern.later.finished == pattern.later.total > 0
    assert pattern.new.finished == pattern.new.total > 0
    assert (pattern.listener_gone_s, pattern.ended_s) == (None, None)
    assert pattern.still_answers is True
    assert measured.l4.state == measured.l7.state == "ACTIVE"


@times_stops
def test_killed_gunicorn_arbiter_leaves_workers_that_answer_busy_clients_and_a_green_l4_check_only(
    stopped: dict[str, dict[str, Measured]],
) -> None:
    measured = stopped["kill-main"]["gunicorn"]
    pattern = measured.pattern
    assert measured.left in (1, 2)  # a worker that has no connection may have seen it and ended by then
    assert pattern.later.finished == pattern.later.total > 0
    assert pattern.still_answers is True
    assert pattern.new.hanging > 0
    assert pattern.listener_gone_s is None
    assert measured.l4.state == "ACTIVE"
    assert measured.l7.state == "FAILED"


@times_stops
@pytest.mark.parametrize("kind", SINGLE)
def test_killed_main_process_that_is_the_only_one_is_an_abrupt_stop(
    stopped: dict[str, dict[str, Measured]], kind: str
) -> None:
    measured = stopped["kill-main"][kind]
    assert measured.left == 0
    assert measured.pattern.idle.kept == 0
    assert measured.pattern.in_hand.fin + measured.pattern.in_hand.rst > 0
    assert measured.pattern.ended_s is not None
    assert measured.l4.state == measured.l7.state == "FAILED"


def test_what_a_killed_main_process_left_is_named_and_has_to_go_before_another_starts(
    lab: NamespaceLab,
) -> None:
    main_pid, *workers = lab.running("web nginx")
    arguments = ["server", "--name", NAME, "nginx", "stop", "--signal", "kill-main"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert f"nginx: left running: {', '.join(f'pid {pid}' for pid in workers)}" in result.stderr
    assert main_pid not in lab.running("web nginx")
    with pytest.raises(LabError, match="processes it left still run"):
        lab.start("nginx")
    assert not lab.stop("nginx", StopSignal.KILL_MAIN)
    assert lab.stop("nginx", StopSignal.KILL)
    assert lab.start("nginx")


@pytest.mark.parametrize("how", ["quit", "term"])
def test_raw_signals_are_sent_as_they_are(lab: NamespaceLab, how: str) -> None:
    assert lab.stop("builtin", StopSignal(how))
    assert lab.running("web builtin") == []
    assert lab.start("builtin")


def test_server_ignores_no_signal_though_l4lab_was_started_by_a_shell_in_the_background(
    lab: NamespaceLab,
) -> None:
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        lab.stop("uvicorn", StopSignal.KILL)
        lab.start("uvicorn")
    finally:
        signal.signal(signal.SIGQUIT, before)
    assert lab.stop("uvicorn", StopSignal.ABRUPT)
    assert lab.start("uvicorn")


# The user's own


SERVER = """\
import http.server, os, signal, sys
name, port, root = sys.argv[1:4]
os.chdir(root)
def ended(number, frame):
    print("ended by", signal.Signals(number).name, flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, ended)
print(os.environ["MODE"], os.environ["L4LAB_SERVER"], os.environ.get("PYTHONPATH"), flush=True)
http.server.ThreadingHTTPServer(("", int(port)), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_users_own_server_runs_where_its_file_is_and_stops_by_its_own_signals(own_lab: Path) -> None:
    (own_lab.parent / "app.py").write_text(SERVER)
    own_lab.write_text(
        f'name = "{OWN}"\nspeed = 20\n[[server]]\nname = "mine"\n'
        'command = "MODE=test python3 app.py {server} {port} {root}"\ngraceful_signal = "INT"\n'
    )
    made = labs.up(load(own_lab))
    try:
        assert curl(made, "http://192.0.2.10/?x") == "mine\n"
        assert made.stop("mine")
        log = made.web("mine").log.read_text()
        assert log.startswith("test mine None\n")
        assert "ended by SIGINT" in log
        assert made.start("mine")
        assert made.web("mine").kind.signal(StopSignal.ABRUPT) is signal.SIGKILL
        assert made.stop("mine", StopSignal.ABRUPT)
        assert made.running("web mine") == []
    finally:
        made.close()


def test_command_that_ends_at_once_fails_up_with_its_last_words(own_lab: Path) -> None:
    own_lab.write_text(
        f'name = "{OWN}"\n[[server]]\nname = "mine"\ncommand = "sh -c \'echo no port for me\'"\n'
    )
    with pytest.raises(LabError, match=re.compile("command ended at once.*no port for me", re.DOTALL)):
        labs.up(load(own_lab))


LISTENER = """\
import os, signal, socket, sys, time
listener = socket.create_server(("", int(sys.argv[1])))
{then}
signal.pause()
"""
DAEMON = """
if os.fork():
    os._exit(0)  # the first process ends, as daemon(3) has it
os.setsid()
if os.fork():
    os._exit(0)
"""
NEVER_DONE = """
def told(number, frame):
    listener.close()
signal.signal(signal.SIGTERM, told)
while True:
    signal.pause()
"""


def write_own(lab_toml: Path, command: str) -> None:
    lab_toml.write_text(f'name = "{OWN}"\nspeed = 20\n[[server]]\nname = "mine"\ncommand = "{command}"\n')


@pytest.mark.parametrize("late", [False, True], ids=["after it listens", "before it listens"])
def test_command_that_goes_into_the_background_fails_up_and_its_daemon_is_ended(
    own_lab: Path, late: bool
) -> None:
    listener = LISTENER.format(then="" if late else DAEMON)
    if late:
        listener = listener.replace("listener =", f"{DAEMON}\ntime.sleep(0.5)\nlistener =")
    (own_lab.parent / "app.py").write_text(listener)
    write_own(own_lab, "python3 app.py {port}")
    with pytest.raises(LabError) as caught:
        labs.up(load(own_lab))
    assert "command went into the background" in str(caught.value)
    assert "Keep it in the foreground: `nginx -g 'daemon off;'`" in str(caught.value)
    (pid,) = re.findall(r"python3 \(pid (\d+)\)", str(caught.value))
    assert process.started(int(pid)) is None
    assert state.read(OWN) is None
    assert namespace.identity(f"{OWN}-mine") is None


def test_command_that_a_shell_puts_into_the_background_fails_up(own_lab: Path) -> None:
    write_own(own_lab, "sh -c 'python3 -m http.server {port} &'")
    with pytest.raises(LabError, match=r"command went into the background.*which the lab has killed"):
        labs.up(load(own_lab))
    assert state.read(OWN) is None


def test_daemon_that_has_overwritten_its_environment_is_ended_too(own_lab: Path) -> None:
    settings = own_lab.parent / "nginx.conf"
    settings.write_text("pid nginx.pid; error_log error.log; events {} http { server { listen 80; } }")
    write_own(own_lab, f"nginx -p {own_lab.parent} -c {settings} -e error.log")
    with pytest.raises(LabError, match=r"command went into the background.*nginx.*which the lab has killed"):
        labs.up(load(own_lab))
    assert state.read(OWN) is None
    assert namespace.identity(f"{OWN}-mine") is None


def test_start_that_fails_leaves_alone_what_somebody_else_runs_on_the_node_meanwhile(own_lab: Path) -> None:
    app, go = own_lab.parent / "app.py", own_lab.parent / "go"
    app.write_text(LISTENER.format(then=""))
    write_own(own_lab, "python3 app.py {port}")
    made = labs.up(load(own_lab), wait=False)
    assert made.stop("mine")
    wait = f"import os, time\nwhile not os.path.exists('{go}'): time.sleep(0.01)\n"
    app.write_text(wait + DAEMON + LISTENER.format(then=""))
    with ThreadPoolExecutor() as pool:
        start = pool.submit(made.start, "mine")
        eventually(lambda: made.running("web mine"), "the command runs")
        with made.popen("mine", ["sleep", "30"], start_new_session=True) as child:
            made.run("mine", ["setsid", "--fork", "sleep", "30"], capture_output=False)
            go.touch()
            with pytest.raises(LabError, match=r"into the background.* left python3 \(pid \d+\), which"):
                start.result(30)
            assert child.poll() is None
            inode = namespace.identity(f"{OWN}-mine")
            left = [pid for pid, name in process.in_namespace(inode or 0) if name == "sleep"]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert len(left) == 2


def test_start_fails_and_names_the_process_that_has_the_port(own_lab: Path) -> None:
    (own_lab.parent / "app.py").write_text(LISTENER.format(then=""))
    write_own(own_lab, "python3 app.py {port}")
    made = labs.up(load(own_lab), wait=False)
    assert made.stop("mine")
    with made.popen("mine", ["python3", str(own_lab.parent / "app.py"), "80"]) as other:
        eventually(
            lambda: made.inside("mine", lambda: sock_diag.listens(frozenset({80}))), "the other listens"
        )
        result = CliRunner().invoke(main, ["server", "--name", OWN, "mine", "start"], catch_exceptions=False)
        assert result.exit_code == 1
        assert f"can't start command: port 80 is taken by python3 (pid {other.pid})" in result.stderr
        assert made.running("web mine") == []
        other.kill()
    assert made.start("mine")


def test_start_waits_for_the_servers_own_listener_and_for_no_other(
    own_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_lab.parent / "app.py").write_text(LISTENER.format(then=""))
    write_own(own_lab, "sh -c 'test -e quiet && exec sleep 60; exec python3 app.py {port}'")
    made = labs.up(load(own_lab), wait=False)
    assert made.stop("mine")
    (own_lab.parent / "quiet").touch()
    monkeypatch.setattr(web, "START_S", 1.0)
    monkeypatch.setattr(web, "_refuse_taken_ports", lambda *_: None)  # the other comes a moment later
    with made.popen("mine", ["python3", str(own_lab.parent / "app.py"), "80"]) as other:
        eventually(
            lambda: made.inside("mine", lambda: sock_diag.listens(frozenset({80}))), "the other listens"
        )
        with pytest.raises(LabError, match="command does not listen after 1 s"):
            made.start("mine")
        other.kill()


def test_start_after_a_stop_that_timed_out_fails_while_the_old_process_is_there(own_lab: Path) -> None:
    (own_lab.parent / "app.py").write_text(LISTENER.format(then=NEVER_DONE))
    write_own(own_lab, "python3 app.py {port}")
    made = labs.up(load(own_lab), wait=False)
    (pid,) = made.running("web mine")
    with pytest.raises(LabError, match=r"still runs 0\.1 s after"):
        made.stop("mine", timeout_s=0.1)
    eventually(lambda: not made.inside("mine", lambda: sock_diag.listens(frozenset({80}))), "nothing listens")
    with pytest.raises(LabError, match=rf"web mine runs \(pid {pid}\) and does not listen"):
        made.start("mine")
    assert made.stop("mine", StopSignal.KILL)
    assert made.start("mine")


def test_web_measure_prints_one_document_and_takes_its_lab_down() -> None:
    arguments = ["web", "measure", "builtin", "--stop", "abrupt", "--json"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (measured,) = json.loads(result.stdout)["measured"]
    assert (measured["kind"], measured["how"], measured["signal"]) == ("builtin", "abrupt", "SIGTERM")
    assert measured["pattern"]["idle"]["kept"] == 0
    code = CliRunner().invoke(main, ["status", "--name", "stops", "--json"], catch_exceptions=False)
    assert json.loads(code.stdout)["up"] is False
