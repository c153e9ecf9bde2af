"""What is measured of l4box by itself: a full table, its pauses, a storm of resets, start times."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lb.client import BoxClient
from lb.config import BoxConfig
from netns import web
from netns.lab import box
from netns.linux import process, programs
from netns.linux.process import Process
from tests.bench import contenders
from tests.bench.bed import BUILD, DSCPS, HTTP, NAME, OTHER_VIP, PROGRAMS, VIP, Bed, bed, program
from tests.bench.contenders import cpu_s
from tests.bench.work import Figures, WorkFailed, flows

NODE = "alone"
BOX = f"{NAME}-{NODE}"
LAB = f"{NAME}-lab"
_AGED_WITHIN_S = 120.0
_STORM_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    sessions: int
    storm: int
    seconds: float
    starts: int
    speed: float
    """Of the box whose table ages out: the least idle timeout is 120 of its seconds."""


def table(size: Size) -> Figures:
    """A Box without a daemon, in a process of its own."""
    script = [sys.executable, str(PROGRAMS / "full_table.py"), str(size.sessions)]
    done = subprocess.run(
        script, env=programs.environment(), capture_output=True, text=True, check=True, timeout=600
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def full(size: Size) -> Figures:
    """A daemon whose table fills, is worked with, is read by its API, ages out; its longest pauses."""
    settings = {"aging_s": 3600, "health_check": {"kind": "l4", "interval_s": 10, "timeout_s": 5}}
    with bed([NODE]) as made:
        config = _with(contenders.box_config(made, BOX, "kernel", **settings), speed=size.speed)
        config = _with(config, sessions={"limit": size.sessions + 1000})
        daemon, pause = _watched(made, config)
        few = min(1000, size.sessions)
        flows(made, "open", few)
        flows(made, "run", few, size.seconds)  # what comes once is in the memory now
        figures: Figures = {}
        quiet = [flows(made, "run", few, size.seconds)["per_s"] for _ in range(3)]
        before, pauses = _resident(daemon), {"idle": pause()}
        figures["opened_per_s"] = flows(made, "open", size.sessions)["per_s"]
        pauses["insert"] = pause()
        figures["daemon_bytes_per_session"] = (_resident(daemon) - before) / (size.sessions - few)
        busy, cpu, packets = [], cpu_s(daemon), 0
        for _ in range(3):
            many = flows(made, "run", size.sessions, size.seconds)
            busy.append(many["per_s"])
            packets += many["arrived"]
        figures["many_cpu_us"] = (cpu_s(daemon) - cpu) / packets * 1e6
        few_again = [flows(made, "run", few, size.seconds)["per_s"] for _ in range(3)]
        figures |= {
            "few_per_s": statistics.median(quiet),
            "many_per_s": statistics.median(busy),
            "few_of_many_per_s": statistics.median(few_again),
        }
        pauses["packets"] = pause()
        with box.client(BOX) as api:
            start, rows = time.monotonic(), 0
            for _ in api.sessions():
                rows += 1
                if time.monotonic() - start > 20 * size.seconds:
                    break
            figures["listed_per_s"] = rows / (time.monotonic() - start)
            pauses["api"] = pause()
            api.stats()
            pauses["stats"] = pause()
            _shorten_aging(made, daemon, config, api)
            pauses["reload"] = pause()
            _age_out(api)
        pauses["aging"] = pause()
        for phase, longest in pauses.items():
            figures[f"pause_{phase}_ms"] = longest["wall_ms"]
            figures[f"pause_{phase}_cpu_ms"] = longest["cpu_ms"]
            figures[f"pause_{phase}_in"] = longest["where"]
        return figures


def _shorten_aging(made: Bed, daemon: Process, config: BoxConfig, api: BoxClient) -> None:
    """A shorter idle timeout by a reload: all sessions are due about at once."""
    services = [service.model_copy(update={"aging_s": 120.0}) for service in config.virtual_server]
    box.write_configuration(_with(config, virtual_server=services), made.directory / NODE / "box.toml")
    known = _reloads(api)
    os.kill(daemon.pid, signal.SIGHUP)
    contenders.wait(lambda: _reloads(api) > known, "the box has reloaded", daemon)


def _reloads(api: BoxClient) -> int:
    return sum(event["kind"] == "reconfigured" for event in api.events())


def _age_out(api: BoxClient) -> None:
    """Return when all sessions have gone."""
    deadline = time.monotonic() + _AGED_WITHIN_S
    while sum(row["sessions"] for row in api.servers()):
        if time.monotonic() > deadline:
            raise WorkFailed(f"sessions are left {_AGED_WITHIN_S:g} s after they were due")
        time.sleep(0.1)


def storm(size: Size, pace: float) -> Figures:
    """A server fails that has all the sessions of a virtual server; what those of another notice."""
    with bed([NODE]) as made:
        config = _storm_config(made, pace)
        _start(made, NODE, config)
        made.switch(NODE)
        flows(made, "open", size.storm)
        flows(made, "run", size.storm, 2 * size.storm / 50_000)  # established, and none is idle
        log = made.directory / "latency.log"
        quiet_s, after_s = max(1.0, size.seconds), 1.0 + 1.5 * size.storm / (pace or 50_000)
        lasts = f"{quiet_s + after_s + 1:g}"
        load = [program("paced"), str(OTHER_VIP), str(HTTP), "16", "1000", lasts, str(log)]
        with subprocess.Popen(made.command("client", load), stdout=subprocess.DEVNULL) as other:
            try:
                time.sleep(quiet_s)
                failed = web.Web(
                    "rs2", web.KINDS["nginx"], made.directory / "rs2", (HTTP,), (_health_file(made),)
                )
                web.health_off(failed)
                with box.client(BOX) as api:
                    began, ended = _storm_events(api)
                other.wait(timeout=after_s + 60)
            finally:
                other.kill()
        arrived = _resets(made)
        if arrived < 0.9 * size.storm:
            raise WorkFailed(f"of {size.storm} clients {arrived} were sent a RST")
        end = _epoch(ended["time"])
        start = _epoch(began["time"])
        lines = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
        quiet = [latency for due, latency in lines if due < start - 0.1 and latency >= 0]
        during = [latency for due, latency in lines if start <= due <= end]
        return {
            "resets": float(ended["resets"]),
            "arrived": float(arrived),
            "took_s": end - start,
            "per_s": ended["resets"] / max(ended["took_s"], 1e-3),
            "quiet_p99_us": _p99(quiet),
            "storm_p99_us": _p99([latency for latency in during if latency >= 0]),
            "storm_samples": float(len(during)),
            "storm_failed": float(sum(latency < 0 for latency in during)),
        }


def _storm_config(made: Bed, pace: float) -> BoxConfig:
    services = [
        {
            "name": name,
            "address": vip,
            "port": HTTP,
            "dscp": DSCPS[vip],
            "health_check": {"interval_s": 1, "on_bad_status": "immediate"},
            "reset_on_port_fail": {"enabled": True, "pace": pace},
            "real_server": [{"name": server, "address": made.plan.node(server).address}],
        }
        for name, vip, server in (("falls", VIP, "rs2"), ("stands", OTHER_VIP, "rs1"))
    ]
    return BoxConfig.model_validate({"name": BOX, "virtual_server": services})


def _health_file(made: Bed) -> Path:
    return made.directory / "rs2" / "www" / "health_check.html"


def _storm_events(api: BoxClient) -> tuple[dict[str, Any], dict[str, Any]]:
    deadline = time.monotonic() + _STORM_WITHIN_S
    while time.monotonic() < deadline:
        found = {event["kind"]: event for event in api.events()}
        if "reset_ended" in found:
            return found["reset_started"], found["reset_ended"]
        time.sleep(0.05)
    raise WorkFailed(f"the storm has not ended after {_STORM_WITHIN_S:g} s")


def starts(size: Size) -> Figures:
    """Seconds until it is there, the median of several: the box, a lab of five nodes, the command's help."""
    figures = {}
    with bed([NODE]) as made:
        config = contenders.box_config(made, BOX, "kernel")
        taken = []
        for attempt in range(size.starts):
            start = time.monotonic()
            daemon = _start(made, f"{NODE}{attempt}", config, bound=False)
            taken.append(time.monotonic() - start)
            process.send(daemon, signal.SIGTERM)
            process.wait(daemon, 10.0)
        figures["box_s"] = statistics.median(taken)
    figures["help_s"] = statistics.median(_takes("lb.cli", "--help") for _ in range(size.starts))
    taken = []
    for _ in range(size.starts):
        try:
            taken.append(_takes("netns.cli", "up", "--name", LAB, "-f", str(_lab_file()), "--no-wait"))
        finally:
            _takes("netns.cli", "down", "--name", LAB)
    figures["lab_s"] = statistics.median(taken)
    return figures


