"""The commands the driver sends (PA00P015), made from values and the terminal's profile. Pure. The names are
those of SEQUENCES, which say how each of them goes on."""

from __future__ import annotations

from dataclasses import dataclass

from agent.ports import HoldRef
from agent.values import Money
from drivers.terminal.zvt.apdu import Apdu, Tlv
from drivers.terminal.zvt.codec import build, tag
from drivers.terminal.zvt.commands_care import (
    BYTE_MAX,
    baud,
    change_configuration,
    diagnosis,
    display,
    display_key,
    end_of_day,
    feig_info,
    feig_reset,
    initialisation,
    language,
    print_setup,
    reset,
    selftest,
    set_clock,
    set_tid,
    totals,
    write_file,
)
from drivers.terminal.zvt.primitives import CHARSET_TAGS, Value
from drivers.terminal.zvt.profile import Profile

__all__ = [
    "NO_RECEIPT",
    "Offer",
    "abort",
    "activate_reader",
    "baud",
    "book_total",
    "capture",
    "card_poll",
    "card_poll_payment",
    "change_configuration",
    "close_card_session",
    "diagnosis",
    "display",
    "display_key",
    "end_of_day",
    "enquiry",
    "extend",
    "feig_info",
    "feig_reset",
    "initialisation",
    "language",
    "log_off",
    "payment",
    "print_setup",
    "read_card",
    "refund",
    "registration",
    "release",
    "release_foreign",
    "repeat",
    "reserve",
    "reset",
    "reversal",
    "selftest",
    "set_clock",
    "set_tid",
    "status",
    "totals",
    "write_file",
]

NO_RECEIPT = "ffff"  # 06 23: the enquiry of open holds
TRACE_MAX = 999_999  # BMP 0B; a longer one goes into tag 1F2B
# Longer messages of the terminal than this (tag 1A of 06 00) would at 9600 baud take longer than T2.
OWN_APDU_MAX = 0x1000
# Card type 10 (chip) is overridden by the technologies in 1F60.
READ_CARD_TYPE = "10"
CARD_OF_BEFORE = 0x02  # bit of BMP 19: the card of the preceding 06 C0
REPEAT_SILENTLY = "03"  # 06 20: tell the result again, print nothing
LAST_RECEIPT = "01"  # tag 1F01
EXTENSION = "03"  # tag 1F06
RESERVATION = "02"
NO_FIRST_NUMBER = "000000"  # tag 1F73: message numbers are offered


# --- the link -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """What an ECR may tell of itself in 06 00 beside what the profile says. Displays are (columns,
    lines) of the ECR's own, languages two letters each, the rest hex as the manual prints it."""

    merchant_display: tuple[int, int] | None = None
    customer_display: tuple[int, int] | None = None
    languages: tuple[str, ...] = ()
    emv_print: str = ""
    receipt_parameter: str = ""
    transaction_parameter: str = ""
    service: str = ""


NOTHING_MORE = Offer()


def registration(
    password: str, currency: str, profile: Profile, offer: Offer = NOTHING_MORE
) -> Apdu:
    """06 00. Without any tag no container is sent: to send one, even empty, is to ask for TLV."""
    values: dict[str, Value] = {
        "password": password,
        "config_byte": profile.config_byte.lower(),
        "currency": Money(0, currency).numeric_currency,
    }
    if offer.service:
        values["service_byte"] = offer.service
    tags = [*_offered(offer), *_of_profile(profile)]
    return build("0600", values, sorted(tags, key=_tag_order) if tags else None)


def _offered(offer: Offer) -> list[Tlv]:
    tags = [
        tag(name, hex_value=f"{size[0]:02d}{size[1]:02d}")
        for name, size in (("10", offer.merchant_display), ("11", offer.customer_display))
        if size is not None
    ]
    if offer.languages:
        tags.append(tag("28", *(tag("15", text=code.upper()) for code in offer.languages)))
    told = [("40", offer.emv_print), ("1f04", offer.receipt_parameter)]
    told += [("1f05", offer.transaction_parameter)]
    return tags + [tag(name, hex_value=value) for name, value in told if value]


