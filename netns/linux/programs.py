"""Programs that are installed on this machine, and the environment they are run in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

_CODE: Final = Path(__file__).parents[2]


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where system programs are, whatever PATH root has."""


def installed(program: str) -> str | None:
    """The path of a system program, None when it is not installed."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def needed(program: str) -> str:
    """The path of a program whose kind was found to be installed; its name where it is not any more."""
    return installed(program) or program


def program_version(program: str, *options: str) -> str | None:
    """The first thing like a version that the program says of itself; None when it is not installed."""
    path = installed(program)
    if path is None:
        return None
    said = subprocess.run([path, *options], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found.group() if found else "of an unknown version"


def system_environment() -> dict[str, str]:
    """This process's, but system programs are found, and no host's proxy, which no node can reach."""
    kept = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"}


def environment() -> dict[str, str]:
    """The environment of what the lab runs of its own: this code importable from cwd /."""
    return {**system_environment(), "PYTHONPATH": str(_CODE)}
