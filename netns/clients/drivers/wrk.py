"""Volume: wrk with a connection for each client. It logs no request, and when it ends, their sum."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

from netns.clients import log
from netns.clients.log import Volume
from netns.clients.spec import ClientSpec, read

SCRIPT = Path(__file__).with_suffix(".lua")


def command(spec: ClientSpec) -> list[str]:
    """wrk's command line. It ends by itself at the end of the lifetime, or by SIGINT, and says the sum."""
    argv = ["wrk", "-t", "1", "-c", str(spec.count), "-d", f"{spec.lifetime_s}s", "-s", str(SCRIPT)]
    if spec.max_time_s:
        argv += ["--timeout", f"{math.ceil(spec.max_time_s)}s"]
    return [*argv, spec.url(spec.client), "--", f"{1000 / spec.rate:.0f}"]


def main() -> None:
    spec = read(sys.argv[1:])
    with subprocess.Popen(command(spec), stdout=subprocess.PIPE, text=True) as wrk:
        signal.signal(signal.SIGTERM, lambda *_: wrk.send_signal(signal.SIGINT))
        assert wrk.stdout is not None  # noqa: S101 - it is a pipe
        for line in wrk.stdout:
            if line.startswith("{"):
                log.write_sum(Volume(client=spec.client, **json.loads(line)))


if __name__ == "__main__":
    main()
