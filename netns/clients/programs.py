"""Which programs and libraries of this machine drive clients: their versions, "" where there is none."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from functools import cache
from importlib import metadata

from netns.linux.programs import installed


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


def node() -> str:
    """ "v20.20.2" """
    return _word(_said("node", "--version"), 0).removeprefix("v")


def java() -> str:
    """Of a JDK: a mere JRE has no compiler to run a source file with. "openjdk 17.0.15 2025-04-15" …"""
    modules = _said("java", "--list-modules")
    return _word(_said("java", "--version"), 1) if "jdk.compiler@" in modules else ""


def go() -> str:
    """ "go version go1.19.8 linux/amd64" """
    return _word(_said("go", "version"), 2).removeprefix("go")


def wrk() -> str:
    """ "wrk debian/4.1.0-3+b2 [epoll] Copyright …" """
    return _word(_said("wrk", "-v"), 1)


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
