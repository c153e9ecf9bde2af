"""`l4lab docker attach --watch` on the example project, while project or engine go and come back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from netns.docker import ledger
from tests.docker.conftest import CURL, TOP, URL, Compose, MakeProject, eventually, l4lab, servers

pytestmark = pytest.mark.docker

NAME = "l4box-test-watch"
EXAMPLE = TOP / "examples" / "compose-project" / "docker-compose.yml"
WEBS = ("web1", "web2")


@pytest.fixture(scope="module")
def shop(make_project: MakeProject, tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The example, of images that are here, and with its box's configuration at speed 20."""
    images = tmp_path_factory.mktemp("images") / "images.yml"
    lines = ["services:"]
    for service in (*WEBS, "client"):
        lines += [f"  {service}:", "    image: ${STOCK_IMAGE}"]
    lines += ["  box:", "    volumes: ['${L4BOX_CONFIG}:/etc/l4box:ro']"]
    images.write_text("\n".join(lines) + "\n")
    box = tomllib.loads((EXAMPLE.parent / "box" / "box.toml").read_text())
    return make_project(NAME, EXAMPLE, images, box={**box, "speed": 20.0})


@contextmanager
def watching(compose: Compose, **environment: str) -> Iterator[Path]:
    """A watch in the background; what it has said so far is in the file."""
    argv = [sys.executable, "-m", "netns.cli", "docker", "attach", "--project", NAME, "--watch"]
    log = compose.directory / "watch.log"
    env = {**os.environ, **environment}
    with log.open("w") as output, subprocess.Popen(argv, stderr=output, env=env) as process:
        try:
            yield log
            assert process.poll() is None, log.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()


def wait_until_served(compose: Compose) -> None:
    """Both servers are ACTIVE, and answer the client on the VIP."""
    wanted = dict.fromkeys(WEBS, "ACTIVE")
    eventually(lambda: servers(compose.project) == wanted, "both are ACTIVE", 60)
    codes = [
        compose.project.run("client", [*CURL, "--output", "/dev/null", "--write-out", "%{http_code}", URL])
        for _ in range(4)
    ]
    assert Counter(one.stdout for one in codes) == {"200": 4}


def test_box_that_starts_with_no_virtual_server_has_those_of_the_labels_until_detach(shop: Compose) -> None:
    assert servers(shop.project) == {}
    assert l4lab("attach", "--project", NAME).returncode == 0
    wait_until_served(shop)
    with shop.project.box as api:
        (service,) = api.configuration()["virtual_server"]
    assert (service["name"], service["health_check"]["url"]) == ("vip-192-0-2-10-80", "/")
    assert l4lab("detach", "--project", NAME).returncode == 0
    with shop.project.box as api:
        assert api.configuration()["virtual_server"] == []


def test_watch_waits_for_a_project_that_is_taken_down_and_attaches_it_again(shop: Compose) -> None:
    with watching(shop) as log:
        wait_until_served(shop)
        shop("down", "--timeout", "1")
        gone = f"no container of the project '{NAME}' has the label l4box.role=box"
        eventually(lambda: gone in log.read_text(), "the watch says that the project is gone")
        shown = l4lab("status", "--project", NAME)
        assert shown.returncode == 1
        assert gone in shown.stderr
        shop("up", "--detach", "--no-build")
        wait_until_served(shop)
    assert log.read_text().count(gone) == 1
    assert l4lab("detach", "--project", NAME).returncode == 0


def test_detach_of_a_project_that_is_gone_ends_its_watch(shop: Compose) -> None:
    shop("up", "--detach", "--no-build")
    argv = [sys.executable, "-m", "netns.cli", "docker", "attach", "--project", NAME, "--watch"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        wait_until_served(shop)
        shop("down", "--timeout", "1")
        assert l4lab("detach", "--project", NAME).returncode == 0
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "there is nothing to watch any more" in process.stderr.read()
    assert ledger.read(NAME) is None


class Door:
    """A way to the engine by another socket, shut as if the engine had ended, and opened again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")).path
        self._open: list[socket.socket] = []
        self.url = f"unix://{path}"

    def open(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._open = []
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def shut(self) -> None:
        """Whoever is connected finds the connection closed, whoever comes finds nobody."""
        self._path.unlink()
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.socket(socket.AF_UNIX)
                there.connect(self._engine)
                self._open += [here, there]
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=_copy, args=[source, target], daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_watch_waits_for_an_engine_that_ends_and_follows_what_happens_after_it_is_back(
    shop: Compose, tmp_path: Path
) -> None:
    shop("up", "--detach", "--no-build")
    door = Door(tmp_path / "engine.sock")
    door.open()
    with watching(shop, DOCKER_HOST=door.url) as log:
        wait_until_served(shop)
        door.shut()
        eventually(lambda: "the Docker Engine has ended: waiting for it" in log.read_text(), "it is said")
        shop("restart", "--timeout", "1", "web1")  # has lost its VIP, and nobody has seen it
        eventually(lambda: servers(shop.project)["web1"] == "FAILED", "the box finds it")
        door.open()
        eventually(lambda: "the Docker Engine answers" in log.read_text(), "that is said as well")
        wait_until_served(shop)
        shop("restart", "--timeout", "1", "web2")
        eventually(lambda: "web2" in log.read_text().rpartition("Engine answers")[2], "events come again")
        wait_until_served(shop)
    door.shut()
    assert log.read_text().count("waiting for it") == 1
    assert l4lab("detach", "--project", NAME).returncode == 0
