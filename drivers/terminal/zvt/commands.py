"""The commands the driver sends (PA00P015), made from values and the terminal's profile. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agent.ports import HoldRef
from agent.values import Money
from drivers.terminal.zvt.apdu import Apdu, Tlv
from drivers.terminal.zvt.codec import build, tag
from drivers.terminal.zvt.primitives import Value
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.text import displayable

NO_RECEIPT = "ffff"  # 06 23: the enquiry of open holds
TRACE_MAX = 999_999  # BMP 0B; a longer one goes into tag 1F2B
DISPLAY_LINES_MAX = 8  # F1 to F8
DISPLAY_COLUMNS_MAX = 40
DISPLAY_S_MAX = 255
# Card type 10 (chip) is overridden by the technologies in 1F60.
READ_CARD_TYPE = "10"
REPEAT_SILENTLY = "03"  # 06 20: tell the result again, print nothing


def registration(password: str, currency: str, profile: Profile) -> Apdu:
    """06 00."""
    tlv = (tag("26", tag("0a", hex_value="06d3")),) if profile.print_blocks else None
    values = {
        "password": password,
        "config_byte": profile.config_byte,
        "currency": Money(0, currency).numeric_currency,
    }
    return build("0600", values, tlv)


def status_enquiry(password: str, profile: Profile) -> Apdu:
    """05 01."""
    return build("0501", {"password": password, "service_byte": profile.status_service})


def read_card(timeout_s: int, profile: Profile) -> Apdu:
    """06 C0: UID and token of any card, no amount."""
    return build(
        "06c0",
        {"timeout_s": timeout_s, "payment_type": READ_CARD_TYPE, "dialog": profile.read_dialog},
        (
            tag("1f15", hex_value=profile.read_control),
            tag("1f60", hex_value=profile.read_technologies),
        ),
    )


def hold(amount: Money, reference: str, profile: Profile) -> Apdu:
    """06 22. `reference` is ours, sent where the host behind the terminal knows it."""
    tlv = None
    if profile.reference_tag:
        own = tag("1f62", text=profile.reference_tag), tag("1f63", text=reference)
        tlv = (tag("e9", *own),)
    values: dict[str, Value] = {
        "payment_type": profile.payment_type,
        "currency": amount.numeric_currency,
        "amount_minor": amount.amount_minor,
    }
    return build("0622", values, tlv)


def capture(ref: HoldRef, rest: Money, profile: Profile) -> Apdu:
    """06 23: the amount it carries is the part to release."""
    return _reversal("0623", ref, rest.currency, rest.amount_minor, profile)


def release(ref: HoldRef, currency: str, profile: Profile) -> Apdu:
    """06 25."""
    return _reversal("0625", ref, currency, None, profile)


def _reversal(
    name: str, ref: HoldRef, currency: str, amount_minor: int | None, profile: Profile
) -> Apdu:
    values: dict[str, Value] = {}
    if profile.release_payment_type:
        values["payment_type"] = profile.payment_type
    values["receipt"] = f"{ref.receipt:04d}"
    values["currency"] = Money(0, currency).numeric_currency
    if amount_minor is not None:
        values["amount_minor"] = amount_minor
    tlv: tuple[Tlv, ...] | None = None
    if profile.trace_in_reversal and ref.trace is not None:
        if ref.trace <= TRACE_MAX:
            values["trace"] = ref.trace
        else:
            tlv = (tag("1f2b", hex_value=f"{ref.trace:08d}"),)
    return build(name, values, tlv)


def enquiry() -> Apdu:
    """06 23 for receipt FFFF. The empty container asks for the whole list."""
    return build("0623", {"receipt": NO_RECEIPT}, ())


def repeat_result(password: str) -> Apdu:
    """06 20."""
    return build("0620", {"password": password, "service_byte": REPEAT_SILENTLY})


def display(lines: Sequence[str], hold_s: int) -> Apdu:
    """06 E0; what does not fit is cut off."""
    values: dict[str, Value] = {"display_s": max(0, min(hold_s, DISPLAY_S_MAX))}
    for i, line in enumerate(lines[:DISPLAY_LINES_MAX], start=1):
        values[f"line_{i}"] = displayable(line)[:DISPLAY_COLUMNS_MAX]
    return build("06e0", values)
