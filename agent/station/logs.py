"""Logs are JSON lines on stderr (design §3): time, level, event, then what belongs to it."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from agent.station.keeper import Log

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _no_bytes(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Raw frames may hold card data: bytes are never written, only their number."""
    for key, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[key] = f"<{len(value)} bytes>"
    return event


def make_log(level: str = "info") -> Log:
    """A function `log(event, level="info", **values)` that writes one JSON line."""
    floor = LEVELS[level]
    logger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _no_bytes,
            structlog.processors.JSONRenderer(default=str),
        ],
    )

    def log(event: str, level: str = "info", **values: Any) -> None:
        if LEVELS[level] >= floor:
            logger.msg(event, level=level, **values)

    return log
