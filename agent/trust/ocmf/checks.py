"""What legal metrology asks of one record whose signature is another question (OCMF ch. "Data Format").

Readings count as the S.A.F.E. transparency software counts them; what it would refuse is an error. Defects
of meters in the field that change nothing about the energy are warnings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from agent.trust.ocmf import obis
from agent.trust.ocmf.exact import JSON
from agent.trust.ocmf.findings import Finding, card_places, error, shown, warning
from agent.trust.ocmf.record import Reading, Record, number
from agent.trust.ocmf.terms import (
    IDENTIFICATION_ERRORS,
    IDENTIFICATION_FLAGS,
    IDENTIFICATION_LEVELS,
    IDENTIFICATION_TYPES,
    MAX_FIRMWARE_CHARS,
    MAX_FLAGS,
    MAX_TARIFF_CHARS,
    REASONS,
    STATUS_TEXTS,
)

FORMAT_VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "1.0", "1.1", "1.2", "1.3")
TIME_TEXTS = {
    "U": "the clock is unknown or was never set (U): energy may be billed, time may not",
    "I": "the clock is informative only (I): energy may be billed, time may not",
    "R": "the time is relative (R): its length counts, its date does not",
    "": "the state of the clock is not said: energy may be billed, time may not",
}
_PAGE = re.compile(r"([TF])(0|[1-9][0-9]*)", re.ASCII)
_LISTED = 3  # OBIS codes named in a sentence


def page(record: Record) -> tuple[str, int] | None:
    """(context, number) of PG, or None when it is missing or malformed."""
    match = _PAGE.fullmatch(record.get("PG"))
    return None if match is None else (match[1], int(match[2]))


def billed(readings: Sequence[Reading]) -> list[Reading]:
    """The readings that a charge is billed from: energy registers, import before export, accepted spellings
    before others, loss-compensated registers before plain ones."""
    chosen = [(reading, code) for reading in readings if (code := _energy(reading)) is not None]
    preferences: tuple[Callable[[obis.Obis], bool], ...] = (
        lambda code: not code.exports,
        lambda code: code.accepted,
        lambda code: code.compensated,
    )
    for prefers in preferences:
        chosen = [pair for pair in chosen if prefers(pair[1])] or chosen
    return [reading for reading, _ in chosen]


def _energy(reading: Reading) -> obis.Obis | None:
    code = None if reading.ri is None else obis.parse(reading.ri)
    if code is None or not (code.accepted or code.by_transaction):
        return None
    return code


def begin_and_end(record: Record) -> tuple[Reading | None, Reading | None]:
    """The first billed begin reading and the last billed end reading."""
    readings = billed(record.readings)
    begins = [reading for reading in readings if reading.begins]
    ends = [reading for reading in readings if reading.ends]
    return (begins[0] if begins else None), (ends[-1] if ends else None)


def eichrecht(record: Record) -> list[Finding]:
    """All findings of one record, in the order of its fields. Never raises."""
    return [*_general(record), *_identification(record), *_readings(record), *_hygiene(record)]


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "error"]


# --- The payload's own fields ---------------------------------------------------------------------


def _general(record: Record) -> Iterable[Finding]:
    version = record.payload.get("FV")
    if version == "1.4":
        text = "format 1.4: the transparency software up to 1.4.1 refuses it"
        yield warning("format_version", "FV", text)
    elif version not in FORMAT_VERSIONS:
        yield warning("format_version", "FV", f"unknown format version {shown(version)}")
    if page(record) is None:
        seen = record.payload.get("PG")
        text = f"page {shown(seen)}; expected T or F and a number without leading zeros"
        yield error("page", "PG", text)
    if not record.get("MS"):
        if not record.get("GS"):
            yield error("serial", "MS", "no serial number, neither of the meter nor of its gateway")
        else:
            yield warning("serial", "MS", "no serial number of the meter, only of its gateway")
    if len(record.get("TT")) > MAX_TARIFF_CHARS:
        yield warning("tariff_text", "TT", f"longer than {MAX_TARIFF_CHARS} characters")
    if len(record.get("CF")) > MAX_FIRMWARE_CHARS:
        yield warning("firmware", "CF", f"longer than {MAX_FIRMWARE_CHARS} characters")
    if (kind := record.payload.get("CT")) not in (None, "", 0, "EVSEID", "CBIDC"):
        yield warning("charge_point", "CT", f"{shown(kind)} is no EVSEID and no CBIDC")
    loss = record.payload.get("LC")
    if loss is not None and not _is_cable(loss):
        text = "cable loss without resistance (LR) and unit (LU mOhm or uOhm)"
        yield warning("cable_loss", "LC", text)


def _is_cable(loss: JSON) -> bool:
    return (
        isinstance(loss, dict)
        and number(loss.get("LR")) is not None
        and loss.get("LU") in ("mOhm", "uOhm")
    )


def _identification(record: Record) -> Iterable[Finding]:
    at = page(record)
    if at is not None and at[0] == "F":
        return
    level = record.get("IL").strip()
    if level in IDENTIFICATION_ERRORS:
        yield error("identification", "IL", f"the identification failed: {level}")
    elif level and level not in IDENTIFICATION_LEVELS:
        yield warning("identification", "IL", f"unknown level {shown(level)}")
    if not isinstance(record.payload.get("IS"), bool):
        yield warning("identification", "IS", "whether the user is identified is not said")
    flags = record.payload.get("IF", [])
    if not isinstance(flags, list):
        yield warning("identification", "IF", "the flags are no list")
    else:
        unknown = [flag for flag in flags if flag not in IDENTIFICATION_FLAGS]
        if unknown:
            yield warning("identification", "IF", f"unknown flag {shown(unknown[0])}")
        if len(flags) > MAX_FLAGS:
            yield warning("identification", "IF", f"more than {MAX_FLAGS} flags")
    kind = record.payload.get("IT")
    if kind is not None and kind not in IDENTIFICATION_TYPES:
        yield warning("identification", "IT", f"unknown type {shown(kind)}")


def _hygiene(record: Record) -> Iterable[Finding]:
    for place in card_places(record.payload):
        yield error("card_number", place, "holds a card number, which no record may hold")
    if not record.signed.isascii():
        text = "not ASCII: cannot be verified on a PC with another character set"
        yield warning("not_ascii", "", text)
    if record.key:
        text = "the key is appended to the record, where the format has no place for it"
        yield warning("key_appended", "", text)


# --- The readings ---------------------------------------------------------------------------------


def _readings(record: Record) -> Iterable[Finding]:
    if not record.readings:
        yield error("no_readings", "RD", "no reading")
        return
    relevant = billed(record.readings)
    if not relevant:
        codes = list(dict.fromkeys(shown(reading.ri) for reading in record.readings))
        more = ", ..." if len(codes) > _LISTED else ""
        text = f"no register that may be billed, only {', '.join(codes[:_LISTED])}{more}"
        yield error("register", "RD", text)
    at = page(record)
    if at is None or at[0] != "F":
        yield from _reasons(record, relevant)
    for place, reading in enumerate(record.readings):
        if any(reading is one for one in relevant):
            yield from _reading(reading, f"RD[{place}]")
        if reading.tx == "X":
            text = "an error during the charge: energy or time are not usable from here on"
            yield error("exception", f"RD[{place}].TX", text)
    yield from _order(record.readings)
    begin, end = begin_and_end(record)
    if begin is not None and end is not None:
        yield from pair(begin, end, "RD")


def _reasons(record: Record, relevant: Sequence[Reading]) -> Iterable[Finding]:
    begins = sum(reading.begins for reading in relevant)
    ends = [reading for reading in relevant if reading.ends]
    if relevant and not begins and not ends:
        yield error("no_begin_no_end", "RD", "neither a begin reading (TX B) nor an end reading")
    elif relevant and not begins:
        yield warning("end_only", "RD", "end reading only: the begin is in another record")
    elif relevant and not ends:
        yield warning("begin_only", "RD", "begin reading only: the end is in another record")
    if begins > 1:
        yield error("several_begins", "RD", f"{begins} begin readings")
    if len(ends) > 1:
        yield error("several_ends", "RD", f"{len(ends)} end readings")
    if ends and (how := {"A": "by an error", "P": "by a power loss"}.get(ends[-1].tx or "")):
        yield warning("ended_badly", "RD", f"the charge was ended {how} (TX {ends[-1].tx})")
    unknown = [reading.tx for reading in record.readings if reading.tx not in REASONS]
    if unknown:
        yield warning("reason", "RD", f"unknown reason of a reading: TX {shown(unknown[0])}")


def _reading(reading: Reading, where: str) -> Iterable[Finding]:
    if reading.st != "G":
        seen = STATUS_TEXTS.get(reading.st or "", f"status {shown(reading.st)}")
        yield error("meter_status", f"{where}.ST", seen)
    flags = reading.ef or ""
    if "E" in flags:
        yield error("energy_error", f"{where}.EF", "the energy is marked as not usable")
    if "t" in flags:
        yield warning("time_error", f"{where}.EF", "the time is marked as not usable")
    if set(flags) - {"E", "t"}:
        yield warning("error_flags", f"{where}.EF", f"unknown error flags {shown(flags)}")
    if (code := _energy(reading)) is not None and not code.accepted:
        text = f"register {shown(reading.ri)}: the transparency software does not count it"
        yield warning("register", f"{where}.RI", text)
    if reading.value is None:
        yield error("value", f"{where}.RV", "the reading has no value")
    elif isinstance(reading.rv, str):
        yield warning("value_is_text", f"{where}.RV", "the value is written as a text")
    if reading.ru not in ("kWh", "Wh"):
        yield error("unit", f"{where}.RU", f"unit {shown(reading.ru)}; expected kWh or Wh")
    yield from _time(reading, where)
    yield from _loss(reading, where)


def _time(reading: Reading, where: str) -> Iterable[Finding]:
    time = reading.time
    if time is None:
        text = f"no time that can be read: {shown(reading.tm)}"
        yield error("time", f"{where}.TM", text)
    elif time.status != "S":
        text = TIME_TEXTS.get(time.status, f"unknown state of the clock {shown(time.status)}")
        yield warning("time_status", f"{where}.TM", text)


def _loss(reading: Reading, where: str) -> Iterable[Finding]:
    if reading.cl is None:
        return
    loss = number(reading.cl)
    if loss is None or loss < 0 or (reading.begins and loss != Decimal(0)):
        text = "cumulated cable loss must be a number, not negative, and 0 at begin"
        yield warning("cable_loss", f"{where}.CL", text)


def _order(readings: Sequence[Reading]) -> Iterable[Finding]:
    before = None
    for place, reading in enumerate(readings):
        time = reading.time
        if time is None:
            continue
        if before is not None and time.at < before.at:
            yield error("time_backwards", f"RD[{place}].TM", "earlier than the reading before it")
        before = time


def pair(begin: Reading, end: Reading, where: str) -> Iterable[Finding]:
    """Whether a begin and an end reading, of one record or of two, can be subtracted."""
    codes = [obis.parse(reading.ri or "") for reading in (begin, end)]
    if codes[0] != codes[1]:
        text = f"begin is of register {shown(begin.ri)}, end of {shown(end.ri)}"
        yield error("register_differs", where, text)
    if begin.ru != end.ru:
        text = f"begin is in {shown(begin.ru)}, end in {shown(end.ru)}"
        yield error("unit_differs", where, text)
    if begin.wh is not None and end.wh is not None and end.wh < begin.wh:
        text = f"end {shown(end.rv)} is less than begin {shown(begin.rv)}"
        yield error("end_below_begin", where, text)
    first, last = begin.time, end.time
    if first is not None and last is not None:
        if last.at < first.at and where != "RD":  # within one record _order says it
            yield error("time_backwards", where, "the end is earlier than the begin")
        if first.status == "R" and last.status != "R":
            text = "begin has a relative time, the end has not: they cannot be subtracted"
            yield warning("time_status", where, text)
