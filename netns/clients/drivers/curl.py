"""Run copies of a program side by side and pass on each line they write with its time.

    python -m netns.copies --count 20 --spread 0.1 -- curl …

A line is "COPY TIME TEXT": the copy's number from 1 on, CLOCK_MONOTONIC seconds. The starts are spread over
`--spread` seconds, so that clients of the same rate do not all ask at the same moment. SIGTERM ends the
copies, and this with them.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import subprocess
import sys
import time

CHUNK = 65536


def main() -> None:
    parser = argparse.ArgumentParser(prog="netns.copies", description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    running: dict[int, subprocess.Popen[bytes]] = {}
    rest: dict[int, bytes] = {}

    def end(*_: object) -> None:
        for copy in running.values():
            copy.terminate()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    with selectors.DefaultSelector() as selector:
        began = time.monotonic()
        while len(rest) < options.count or running:
            wait_s = None
            if len(rest) < options.count:
                wait_s = began + len(rest) * options.spread / options.count - time.monotonic()
            if wait_s is not None and wait_s <= 0:
                number = len(rest) + 1
                copy = subprocess.Popen(options.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                running[number], rest[number] = copy, b""
                selector.register(copy.stdout, selectors.EVENT_READ, number)  # type: ignore[arg-type]
                continue
            for key, _ in selector.select(wait_s):
                number = key.data
                text = os.read(key.fd, CHUNK)
                now = time.monotonic()
                *lines, rest[number] = (rest[number] + text).split(b"\n")
                for line in lines:
                    sys.stdout.write(f"{number} {now:.6f} {line.decode(errors='replace')}\n")
                sys.stdout.flush()
                if not text:
                    selector.unregister(key.fileobj)
                    running.pop(number).wait()


if __name__ == "__main__":
    main()
