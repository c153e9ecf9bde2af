"""pytest fixtures for tests of deploys: a lab for the session, rehearsals in it, clients, captures.

    def test_deploy_loses_nothing(l4lab):
        result = l4lab.rehearse(["./deploy.sh", "{server}"])
        assert result.passed, result.judgement

    def test_deploy_loses_nothing_whenever_it_begins(l4lab):
        result = l4lab.sweep(["./deploy.sh", "{server}"], count=10)
        assert result.passed, result.text

| fixture | scope | what it is |
| --- | --- | --- |
| `l4lab` | session | the lab (`L4Lab`, which rehearses and sweeps), whole again before each test |
| `l4box` | function | a client of the box's API (`lb.client.BoxClient`) |
| `keepalive_clients` | function | starts clients: `keepalive_clients("curl:20,urllib3:5")` |
| `capture` | function | starts a capture: `capture("client", "rs2")`; its file is whole at the test's end |

`@pytest.mark.l4lab(speed=20, config="lab.toml")` gives a test a lab of those settings; any key of lab.toml
is allowed. Every test that uses the lab bears the mark, so `-m "not l4lab"` leaves them out. Where a test
failed, its reports and captures, the box's log and the rulesets are kept, and the failure says where.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netns.linux.privileges import require_root
from netns.plan import speeds

# Every pytest run loads this file: what takes long to import is imported by the fixtures.
if TYPE_CHECKING:
    from lb.client import BoxClient
    from netns.analysis.rehearsal import Rehearsal
    from netns.analysis.sweep import Sweep
    from netns.lab.capture import Capture
    from netns.namespaces.lab import NamespaceLab
    from netns.plan.config import LabConfig
    from netns.record.recording import Request
    from netns.rehearsal.spec import RehearsalSpec

"""Of the labs that sweeps take place in."""
KEPT = "l4lab-failures"

_Directory = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("l4lab", "rehearsals of deploys in an L4 lab")
    group.addoption("--l4lab-config", metavar="FILE", help="lab.toml of the lab; none: the default lab")
    group.addoption(
        "--l4lab-speed", type=float, help=f"divides every time of the box [default: {speeds.OWN_COMMAND:g}]"
    )
    group.addoption("--l4lab-keep", metavar="DIR", default=KEPT, help=f"for what failed [default: {KEPT}]")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "l4lab(speed, config, **settings): uses the lab; settings are those of lab.toml"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("l4lab")
    if marker is not None and marker.kwargs and "l4lab" in metafunc.fixturenames:
        words = "-".join(f"{key}={value}" for key, value in marker.kwargs.items())
        metafunc.parametrize("l4lab", [marker.kwargs], indirect=True, scope="session", ids=[words[:60]])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "l4lab" in getattr(item, "fixturenames", ()):
            item.add_marker("l4lab")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    directory = item.stash.get(_Directory, None)
    if directory is not None and report.when == "call" and report.failed:
        funcargs = getattr(item, "funcargs", {})
        kept = _kept(item)
        _gather(funcargs["l4lab"].lab, directory)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(directory, kept)
        report.sections.append(
            ("l4lab", f"kept in {kept}: {', '.join(sorted(p.name for p in kept.iterdir()))}")
        )
    return report


class L4Lab:
    """The session's lab, for one test at a time. `lab` has the rest of what a lab can do."""

    def __init__(self, lab: NamespaceLab) -> None:
        self.lab = lab
        self.directory = Path()
        """Of the test that runs: its reports and captures."""

    def rehearse(
        self,
        command: Sequence[str],
        *,
        servers: Sequence[str] | None = None,
        clients: str | None = None,
        parallel: int = 1,
        timeout_s: float = 900.0,
        allow: Sequence[str] = (),
        allow_lost: int = 0,
    ) -> Rehearsal:
        """Run the command for each server in turn, under load; "{server}" stands for the server's name.

        A command without it runs once. `allow`: causes of losses that are accepted, as in "closed_under_way".
        The result has `passed`, `judgement` (verdict, text, reasons), `lost`, `explained` (each lost request
        and why) and `advice`. A result that is inconclusive has not passed, though it may have lost nothing.
        """
        from netns.rehearsal.play import rehearse
        from netns.report import write

        report = self._report("rehearsal")
        spec = self._spec(self.lab.config, command, servers, clients, parallel, timeout_s, allow, allow_lost)
        found = rehearse(self.lab, spec, report=report, ours=True, say=print, progress=lambda _: None)
        write(found.recording, report, found)
        return found

    def sweep(
        self,
        command: Sequence[str],
        *,
        count: int = 10,
        vary: Sequence[str] = (),
        servers: Sequence[str] | None = None,
        clients: str | None = None,
        parallel: int = 1,
        timeout_s: float = 900.0,
        allow: Sequence[str] = (),
        allow_lost: int = 0,
    ) -> Sweep:
        """Rehearse `count` times, each begun at another moment of the health interval: one pass can be luck.

        The labs are of its own, with the settings of the session's lab, and with each combination of those
        that `vary` names besides, as in "retries=1,2". The command must be one that can be repeated. The
        other parameters are those of `rehearse`. The result has `passed`, which is true when each rehearsal
        passed, `text`, `verdict` and `combinations`.
        """
        from netns.rehearsal.sweep import OwnLabs, sweep, varied
        from netns.report import write, write_sweep

        def keep(found: Rehearsal, directory: Path) -> bool:
            write(found.recording, directory, found)
            return True

        report = self._report("sweep")
        config = self.lab.config.model_copy(update={"name": f"{self.lab.config.name}-sweep"})
        spec = self._spec(config, command, servers, clients, parallel, timeout_s, allow, allow_lost)
        with OwnLabs(print) as labs:
            settings = varied(config, vary)
            swept = sweep(
                labs,
                spec,
                settings,
                count,
                report=report,
                keep=keep,
                say=print,
                progress=lambda _: None,
            )
        write_sweep(swept, report)
        return swept

    def restore(self) -> None:
        """Make the lab whole: box and web servers run, VIPs and health files are there, all are ACTIVE."""
        from netns.lab.restore import restore

        restore(self.lab)

    def _report(self, kind: str) -> Path:
        """A directory for the next report of that kind."""
        return self.directory / f"{kind}-{len(list(self.directory.glob(f'{kind}-*'))) + 1}"

    def _spec(
        self,
        config: LabConfig,
        command: Sequence[str],
        servers: Sequence[str] | None,
        clients: str | None,
        parallel: int,
        timeout_s: float,
        allow: Sequence[str],
        allow_lost: int,
    ) -> RehearsalSpec:
        from netns.analysis.terms import Terms, allowed_causes
        from netns.rehearsal.spec import specify

        return specify(
            config,
            command,
            servers=servers,
            clients=clients,
            parallel=parallel,
            timeout_s=timeout_s,
            terms=Terms(allow_lost, allowed_causes(allow)),
            say=print,
        )


