"""Reads `result.json` (docs/json.md) back as the values that it was written from, by their types.

A field that is missing or of another type is a LabError that names the file and the field. Fields that this
version does not know are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from netns.errors import LabError
from netns.record.recording import VERSION, Recording

Value = TypeVar("Value")


class Document:
    """A `result.json`, whose fields are taken by name and type."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        """LabError when it is not of the version that this l4lab reads."""
        self.path = path
        self._content = content
        if "version" not in content:
            raise LabError(
                f"{path}: version is missing: an older l4lab wrote this document, which does not hold all "
                "that a verdict needs. Rehearse again"
            )
        version = self.take("version", int)
        if version != VERSION:
            raise LabError(
                f"{path}: version is {version}, and this l4lab reads version {VERSION}: "
                "use the l4lab that wrote it"
            )

    @classmethod
    def read(cls, path: Path) -> Document:
        """LabError when there is none, or when it is not whole."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}: name the directory of a report") from error
        except (ValueError, RecursionError) as error:
            raise LabError(f"{path}: is no whole JSON document: {error}") from error
        if not isinstance(content, dict):
            raise LabError(f"{path}: is no JSON object")
        return cls(path, content)

    def take(self, name: str, kind: type[Value]) -> Value:
        """The field's value, as a value of that type: a dataclass of this project, a tuple, a dict, …"""
        value: Value = self._take(name, kind)
        return value

    def recording(self) -> Recording:
        """The run that the document tells of."""
        hints = get_type_hints(Recording)
        names = {one.name: one.name for one in fields(Recording)} | {"requests": "request_log"}
        return Recording(**{field: self._take(name, hints[field]) for field, name in names.items()})

    def _take(self, name: str, kind: Any) -> Any:
        if name not in self._content:
            raise LabError(f"{self.path}: {name} is missing")
        try:
            return TypeAdapter(kind).validate_json(json.dumps(self._content[name]), strict=True)
        except ValidationError as error:
            raise LabError(f"{self.path}: {_explain(name, error.errors()[0])}") from None


def _explain(name: str, problem: Mapping[str, Any]) -> str:
    """One mistake of a field: its place, its value, what is allowed."""
    place = name + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{place} is missing"
    value, message = json.dumps(problem["input"]), problem["msg"]
    shown = value if len(value) <= 40 else f"{value[:40]}…"
    return f"{place} is {shown}: {message[0].lower()}{message[1:]}"
