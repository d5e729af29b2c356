"""Times of day that come again every day, in the zone of the place. Pure.

An hour that daylight saving skips is taken as if it had been there, one that it repeats counts the first
time: each day has exactly one such moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _on(day: date, at: str, zone: ZoneInfo) -> int:
    hour, minute = at.split(":")
    local = datetime(day.year, day.month, day.day, int(hour), int(minute), tzinfo=zone, fold=0)
    return (local - _EPOCH) // timedelta(milliseconds=1)


def _day(utc_ms: int, zone: ZoneInfo) -> date:
    return (_EPOCH + timedelta(milliseconds=utc_ms)).astimezone(zone).date()


def last(at: str, zone: ZoneInfo, utc_ms: int) -> int:
    """The newest moment of `at` ("HH:MM") that is not later than `utc_ms`."""
    day = _day(utc_ms, zone)
    today = _on(day, at, zone)
    return today if today <= utc_ms else _on(day - timedelta(days=1), at, zone)


def coming(at: str, zone: ZoneInfo, utc_ms: int) -> int:
    """The next moment of `at` that is later than `utc_ms`."""
    day = _day(utc_ms, zone)
    today = _on(day, at, zone)
    return today if today > utc_ms else _on(day + timedelta(days=1), at, zone)


def local_time(zone: ZoneInfo, utc_ms: int) -> str:
    """What the clock on the wall of the place shows: "2026-11-21T12:04:00"."""
    moment = _EPOCH + timedelta(milliseconds=utc_ms)
    return moment.astimezone(zone).replace(tzinfo=None).isoformat(timespec="seconds")
