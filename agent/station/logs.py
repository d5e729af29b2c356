"""Logs are JSON lines on stderr (design §3): time, level, event, then what belongs to it."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from agent.station.keeper import Log
from agent.trust import card_like

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _plain(value: Any) -> Any:
    """What JSON does not know. Raw frames may hold card data: bytes are never written, only their
    number."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return str(value)


def _no_cards(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The drivers drop card data; a text of a host may still repeat it (design §2 rule 10)."""
    for key, value in event.items():
        if card_like.find(value, key=key) is not None:
            event[key] = "<looks like a card number>"
    return event


def make_log(level: str = "info") -> Log:
    """A function `log(event, level="info", **values)` that writes one JSON line."""
    floor = LEVELS[level]
    logger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _no_cards,
            structlog.processors.JSONRenderer(default=_plain),
        ],
    )

    def log(event: str, level: str = "info", **values: Any) -> None:
        if LEVELS[level] >= floor:
            logger.msg(event, level=level, **values)

    return log
