"""What each flow of examples/ loses at each delay: the table of docs/deploy-flows.md.

    python -m tests.delay_table [--speed N] [--repeat N] [DELAY_MS …]

Each cell is REPEAT rehearsals in labs of their own. Rows are printed as they are measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"
FLOWS = {"trap.sh": None, "careful.sh": None, "l4-checked.sh": EXAMPLES / "l4-checked.toml"}
"""Each script and the lab that it is for; None: the default lab."""
DELAYS_MS = (0.0, 1.0, 5.0, 20.0)
NAME = "delay-table"
LIMIT_S = 900


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=float, default=10)
    parser.add_argument("--repeat", type=int, default=1, help="rehearsals a cell")
    parser.add_argument("delays_ms", type=float, nargs="*", default=DELAYS_MS, metavar="DELAY_MS")
    asked = parser.parse_args()
    say("| script | delay, ms | lost | of | because |\n| --- | --- | --- | --- | --- |")
    for script, lab in FLOWS.items():
        for delay_ms in asked.delays_ms:
            runs = [rehearsed(script, lab, delay_ms, asked.speed) for _ in range(asked.repeat)]
            say(row(script, delay_ms, runs))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def rehearsed(script: str, lab: Path | None, delay_ms: float, speed: float) -> dict[str, Any]:
    """The result document of one rehearsal; RuntimeError, with what it said, when there is none."""
    text = lab.read_text() if lab is not None else ""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "lab.toml"
        file.write_text(f"delay_ms = {delay_ms}\n{text}")
        argv = [
            sys.executable,
            "-m",
            "netns.cli",
            "rehearse",
            "-f",
            str(file),
            "--name",
            NAME,
            "--json",
        ]
        argv += ["--speed", str(speed), "--", str(EXAMPLES / script), "{server}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if not done.stdout:
        raise RuntimeError(f"{script} at {delay_ms:g} ms: exit code {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout))


def row(script: str, delay_ms: float, runs: list[dict[str, Any]]) -> str:
    """The table's row: a figure a run, and the causes of all runs together."""
    causes = sum((Counter(run["causes"]) for run in runs), Counter[str]())
    because = ", ".join(f"{count} × {cause}" for cause, count in causes.most_common()) or "-"
    lost, requests = (", ".join(f"{run[key]:,}" for run in runs) for key in ("lost", "requests"))
    return f"| `{script}` | {delay_ms:g} | {lost} | {requests} | {because} |"


if __name__ == "__main__":
    main()
