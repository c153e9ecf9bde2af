"""How `l4box` ends. Usage errors are click's 2."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
BAD_CONFIG: Final = 3
UNREACHABLE: Final = 4
NOT_PERMITTED: Final = 5
"""Not permitted, or a kernel feature or program is missing."""
INTERRUPTED: Final = 130
