"""Where each running box has its socket and its lock: NAME.sock and NAME.lock."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RUN_DIRECTORY: Final = Path("/run/l4box")