def _takes(module: str, *arguments: str) -> float:
    start = time.monotonic()
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env=programs.environment(), capture_output=True, check=True, timeout=60)
    return time.monotonic() - start


def _lab_file() -> Path:
    """A lab of client, router, box and two servers."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / "lab.toml"
    path.write_text('[[server]]\nname = "rs1"\n\n[[server]]\nname = "rs2"\n')
    return path


def _with(config: BoxConfig, **changes: Any) -> BoxConfig:
    return BoxConfig.model_validate({**config.model_dump(), **changes})


def _start(made: Bed, role: str, config: BoxConfig, *, bound: bool = True) -> Process:
    directory = made.directory / role
    directory.mkdir()
    box.write_configuration(config, directory / "box.toml")
    daemon = box.start(config.name, made.plan.node(NODE).namespace, directory, lambda p: made.record(role, p))
    if bound:
        contenders.wait_until_bound(config.name)
    return daemon


def _watched(made: Bed, config: BoxConfig) -> tuple[Process, Callable[[], dict[str, Any]]]:
    """A daemon with a watch on its event loop, and what tells its longest pause since the last time."""
    directory = made.directory / NODE
    directory.mkdir()
    file, output = directory / "box.toml", directory / "pause.json"
    box.write_configuration(config, file)
    daemon = made.start(
        NODE, NODE, [sys.executable, str(PROGRAMS / "watched_box.py"), str(file), str(output)]
    )
    contenders.wait(lambda: box.listening(config.name), "the box listens", daemon)
    contenders.wait_until_bound(config.name)
    made.switch(NODE)

    def pause() -> dict[str, Any]:
        output.unlink(missing_ok=True)
        os.kill(daemon.pid, signal.SIGUSR1)
        contenders.wait(output.exists, "the box has told its longest pause", daemon)
        longest: dict[str, Any] = json.loads(output.read_text())
        return longest

    return daemon, pause


def _resident(daemon: Process) -> int:
    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS in /proc/PID/status")


def _resets(made: Bed) -> int:
    """RSTs that have arrived at the clients that `flows` pretended to be."""
    listed = json.loads(made.run("client", ["nft", "--json", "list", "chain", "ip", "bench", "resets"]))
    rule = next(entry["rule"] for entry in listed["nftables"] if "rule" in entry)
    counter = next(part["counter"] for part in rule["expr"] if "counter" in part)
    return int(counter["packets"])


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(0.99 * (len(latencies) - 1))] if latencies else -1.0
