"""Where tables and sentences for people go."""

from __future__ import annotations

import os
import sys
from typing import Final

from rich.console import Console

_UNBOUNDED: Final = 10_000
"""Columns of what is no terminal: a pipe, a file."""


def console() -> Console:
    """On stdout: as wide as the terminal, or as COLUMNS says. What is piped somewhere is whole."""
    bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if bounded else _UNBOUNDED)
