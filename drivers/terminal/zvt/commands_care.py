"""Commands around the day, the terminal's upkeep and its display (PA00P015), as commands.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build, tag
from drivers.terminal.zvt.primitives import CHARSET, Value
from drivers.terminal.zvt.text import displayable

DISPLAY_LINES_MAX = 8  # F1 to F8
DISPLAY_COLUMNS_MAX = 40
BYTE_MAX = 255
BAUD_CODES = {9_600: "00", 19_200: "01", 57_600: "06", 115_200: "07"}
LANGUAGE_CODES = {"de": "00", "en": "01", "fr": "02", "it": "03"}
SYSTEM_INFORMATION, FACTORY_RESET = "0001", "0255"  # Feig, 0F A1


def baud(rate: int) -> Apdu:
    """08 40. Raises ValueError for a rate that has no code."""
    if rate not in BAUD_CODES:
        raise ValueError(f"{rate} baud; expected one of {sorted(BAUD_CODES)}")
    return build("0840", {"baud_code": BAUD_CODES[rate]})


def end_of_day(password: str) -> Apdu:
    """06 50."""
    return build("0650", {"password": password})


def totals(password: str) -> Apdu:
    """06 10: nothing is closed."""
    return build("0610", {"password": password})


def diagnosis(kind: str) -> Apdu:
    """06 70. `kind` (tag 1B): 01 line, 02 extended, 03 configuration, 04 EMV configuration, 05 EP2."""
    return build("0670", {}, (tag("1b", hex_value=kind),))


def initialisation(password: str) -> Apdu:
    """06 93."""
    return build("0693", {"password": password})


def set_tid(password: str, terminal_id: str | None) -> Apdu:
    """06 1B, only with an empty turnover store. Without an id the terminal asks for one."""
    values: dict[str, Value] = {"password": password}
    return build("061b", values if terminal_id is None else {**values, "tid": terminal_id})


def reset() -> Apdu:
    """06 18."""
    return build("0618", {})


def print_setup() -> Apdu:
    """06 1A."""
    return build("061a", {})


def selftest() -> Apdu:
    """06 79."""
    return build("0679", {})


def set_clock(password: str, local: datetime) -> Apdu:
    """06 91, in the terminal's local time."""
    told = {"date_full": local.strftime("%y%m%d"), "time": local.strftime("%H%M%S")}
    return build("0691", {"password": password, **told})


def language(code: str) -> Apdu:
    """08 30. Raises ValueError for a language that has no code."""
    if code not in LANGUAGE_CODES:
        raise ValueError(f"language {code}; expected one of {sorted(LANGUAGE_CODES)}")
    return build("0830", {"language": LANGUAGE_CODES[code]})


def change_configuration(settings: Sequence[tuple[str, bytes]]) -> Apdu:
    """08 13 (Feig). Tags such as FF41 with their content, in E4; the password is one of them, FF40."""
    return build("0813", {}, (tag("e4", *(tag(name, raw=value) for name, value in settings)),))


def write_file(password: str, sizes: Mapping[int, int]) -> Apdu:
    """08 14 (Feig): file ids and their sizes in bytes. The terminal asks for the content by 04 0C."""
    files = [
        tag("2d", tag("1d", hex_value=f"{file_id:02x}"), tag("1f00", hex_value=f"{size:08x}"))
        for file_id, size in sizes.items()
    ]
    return build("0814", {"password": password}, files)


def feig_info() -> Apdu:
    """0F A1: serial number, software, TID and temperature, without a password."""
    return build("0fa1", {"function": SYSTEM_INFORMATION})


def feig_reset(password: str) -> Apdu:
    """0F A1: back to the factory's state."""
    return build("0fa1", {"password": password, "function": FACTORY_RESET})


# --- the display ----------------------------------------------------------------------------------


def display(lines: Sequence[str], hold_s: int, charset: str = CHARSET) -> Apdu:
    """06 E0; what does not fit is cut off. `hold_s` 0: until replaced."""
    return build("06e0", _texts(lines, hold_s, charset), charset=charset)


def display_key(
    lines: Sequence[str], hold_s: int, charset: str = CHARSET, beeps: int | None = None
) -> Apdu:
    """06 E1: as 06 E0, and the answer is the key that was pressed."""
    values = _texts(lines, hold_s, charset)
    return build("06e1", values if beeps is None else {**values, "beeps": beeps}, charset=charset)


def _texts(lines: Sequence[str], hold_s: int, charset: str) -> dict[str, Value]:
    values: dict[str, Value] = {"display_s": max(0, min(hold_s, BYTE_MAX))}
    for i, line in enumerate(lines[:DISPLAY_LINES_MAX], start=1):
        values[f"line_{i}"] = displayable(line, charset)[:DISPLAY_COLUMNS_MAX]
    return values
