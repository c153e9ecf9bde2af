"""The lab around the box: clients, a router and real servers, in network namespaces or containers.

Each folder is a room; docs/architecture.md says what is in it, and import-linter which may know which.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Final

MOVED: Final = {
    "netns.run": "netns.play.run",
    "netns.scenario": "netns.play.scenario",
    "netns.recording": "netns.record.recording",
    "netns.wire": "netns.record.segments",
    "netns.config": "netns.plan.config",
    "netns.lifecycle": "netns.labs",
}
"""Where scenarios and tests of 0.1 imported from, and where from now. To be removed in 0.3."""


class _Moved:
    """Finds and loads a module by the name that it had in 0.1, with a DeprecationWarning."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is {new} now", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed, by its own name: the import system has just given it the old one's spec."""
        module.__spec__ = self._spec


sys.meta_path.append(_Moved())
