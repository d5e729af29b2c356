"""What the display shows in each state: pure functions from facts to lines.

One screen holds at most two ideas. Every line fits the width; when a screen has more lines than the
display, the least important go first, prices never."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from agent.driver_ui import numbers
from agent.driver_ui.layout import TIE, wrap
from agent.driver_ui.words import LANGUAGES, refusal_key, say
from agent.ports import Reason
from agent.tariff import Tariff
from agent.values import Money
from agent.values.money import CURRENCIES

MIN_WIDTH, MAX_WIDTH = 16, 64
MIN_LINES = 4
MAX_LINES = 8  # ZVT 06 E0 carries lines F1 to F8

Lines = tuple[str, ...]
# Importance of a line: the larger, the longer it stays.
_MUST, _SHOULD, _MAY = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Display:
    """A character display and the language it speaks now."""

    width: int = 24
    lines: int = MAX_LINES
    language: str = "en"

    def __post_init__(self) -> None:
        if not MIN_WIDTH <= self.width <= MAX_WIDTH:
            raise ValueError(f"{self.width} columns; expected {MIN_WIDTH} to {MAX_WIDTH}")
        if not MIN_LINES <= self.lines <= MAX_LINES:
            raise ValueError(f"{self.lines} lines; expected {MIN_LINES} to {MAX_LINES}")
        if self.language not in LANGUAGES:
            raise ValueError(f"no words in {self.language!r}; expected one of {LANGUAGES}")

    def say(self, key: str, **values: str) -> str:
        return say(self.language, key, self.width, **values)

    def amount(self, money: Money) -> str:
        return numbers.amount(money, self.language).replace(" ", TIE)

    def energy(self, wh: int) -> str:
        return numbers.energy(wh, self.language).replace(" ", TIE)

    def fit(self, rows: Sequence[tuple[int, str]]) -> Lines:
        """Rows of (importance, text) as lines of this display."""
        kept = list(rows)

        def lines() -> list[str]:
            return [line for _, text in kept for line in wrap(text, self.width)]

        while len(lines()) > self.lines and len(kept) > 1:
            least = min(importance for importance, _ in kept)
            last = max(i for i, (importance, _) in enumerate(kept) if importance == least)
            del kept[last]
        return tuple(lines()[: self.lines])


def price_rows(display: Display, tariff: Tariff) -> list[str]:
    """The prices with tax, in the order of Regulation (EU) 2023/1804 Art. 5(4): kWh, minute, session,
    other. The charge for time without charging is the occupancy fee and counts as per minute."""
    digits = CURRENCIES[tariff.currency][1]

    def row(key: str, price: Decimal) -> str:
        text = numbers.unit_price(tariff.including_vat(price), digits, display.language)
        return display.say(key, price=f"{text}{TIE}{tariff.currency}")

    priced = [value for _, value in tariff.unit_prices()]
    if not any(priced):
        return [display.say("free")]
    rows = [row("per_kwh", e.price_kwh) for e in tariff.energy]
    rows += [row("per_minute", e.price_minute) for e in tariff.charging_time]
    rows += [row("idle_minute", e.price_minute) for e in tariff.idle_time]
    return rows + [row("start_fee", e.price) for e in tariff.fixed]


def _where(display: Display, connector: str) -> list[tuple[int, str]]:
    """Which of several connectors is meant; nothing where it need not or cannot be said."""
    return [(_SHOULD, display.say("connector", name=connector))] if connector else []


def idle(
    display: Display, tariff: Tariff, hold: Money, *, plug_first: bool = False, connector: str = ""
) -> Lines:
    """Waiting for a driver. The start stands below the prices, so that nobody can miss them, and the
    hold is named before the tap that makes it. `connector`: the one that a tap is for."""
    rows = [(_MUST, text) for text in price_rows(display, tariff)]
    if tariff.vat_percent:
        percent = numbers.percent(tariff.vat_percent, display.language)
        rows.append((_MAY, display.say("with_vat", percent=percent)))
    rows.append((_SHOULD, display.say("hold", amount=display.amount(hold))))
    rows += _where(display, connector)
    rows.append((_MUST, display.say("plug_first" if plug_first else "tap_to_start")))
    return display.fit(rows)


def hold_notice(display: Display, hold: Money) -> Lines:
    return display.fit([(_MUST, display.say("hold_notice", amount=display.amount(hold)))])


def authorising(display: Display, hold: Money, connector: str = "") -> Lines:
    rows = [
        *_where(display, connector),
        (_MUST, display.say("please_wait")),
        (_MUST, display.say("keep_card")),
        (_SHOULD, display.say("hold", amount=display.amount(hold))),
    ]
    return display.fit(rows)


def approved(
    display: Display,
    seconds_left: int | None = None,
    *,
    connector: str = "",
    plug_again: bool = False,
) -> Lines:
    """The hold is done and the cable is not in yet. `plug_again`: a car stands there that was served before;
    it may be this driver's."""
    rows = [*_where(display, connector), (_MUST, display.say("approved"))]
    if plug_again:
        rows.append((_SHOULD, display.say("plug_again")))
    if seconds_left is not None:
        rows.append((_SHOULD, display.say("time_left", seconds=str(max(0, seconds_left)))))
    return display.fit(rows)


