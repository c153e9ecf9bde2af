"""Python packages that web servers come in: those of the environment that l4lab runs in."""

from __future__ import annotations

import sys
from importlib import metadata


def python_version(package: str) -> str | None:
    """None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python_fix(package: str) -> str:
    return f"{sys.executable} -m pip install {package}"
