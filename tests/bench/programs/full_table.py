"""A Box alone, filled with sessions: what each takes, and the longest that one kept the others waiting.

full_table.py SESSIONS      prints one JSON object
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from struct import Struct
from time import perf_counter, thread_time

from lb.core.box import Box
from lb.core.health import Outcome, ProbeResult
from lb.core.service import ServerSettings, ServiceSettings

VIP = bytes((192, 0, 2, 10))
HEADERS = Struct("!BBHHHBBH4s4sHHIIBBHHH").pack
SYN, ACK = 0x02, 0x10


def packet(flow: int, flags: int) -> bytes:
    client = bytes((198, 18 + (flow >> 30), flow >> 22 & 255, flow >> 14 & 255))
    port, opens = 1024 + (flow & 0x3FFF), flags == SYN
    seq, ack = 1000 + (not opens), 0 if opens else 2001
    return HEADERS(0x45, 0, 40, 0, 0, 64, 6, 0, client, VIP, port, 80, seq, ack, 0x50, flags, 1024, 0, 0)


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS in /proc/self/status")


def main() -> None:
    count = int(sys.argv[1])
    box = Box(session_limit=count)
    servers = tuple(ServerSettings(f"rs{n}", bytes((10, 0, 0, n)), 1) for n in (1, 2))
    box.configure(0.0, [ServiceSettings(name="web", vip=VIP, port=80, dscp=10, servers=servers)])
    for _ in servers:
        now = box.next_deadline()
        box.handle_timer(now)
        for probe in box.take_probes(now):
            box.handle_probe(now, probe, ProbeResult(Outcome.SUCCESS, "200"))
    assert all(server.bound for server in box.services.servers.values())
    before, start = resident(), thread_time()
    longest_wall = longest_cpu = 0.0
    for flow in range(count):
        opens, acknowledges = packet(flow, SYN), packet(flow, ACK)
        wall, cpu = perf_counter(), thread_time()
        verdicts = box.handle_packet(100.0, opens), box.handle_packet(100.0, acknowledges)
        longest_cpu = max(longest_cpu, thread_time() - cpu)
        longest_wall = max(longest_wall, perf_counter() - wall)
        assert all(verdicts), f"flow {flow} was not forwarded: {box.dropped}"
    took = thread_time() - start
    assert len(box.table) == count
    sys.stdout.write(
        json.dumps(
            {
                "sessions": count,
                "bytes_per_session": (resident() - before) / count,
                "insert_us": took / count * 1e6,
                "longest_ms": longest_wall * 1e3,
                "longest_cpu_ms": longest_cpu * 1e3,
            }
        )
    )


if __name__ == "__main__":
    main()
