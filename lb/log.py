"""The daemon's log: one line an event on stderr, as text or JSON. Packets are counted, not logged."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Configure structlog for the process; `level` is a name of the logging module's, in lower case."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], bool_as_flag=False
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