def _of_profile(profile: Profile) -> list[Tlv]:
    tags = []
    if profile.print_blocks:
        tags += [
            tag("12", hex_value=f"{profile.print_columns:02d}"),
            tag("1a", hex_value=f"{OWN_APDU_MAX:04x}"),
            tag("26", tag("0a", hex_value="06d3")),
        ]
    if profile.offers_charset:
        code = next(c for c, name in CHARSET_TAGS.items() if name == profile.charset)
        tags += [tag("14", hex_value=code), tag("27", tag("14", hex_value=code))]
    if profile.message_numbers:
        tags.append(tag("1f73", hex_value=NO_FIRST_NUMBER))
    return tags


def _tag_order(item: Tlv) -> tuple[int, str]:
    """As the document lists them: short tags first."""
    return len(item.tag), item.tag


def log_off() -> Apdu:
    """06 02."""
    return build("0602", {})


def status(password: str, profile: Profile, *, contactless: bool = False) -> Apdu:
    """05 01. `contactless`: tell also whether a card is in the field (tag 1F72)."""
    tlv = (tag("1f72", hex_value="01"),) if contactless else None
    return build("0501", {"password": password, "service_byte": profile.status_service}, tlv)


def abort() -> Apdu:
    """06 B0."""
    return build("06b0", {})


# --- cards ----------------------------------------------------------------------------------------


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


def card_poll(timeout_s: int, currency: str, profile: Profile, mode: str = "") -> Apdu:
    """06 E6 without an amount: which card is there. `mode`: tag 1F6D."""
    return _poll(timeout_s, Money(0, currency), profile, mode)


def card_poll_payment(
    amount: Money, timeout_s: int, profile: Profile, mode: str = "", sync: str | None = None
) -> Apdu:
    """06 E6: a bank card pays `amount`, any other is told."""
    return _poll(timeout_s, amount, profile, mode, sync)


def _poll(
    timeout_s: int, amount: Money, profile: Profile, mode: str, sync: str | None = None
) -> Apdu:
    tags = [tag("1f5b", hex_value=f"{min(timeout_s, BYTE_MAX):02x}")]
    tags += [tag("1f60", hex_value=profile.read_technologies)]
    tags += [tag("1f6d", hex_value=mode)] if mode else []
    values = {**_money(amount), "payment_type": profile.payment_type}
    return build("06e6", values, (*_sync(sync), *tags))


def activate_reader(on: bool) -> Apdu:
    """08 50: readers with a motor only."""
    return build("0850", {"motor": "ff" if on else "00"})


def close_card_session() -> Apdu:
    """06 C5."""
    return build("06c5", {})


# --- money ----------------------------------------------------------------------------------------


def payment(
    amount: Money,
    reference: str,
    profile: Profile,
    *,
    wait_s: int | None = None,
    waits_max: int | None = None,
    card_of_before: bool = False,
    sync: str | None = None,
) -> Apdu:
    """06 01. `wait_s` and `waits_max`: how long the terminal waits for the word on its 04 0F, and how often
    it asks again (BMP 01, 02). `sync`: the receipt number of the last transaction we know of, "" for none
    (tag 1F1F)."""
    values = {**_money(amount), "payment_type": _payment_type(profile, card_of_before)}
    if wait_s is not None:
        values["timeout_s"] = wait_s
    if waits_max is not None:
        values["max_status_infos"] = waits_max
    return build("0601", values, _tags(*_sync(sync), *_reference(reference, profile)))


def reserve(
    amount: Money,
    reference: str,
    profile: Profile,
    *,
    card_of_before: bool = False,
    sync: str | None = None,
) -> Apdu:
    """06 22. `reference` is ours, sent where the host behind the terminal knows it."""
    values = {**_money(amount), "payment_type": _payment_type(profile, card_of_before)}
    return build("0622", values, _tags(*_sync(sync), *_reference(reference, profile)))


def extend(ref: HoldRef, add: Money, aid: str | None, reference: str, profile: Profile) -> Apdu:
    """06 22 for a hold that is open: `add` is the part that comes on top. Raises ValueError without the
    trace number, by which the terminal knows it is no new hold."""
    if ref.trace is None:
        raise ValueError("a hold without a trace number cannot be extended")
    values = {**_money(add), "payment_type": profile.payment_type}
    if aid:
        values["aid"] = aid
    tags = [*_trace(ref, values), tag("1f06", hex_value=EXTENSION)]
    return build("0622", values, (*tags, *_reference(reference, profile)))


