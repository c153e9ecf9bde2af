"""What this process may do here."""

from __future__ import annotations

import os

from netns.errors import MissingError


def require_root() -> None:
    """MissingError when this is not root."""
    if os.geteuid() != 0:
        raise MissingError("network namespaces need root: run this as root, or by sudo")
