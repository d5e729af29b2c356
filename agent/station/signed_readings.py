"""Begin and end of a session as OCMF, signed by the station because its meter does not sign.

It is evidence beside the bill, never in its way: where it cannot be made, the session's record says why, and
the money goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo

from agent.ledger import UsedPage
from agent.ledger.ocmf_pages import last as last_page
from agent.session import Session
from agent.session.limits import COST_REACHED, ENERGY_REACHED, TIME_REACHED
from agent.session.measured import LAST_DURABLE
from agent.station.keeper import Log
from agent.station.tariffs import Tariffs
from agent.tariff import Tariff
from agent.tariff.text import tariff_text
from agent.trust import card_like, ocmf
from agent.trust.keys import Signer
from agent.trust.ocmf.make import SUBSTITUTE, payload
from agent.values import Stamp

CODE = "STA-060"
# What was never foreseen: a record without it is better than a session without a record.
FAULTS = (ValueError, TypeError, ArithmeticError, LookupError)
NOBODY = ocmf.Customer("NONE", "", "NONE")
# TX of the end by the reason energy was stopped for; E for any other.
_LOCALLY = ("tap", "unplugged", "local", "limit", COST_REACHED, ENERGY_REACHED, TIME_REACHED)
_BROKEN_OFF = (
    "emergency stop",
    "fault of the charge controller",
    "charge controller lost",
    "meter lost",
    "meter exchanged",
)
# Of the trial at the start, in place of what a session and its hold bring.
TRIAL_SERIAL, TRIAL_NUMBER, TRIAL_WH = "0000", "00000000-0000-000000", 1


@dataclass(frozen=True, slots=True)
class Values:
    """`missing` says why there is no value; it has an id of docs/errors.md."""

    values: tuple[dict[str, str], ...] = ()
    missing: dict[str, str] | None = None
    page: UsedPage | None = None
    meter: dict[str, str] | None = None  # what is amiss with the signature of a meter that signs


class SignedReadings:
    def __init__(
        self, station: str, zone: tzinfo, version: str, tariffs: Tariffs, log: Log
    ) -> None:
        self._gateway = ocmf.Gateway(serial=station, version=version)
        self._zone, self._tariffs, self._log = zone, tariffs, log

    def of(self, session: Session, pages: Mapping[str, int], key: Signer) -> Values:
        """The meter's own, where it signs, else ours. Off the event loop. `pages`: the last page of each key.
        Raises KeyRefused and nothing else: without the key there is no record, either."""
        if session.meter_values:
            # Imported late: most meters do not sign, and a board has little memory.
            from agent.station.meter_values import meter_values, trouble_in

            values, tariff = meter_values(session), self._tariffs.surely_of(session)
            text = "" if tariff is None else tariff_text(tariff)
            try:
                return Values(values, meter=trouble_in(session, values, text))
            except FAULTS as error:
                return Values(values, meter={"id": CODE, "why": _words(error)})
        amiss = {name: str(text) for name, text in session.meter_trouble.items()} or None
        if session.signing_text and amiss is None:
            amiss = {"id": "MTR-036", "why": "the meter was not asked for what it signed"}
        return replace(self._own(session, pages, key), meter=amiss)

    def _own(self, session: Session, pages: Mapping[str, int], key: Signer) -> Values:
        kid = key.public.kid
        number = last_page(pages) + 1
        try:
            value = ocmf.make(self._content(session, number), key).json()
            _no_card(value["text"])
        except FAULTS as error:
            return Values(missing={"id": CODE, "why": _words(error)})
        return Values((value,), None, UsedPage(kid, number))

    def tell(self, session: Session, made: Values) -> None:
        """A record without them is told, once it is stored."""
        if made.meter is not None and session.meter_values:
            self._log(
                "meter_values_amiss",
                level="error",
                session=session.id,
                evse=session.evse,
                **made.meter,
                effect="its record says so; it is billed by the register as ever",
            )
        if made.missing is not None:
            self._log(
                "readings_not_signed",
                level="error",
                session=session.id,
                evse=session.evse,
                **made.missing,
                effect="its record says so; it is billed as ever",
            )

    def look(self, evses: Mapping[str, str], tariff: Tariff, now: Stamp) -> None:
        """At the start: can the station as it is configured sign readings at all? `evses`: id, and the serial
        number of the meter where it is configured."""
        for evse, serial in evses.items():
            marks = (ocmf.Mark("B", 0, now), ocmf.Mark("E", TRIAL_WH, now))
            customer = ocmf.Customer.by_card(TRIAL_NUMBER)
            try:
                content = self._record(1, serial, "", customer, marks, tariff_text(tariff), evse)
                _no_card(payload(content).decode("ascii"))
            except FAULTS as error:
                self._log(
                    "readings_cannot_be_signed",
                    level="error",
                    id=CODE,
                    evse=evse,
                    why=_words(error),
                    effect="session records go without signed readings; nothing else changes",
                )

    def _content(self, s: Session, page: int) -> ocmf.Content:
        began, ended = s.began_at, s.end_read_at or s.began_at
        if began is None or ended is None or s.begin_wh is None or s.end_wh is None:
            raise ocmf.CannotMake("RD: begin or end was never read")
        status = SUBSTITUTE if s.end_quality == LAST_DURABLE else "G"
        marks = (
            ocmf.Mark("B", s.begin_wh, began),
            ocmf.Mark(_reason(s.stop_reason), s.end_wh, ended, status),
        )
        tariff = self._tariffs.surely_of(s)
        text = "" if tariff is None else tariff_text(tariff)
        serial = s.meter_serial or ""
        return self._record(page, serial, s.meter_model, customer_of(s), marks, text, s.evse or "")

    def _record(
        self,
        page: int,
        serial: str,
        model: str,
        customer: ocmf.Customer,
        marks: tuple[ocmf.Mark, ...],
        tariff: str,
        evse: str,
    ) -> ocmf.Content:
        return ocmf.Content(
            page=page,
            gateway=self._gateway,
            meter=ocmf.MeterLabel(serial, model=model),
            customer=customer,
            marks=marks,
            tariff_text=tariff,
            place=ocmf.Place(evse),
            zone=self._zone,
        )


def customer_of(s: Session) -> ocmf.Customer:
    """By what the terminal calls the payment: terminal id, receipt and trace, as far as it told them."""
    if s.hold.get("receipt") is None:
        return NOBODY
    names = (s.hold.get(name) for name in ("terminal_id", "receipt", "trace"))
    return ocmf.Customer.by_card("-".join(str(name) for name in names if name is not None))


def _no_card(text: str) -> None:
    """Nobody would sign the record around it (agent.trust.chain.seal), nor could the session end."""
    if card_like.in_text(text):
        raise ocmf.CannotMake("a number in it, maybe the meter's serial, looks like a card number")


def _reason(stop_reason: str) -> str:
    if stop_reason in _LOCALLY:
        return "L"
    return "A" if stop_reason in _BROKEN_OFF else "E"


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ocmf.CannotMake) else type(error).__name__