def capture(
    ref: HoldRef, rest: Money, profile: Profile, *, aid: str | None = None, reference: str = ""
) -> Apdu:
    """06 23: the amount it carries is the part to release."""
    values: dict[str, Value] = {"receipt": _receipt(ref), **_money(rest)}
    return _ending("0623", ref, values, profile, aid, reference)


def book_total(
    ref: HoldRef, amount: Money, profile: Profile, *, aid: str | None = None, reference: str = ""
) -> Apdu:
    """06 24: the amount it carries is the part to charge. Without one the whole hold would be booked."""
    values: dict[str, Value] = {"receipt": _receipt(ref), **_money(amount)}
    if profile.aid_in_booking:
        # Card complete: with these it may have been another terminal's reservation.
        told = {"time": ref.time, "date": ref.date, "tid": ref.terminal_id or None}
        values |= {name: value for name, value in told.items() if value is not None}
    return _ending("0624", ref, values, profile, aid if profile.aid_in_booking else None, reference)


def release(ref: HoldRef, currency: str, profile: Profile) -> Apdu:
    """06 25: the whole hold, without an amount."""
    numeric = Money(0, currency).numeric_currency
    return _ending("0625", ref, {"receipt": _receipt(ref), "currency": numeric}, profile, None, "")


def release_foreign(held: Money, trace: int, aid: str) -> Apdu:
    """06 26: a reservation that another terminal made."""
    values: dict[str, Value] = {**_money(held), "aid": aid}
    ref = HoldRef("", 0, trace=trace)
    return build("0626", values, (*_trace(ref, values), tag("1f06", hex_value=RESERVATION)))


def _ending(
    command: str,
    ref: HoldRef,
    values: dict[str, Value],
    profile: Profile,
    aid: str | None,
    reference: str,
) -> Apdu:
    if profile.release_payment_type:
        values["payment_type"] = profile.payment_type
    if aid:
        values["aid"] = aid
    tags = _trace(ref, values) if profile.trace_in_reversal else []
    return build(
        command, values, _tags(*tags, *(_reference(reference, profile) if reference else ()))
    )


def enquiry() -> Apdu:
    """06 23 for receipt FFFF. The empty container asks for the whole list."""
    return build("0623", {"receipt": NO_RECEIPT}, ())


def reversal(password: str, ref: HoldRef, amount: Money) -> Apdu:
    """06 30. `amount` must be the one that was booked."""
    return build("0630", {"password": password, "receipt": _receipt(ref), **_money(amount)})


def refund(password: str, amount: Money, profile: Profile, aid: str | None = None) -> Apdu:
    """06 31: the card is presented again."""
    values: dict[str, Value] = {"password": password, **_money(amount)}
    values["payment_type"] = profile.payment_type
    return build("0631", {**values, "aid": aid} if aid else values)


def repeat(password: str, *, printed: bool = False, receipt: str = "") -> Apdu:
    """06 20: the last 04 0F again. `printed`: and its receipt. `receipt`: tag 1F01."""
    tlv = (tag("1f01", hex_value=receipt),) if receipt else None
    service = "01" if printed else REPEAT_SILENTLY
    return build("0620", {"password": password, "service_byte": service}, tlv)


def _money(amount: Money) -> dict[str, Value]:
    return {"amount_minor": amount.amount_minor, "currency": amount.numeric_currency}


def _receipt(ref: HoldRef) -> str:
    return f"{ref.receipt:04d}"


def _payment_type(profile: Profile, card_of_before: bool) -> str:
    return f"{int(profile.payment_type, 16) | (CARD_OF_BEFORE if card_of_before else 0):02x}"


def _tags(*tags: Tlv) -> tuple[Tlv, ...] | None:
    return tags or None


def _reference(reference: str, profile: Profile) -> tuple[Tlv, ...]:
    if not profile.reference_tag or not reference:
        return ()
    return (tag("e9", tag("1f62", text=profile.reference_tag), tag("1f63", text=reference)),)


def _sync(receipt: str | None) -> tuple[Tlv, ...]:
    return () if receipt is None else (tag("1f1f", hex_value=receipt),)


def _trace(ref: HoldRef, values: dict[str, Value]) -> list[Tlv]:
    """The trace of the hold where it fits: among `values`, or as a tag."""
    if ref.trace is None:
        return []
    if ref.trace > TRACE_MAX:
        return [tag("1f2b", hex_value=f"{ref.trace:08d}")]
    values["trace"] = ref.trace
    return []