def starting(display: Display, connector: str = "") -> Lines:
    rows = [(_MUST, display.say("starting")), (_MUST, display.say("please_wait"))]
    return display.fit(_where(display, connector) + rows)


def charging(
    display: Display,
    *,
    energy_wh: int,
    duration_ms: int,
    cost: Money,
    stop_by_tap: bool = True,
    paused: bool = False,
    offline: bool = False,
    limit_near: bool = False,
    connector: str = "",
) -> Lines:
    """`cost` is the same arithmetic as the final bill, so the last figure here is never too low."""
    rows = [*_where(display, connector)]
    rows.append((_SHOULD, display.say("paused" if paused else "charging")))
    rows.append((_MUST, display.say("energy", energy=display.energy(energy_wh))))
    rows.append((_MUST, display.say("duration", time=numbers.clock(duration_ms))))
    rows.append((_MUST, display.say("cost", amount=display.amount(cost))))
    if limit_near:
        rows.append((_SHOULD, display.say("limit_near")))
    rows.append((_SHOULD, display.say("tap_to_stop" if stop_by_tap else "unplug_to_stop")))
    if offline:
        rows.append((_MAY, display.say("offline")))
    return display.fit(rows)


def stopping(display: Display) -> Lines:
    return display.fit([(_MUST, display.say("stopping")), (_SHOULD, display.say("please_wait"))])


def done(
    display: Display,
    *,
    total: Money,
    energy_wh: int,
    duration_ms: int,
    released: Money | None = None,
    card_last4: str | None = None,
    receipt_code: str | None = None,
    plugged: bool = False,
) -> Lines:
    rows = [
        (_MUST, display.say("total", amount=display.amount(total))),
        (_MUST, display.say("energy", energy=display.energy(energy_wh))),
        (_SHOULD, display.say("duration", time=numbers.clock(duration_ms))),
    ]
    if card_last4:
        rows.append((_MAY, display.say("card", last4=card_last4)))
    if released is not None:
        rows.append((_SHOULD, display.say("released", amount=display.amount(released))))
    if receipt_code:
        rows.append((_MAY, display.say("receipt_code", code=receipt_code)))
    rows.append((_MAY, display.say("unplug" if plugged else "done")))
    return display.fit(rows)


def declined(display: Display, reason: Reason | str, key: str = "") -> Lines:
    """Why, what to try, and that nothing was charged. `key`: what the terminal says beyond the reason."""
    words = refusal_key(reason, key)
    rows = [
        (_MUST, display.say(words)),
        (_MUST, display.say(f"try_{words}")),
        (_SHOULD, display.say("no_charge")),
    ]
    return display.fit(rows)


def not_started(display: Display) -> Lines:
    """The cable never came, or the driver went away: the hold ends."""
    rows = [(_MUST, display.say("unplugged_free")), (_MUST, display.say("no_charge"))]
    return display.fit(rows)


def payment_unclear(display: Display) -> Lines:
    """The terminal is being asked how a payment ended."""
    rows = [(_MUST, display.say("checking")), (_MUST, display.say("not_twice"))]
    return display.fit(rows)


def refused_tap(display: Display, why: str) -> Lines:
    """A tap that starts nothing. `why`: "busy" (another start is under way), "occupied" (no connector
    free), "other_card" (a session of another card), "holds_full" (the terminal keeps no further hold) or
    "wait_check" (how another payment ended is being asked)."""
    return display.fit([(_MUST, display.say(why)), (_SHOULD, display.say("no_charge"))])


def card_test(display: Display) -> Lines:
    """A technician tries the reader: nobody can start with this card, and nothing is charged."""
    return display.fit([(_MUST, display.say("card_test")), (_MUST, display.say("no_charge"))])


def day_end(display: Display) -> Lines:
    """The terminal closes its batch: some seconds to some minutes."""
    return display.fit([(_MUST, display.say("day_end")), (_SHOULD, display.say("please_wait"))])


def fault(
    display: Display,
    *,
    code: str,
    pays: Money | None = None,
    helpline: str = "",
    estop: bool = False,
) -> Lines:
    """A session ended by a fault. `pays`: what is still paid; None when nothing is."""
    money = (
        display.say("pay_only", amount=display.amount(pays)) if pays else display.say("no_charge")
    )
    rows = [
        (_MUST, display.say("estop" if estop else "fault")),
        (_MUST, money),
        (_SHOULD, display.say("code", code=code)),
    ]
    if helpline:
        rows.append((_SHOULD, display.say("helpline", phone=helpline)))
    return display.fit(rows)


def out_of_order(display: Display, *, code: str = "", helpline: str = "") -> Lines:
    """No payment possible. Never a raw exception: a code a helpline understands."""
    rows = [(_MUST, display.say("out_of_order")), (_SHOULD, display.say("come_back"))]
    if helpline:
        rows.append((_SHOULD, display.say("helpline", phone=helpline)))
    if code:
        rows.append((_MAY, display.say("code", code=code)))
    return display.fit(rows)