class Fleet:
    """Clients at work, from their start to the test's end."""

    def __init__(self, run: Any) -> None:
        self._run = run

    @property
    def requests(self) -> list[Request]:
        """Those that have ended until now."""
        self._run.look()
        return list(self._run.requests)

    @property
    def lost(self) -> list[Request]:
        from netns.record.recording import Outcome

        return [request for request in self.requests if request.outcome is not Outcome.OK]

    def wait_until_all_answered(self, within_s: float = 120) -> None:
        """Return when each client has had an answer; box seconds."""
        self._run.wait_until_all_answered(within_s)


@pytest.fixture(scope="session")
def l4lab(request: pytest.FixtureRequest) -> Iterator[L4Lab]:
    """The lab: made for the first test that asks for it, taken down after the last."""
    from lb.config import parse
    from netns import labs
    from netns.plan.config import LabConfig, load

    settings = dict(getattr(request, "param", {}))
    options = request.config.option
    file = settings.pop("config", options.l4lab_config)
    speed = settings.pop("speed", options.l4lab_speed)
    config = load(Path(file) if file else None, name=_name(), speed=speed)
    if settings:
        document = {**config.model_dump(mode="json", exclude_unset=True), **settings}
        config = parse(LabConfig, document, "@pytest.mark.l4lab")
    require_root()
    lab = labs.up(config, say=print)
    try:
        yield L4Lab(lab)
    finally:
        lab.close()
        labs.down(config.name, say=print)


@pytest.fixture(autouse=True)
def _whole_l4lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before each test that uses the lab: it is whole, and there is a directory for what the test leaves."""
    if "l4lab" not in request.fixturenames:
        return
    found: L4Lab = request.getfixturevalue("l4lab")
    found.directory = tmp_path_factory.mktemp("l4lab")
    request.node.stash[_Directory] = found.directory
    found.restore()


@pytest.fixture
def l4box(l4lab: L4Lab) -> BoxClient:
    """What the box knows: `servers()`, `sessions()`, `events()`, …"""
    return l4lab.lab.box


@pytest.fixture
def keepalive_clients(l4lab: L4Lab) -> Iterator[Callable[[str], Fleet]]:
    """Starts clients that keep their connections; they are ended with the test."""
    from netns.clients.kinds import parse_clients
    from netns.play.run import begin

    with ExitStack() as held:

        def start(clients: str) -> Fleet:
            wanted = parse_clients(clients)
            run = held.enter_context(begin(l4lab.lab, {}, clients=wanted, say=print, seed=0, captures={}))
            run.start_clients()
            return Fleet(run)

        yield start


@pytest.fixture
def capture(l4lab: L4Lab) -> Iterator[Callable[..., Capture]]:
    """Starts captures at nodes; `stop()` gives a capture's file, a pcapng; the test's end stops it too."""
    with ExitStack() as held:

        def start(*nodes: str, expression: str = "") -> Capture:
            number = len(list(l4lab.directory.glob("capture-*")))
            path = l4lab.directory / f"capture-{number + 1}.pcapng"
            path.touch()
            return held.enter_context(l4lab.lab.capture(nodes, path, expression=expression))

        yield start


def _name() -> str:
    """The lab's: a worker of pytest-xdist has a lab of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    return f"pytest-{worker}" if worker else "pytest"


def _kept(item: pytest.Item) -> Path:
    name = re.sub(r"[^\w.=-]+", "-", item.nodeid).strip("-")
    return Path(item.config.option.l4lab_keep).absolute() / name


def _gather(lab: NamespaceLab, directory: Path) -> None:
    """What helps to understand a failure, as far as it is to be had."""
    directory.mkdir(parents=True, exist_ok=True)
    if lab.box_log.exists():
        shutil.copy(lab.box_log, directory / "box.log")
    for node in lab.plan.nodes:
        rules = [_said(lab, node.name, ["nft", "list", "ruleset"])]
        rules.append(_said(lab, node.name, ["iptables-save", "-t", "mangle"]))
        (directory / f"rules-{node.name}.txt").write_text("\n".join(rules))
    box = {}
    for what in ("servers", "stats"):
        try:
            box[what] = getattr(lab.box, what)()
        except Exception as error:  # noqa: BLE001 - a box that does not answer is a finding, too
            box[what] = str(error)
    (directory / "box.json").write_text(json.dumps(box, indent=1, default=str))


def _said(lab: NamespaceLab, node: str, argv: list[str]) -> str:
    try:
        return str(lab.run(node, argv, timeout=20).stdout)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{argv[0]}: {error}\n"
