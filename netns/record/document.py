"""Reads `result.json` (docs/json.md) back as the values that it was written from, by their types.

A field that is missing or of another type is a LabError that names the file and the field. Fields that this
version does not know are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from netns.errors import LabError
from netns.record.recording import VERSION, Recording

Value = TypeVar("Value")
Reader = Callable[[Any], Any]

WORDS: Final = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


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
            return _reader(kind)(self._content[name])
        except _Wrong as wrong:
            raise LabError(f"{self.path}: {wrong.within(name)}") from None


class _Wrong(Exception):
    """What is wrong with a value, and where in the document it is."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self._problem = problem
        self._path = path

    def within(self, place: str) -> _Wrong:
        """The same, seen from the value that holds it at `place`."""
        joint = "." if self._path and not self._path.startswith("[") else ""
        return _Wrong(self._problem, f"{place}{joint}{self._path}")

    def __str__(self) -> str:
        return f"{self._path} {self._problem}"


@cache
def _reader(kind: Any) -> Reader:
    """What turns a value of JSON into one of that type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _anything
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return partial(_object, kind, {one.name: _reader(hints[one.name]) for one in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return partial(_member, kind)
    if origin in (Union, UnionType):
        (some,) = (one for one in arguments if one is not type(None))
        return partial(_optional, _reader(some))
    if origin is tuple:
        return partial(_list, _reader(arguments[0]))
    if kind is dict or origin in (dict, Mapping):
        return partial(_table, _reader(arguments[1]) if arguments else _anything)
    return partial(_plain, (int, float) if kind is float else (kind,), WORDS[kind])


def _anything(value: Any) -> Any:
    return value


def _plain(kinds: tuple[type, ...], words: str, value: Any) -> Any:
    if type(value) not in kinds:
        raise _Wrong(f"is {_said(value)}; {words} is allowed")
    return value


def _optional(reader: Reader, value: Any) -> Any:
    return None if value is None else reader(value)


def _member(kind: type[Enum], value: Any) -> Enum:
    for member in kind:
        if member.value == value:
            return member
    raise _Wrong(f"is {_said(value)}; {', '.join(str(member.value) for member in kind)} are allowed")


def _list(reader: Reader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Wrong(f"is {_said(value)}; a list is allowed")
    return tuple(_inside(reader, one, f"[{number}]") for number, one in enumerate(value))


def _table(reader: Reader, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"is {_said(value)}; an object is allowed")
    return {name: _inside(reader, one, name) for name, one in value.items()}


def _object(kind: Any, readers: Mapping[str, Reader], value: Any) -> Any:
    if not isinstance(value, dict):
        raise _Wrong(f"is {_said(value)}; an object is allowed")
    for name in readers:
        if name not in value:
            raise _Wrong("is missing", name)
    return kind(**{name: _inside(reader, value[name], name) for name, reader in readers.items()})


def _inside(reader: Reader, value: Any, place: str) -> Any:
    try:
        return reader(value)
    except _Wrong as wrong:
        raise wrong.within(place) from None


def _said(value: Any) -> str:
    """A value as JSON has it, its beginning only."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
