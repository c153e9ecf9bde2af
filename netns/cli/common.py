"""What several commands have: options, exit codes, messages.

What takes long to import is imported by the commands that use it: `l4lab --help` is instant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

BAD_CONFIG: Final = 3
MISSING: Final = 5
INTERRUPTED: Final = 130

Command = TypeVar("Command", bound=Callable[..., Any])


def say(message: str) -> None:
    """A message for a person."""
    click.echo(message, err=True)


def lab_name(given: str | None) -> str:
    """The name that was given, else the default."""
    from netns.plan.config import DEFAULT_NAME

    return given or DEFAULT_NAME


def name_option(command: Command) -> Command:
    """`--name`, or the variable L4LAB_NAME."""
    return click.option("--name", envvar="L4LAB_NAME", help="Name the lab.  [default: l4lab, or the file's]")(
        command
    )


def json_option(command: Command) -> Command:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


class Milliseconds(click.ParamType[float]):
    """A time with its unit, 5ms or 0.1s, as a number of milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The milliseconds; a usage error for a time without a unit."""
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(ms|s)", str(value))
        if found is None:
            self.fail(f"{value!r} is no time with its unit: 5ms, 0.5ms or 0.1s is allowed", param, ctx)
        return float(found[1]) * (1000 if found[2] == "s" else 1)


def delay_option(command: Command) -> Command:
    """`--delay 5ms`, as the parameter `delay_ms`."""
    return click.option(
        "--delay",
        "delay_ms",
        type=Milliseconds(),
        help="Make clients' round trips that much longer, in real time: 5ms.  [default: the file's, or 0]",
    )(command)
