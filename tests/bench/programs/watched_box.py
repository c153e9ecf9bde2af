"""`l4box run`, with a watch on its event loop: how long one callback kept everything else waiting.

    watched_box.py CONFIG OUTPUT

On SIGUSR1 the longest callback since the last time goes to OUTPUT as JSON: by the clock, and by processor
time, which does not count what another process did meanwhile on the same processor.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, thread_time

from lb import daemon


@dataclass
class Longest:
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    where: str = ""


def main() -> int:
    config, output = Path(sys.argv[1]), Path(sys.argv[2])
    longest = Longest()
    run = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        wall, cpu = perf_counter(), thread_time()
        run(handle)
        wall_ms, cpu_ms = (perf_counter() - wall) * 1e3, (thread_time() - cpu) * 1e3
        longest.wall_ms = max(longest.wall_ms, wall_ms)
        if cpu_ms > longest.cpu_ms:
            longest.cpu_ms = cpu_ms
            callback = handle._callback  # type: ignore[attr-defined]
            task = getattr(callback, "__self__", None)
            named = task.get_coro() if isinstance(task, asyncio.Task) else callback
            longest.where = getattr(named, "__qualname__", repr(named))

    def tell(*_: object) -> None:
        fresh = output.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(longest)))
        fresh.replace(output)
        longest.__init__()  # type: ignore[misc]

    setattr(asyncio.Handle, "_run", watched)  # noqa: B010 - a method may not be assigned to, says mypy
    signal.signal(signal.SIGUSR1, tell)
    return daemon.run(config)


if __name__ == "__main__":
    sys.exit(main())
