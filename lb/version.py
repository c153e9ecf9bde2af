"""The version that runs."""

from __future__ import annotations


def version() -> str:
    """Of the installed distribution; "unknown" where the source tree runs uninstalled."""
    from importlib import metadata

    try:
        return metadata.version("l4box")
    except metadata.PackageNotFoundError:
        return "unknown"
