"""Which programs and libraries of this machine drive clients: their versions, "" where there is none."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from functools import cache
from importlib import metadata

from netns.web import installed


def package(name: str) -> Callable[[], str]:
    """The version of a Python package, in the interpreter that runs this."""

    def version() -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return ""

    return version


def python() -> str:
    return platform.python_version()


def curl() -> str:
    """ "curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1 …" """
    return _word(_said("curl", "--version"), 1)


@cache
def _said(program: str, *arguments: str) -> str:
    """What the program says of itself, on whichever of its outputs; "" when there is none."""
    path = installed(program)
    if path is None:
        return ""
    result = subprocess.run(
        [path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return result.stdout


def _word(text: str, place: int) -> str:
    words = text.split()
    return words[place] if place < len(words) else ""
