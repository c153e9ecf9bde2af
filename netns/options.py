"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


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
