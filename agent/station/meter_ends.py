"""The two readings a session is billed by, and its price, computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.ports import Meter, SigningMeter
from agent.session import E, S, Session
from agent.session.limits import cost_reason
from agent.session.measured import LAST_DURABLE, last_durable, pays_until_wh
from agent.station.context import Context
from agent.station.limit import Limit
from agent.station.register import Register, step_of
from agent.tariff import Price, Tariff, Usage, session_price
from agent.trust import card_like
from agent.values import Reading

if TYPE_CHECKING:
    from agent.station.meter_signing import MeterSigning

END_TRIES = 4  # reads of one try for the end reading; tried until the meter counts as lost


class MeterEnds:
    def __init__(
        self,
        evse_id: str,
        meter: Meter,
        register: Register,
        limit: Limit,
        meter_lost_ms: int,
        context: Context,
    ) -> None:
        self._id, self._register, self._limit = evse_id, register, limit
        self._meter_lost_ms = meter_lost_ms
        self._signing: MeterSigning | None = None
        if isinstance(meter, SigningMeter):
            # Imported late: most meters do not sign, and a board has little memory.
            from agent.station.meter_signing import MeterSigning

            self._signing = MeterSigning(evse_id, meter, context)
        self._keeper, self._clock, self._log = context.keeper, context.clock, context.log
        self._tariffs = context.tariffs

    async def begin(self, session_id: str) -> None:
        """A hold too small for any energy ends here, before a contactor closes."""
        session = self._keeper.sessions.get(session_id)
        if session is None or session.state is not S.BEGINNING:
            return
        if not self._limit.covers_start(session, self._register.good):
            small = "approved amount" if cost_reason(session) == "limit" else "cost limit"
            why = f"the {small} is too small to charge"
            await self._keeper.tell(session_id, E.BEGIN_FAILED, {"why": why})
            return
        reading = await self._register.confirmed()
        session = self._keeper.sessions.get(session_id)
        if session is None or session.state is not S.BEGINNING:
            return  # unplugged or cancelled meanwhile
        if reading is None or reading.energy_import_wh is None:
            seen = self._register.reading
            # An event that quotes what looks like a card number would be refused.
            why = card_like.masked(f"meter: {seen.why or seen.state or 'register moves'}")
            await self._keeper.tell(session_id, E.BEGIN_FAILED, {"why": why})
            return
        data: dict[str, object] = {
            "energy_wh": reading.energy_import_wh,
            "read_boot_ms": reading.boot_ms,
            "serial": reading.serial,
            "model": self._register.model,
        }
        if self._signing is not None:
            data |= await self._signing.begin(session)
        await self._keeper.tell(session_id, E.BEGAN, data)

    async def end(self, session_id: str) -> None:
        """The confirmed register if it fits the session, else the last durable reading, and the
        record says which."""
        deadline_ms = self._clock.boot_ms() + self._meter_lost_ms
        while True:
            reading = await self._register.confirmed(END_TRIES)
            session = self._keeper.sessions.get(session_id)
            if session is None or session.state is not S.ENDING:
                return
            if reading is not None and self._register.fits(session, reading):
                await self._tell_end(session, self._ended(session, reading))
                return
            if reading is not None or self._clock.boot_ms() >= deadline_ms:
                seen = self._register.reading
                self._log(
                    "end_unconfirmed",
                    level="error",
                    id="STA-023",
                    session=session_id,
                    evse=self._id,
                    seen=f"{seen.state}, {seen.energy_import_wh} Wh {seen.why}".rstrip(),
                    expected=f"{session.last_wh} Wh or what the connector can deliver since",
                    effect="the last durable reading is billed",
                )
                data = ended_by_last(session, self._tariffs.of(session))
                if self._signing is not None:
                    data |= self._signing.not_asked(session)
                await self._keeper.tell(session_id, E.ENDED, data)
                return

    async def _tell_end(self, session: Session, data: dict[str, object]) -> None:
        """What the meter has signed is durable with the end, and acknowledged after it."""
        signing = self._signing
        if signing is None:
            await self._keeper.tell(session.id, E.ENDED, data)
            return
        data |= await signing.end(session)
        if (await self._keeper.tell(session.id, E.ENDED, data)).taken:
            await signing.acknowledge()

    def _ended(self, session: Session, reading: Reading) -> dict[str, object]:
        """By the register, unless it counts what was drawn behind the back of a driver who had left."""
        wh = reading.energy_import_wh or 0
        most_wh, tariff = pays_until_wh(session), self._tariffs.of(session)
        if most_wh is None or wh <= most_wh + step_of(reading):
            return ended(session, tariff, wh) | {"read_boot_ms": reading.boot_ms}
        self._log(
            "end_not_his",
            level="error",
            id="STA-051",
            session=session.id,
            evse=self._id,
            seen=f"{wh} Wh",
            expected=f"{most_wh} Wh, as when the plug was seen gone",
            effect="the last durable reading of that moment is billed; nobody is charged for the rest",
        )
        return ended_by_last(session, tariff)


def ended(
    session: Session, tariff: Tariff, end_wh: int, quality: str = "confirmed"
) -> dict[str, object]:
    """The data of ENDED: end reading, price and bill."""
    begin_wh = session.begin_wh if session.begin_wh is not None else end_wh
    usage = Usage(
        energy_wh=end_wh - begin_wh, charging_ms=session.charging_ms, idle_ms=session.idle_ms
    )
    cost: Price = session_price(tariff, usage)
    return {
        "energy_wh": end_wh,
        "quality": quality,
        "cost_minor": cost.total_minor,
        "price": cost.json(),
        "bill": cost.bill.to_json(),
    }


def ended_by_last(session: Session, tariff: Tariff) -> dict[str, object]:
    """As `ended`, by the last durable reading."""
    return ended(session, tariff, last_durable(session).wh, LAST_DURABLE)
