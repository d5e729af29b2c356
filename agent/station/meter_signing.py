"""The signed transaction of a meter that signs, around a session: begun before energy is released, ended when
none flows any more. The meter's word is evidence beside the bill: no trouble of it keeps a session from
beginning, ending or being charged, and each has its name in the session's record.

Text and bytes are durable before what follows from them: the text before `begin`, the record (with the end of
the session, in one commit) before `acknowledge`. After a restart the meter is asked, by the stored text, for
what it has. What a dead session left in it is stored with the next one, then acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from agent.ports import DeviceUnavailable, SigningMeter
from agent.session import E, S, Session
from agent.station.context import Context
from agent.station.signed_readings import NOBODY, customer_of
from agent.tariff.text import tariff_text
from agent.trust import card_like
from agent.trust.ocmf.make import CannotMake, clock_text
from agent.values import Stamp

# A driver waits for his energy: the slowest meter signs for 35 s at most, and may have a record to clear.
BEGIN_MOST_S = 90.0
# A driver waits for his receipt; what the meter has not signed by then is its own fault.
END_MOST_S = 60.0
KEY_MOST_S = 15.0
ACKNOWLEDGE_MOST_S = 30.0
# A lost reply, a stray transaction, its record, and the begin itself.
TRIES = 6
AGAIN_S = 1.0
# What asking again cannot mend.
NOTHING = "MTR-036"
FINAL = ("MTR-034", NOTHING)
# The record is of no use, and is acknowledged as one that is.
USELESS = ("MTR-033", "MTR-037")
OPEN, WAITING, WANTS_TEXT = "MTR-030", "MTR-031", "MTR-035"
CARD_NUMBER = "STA-062"
ENDED = "STA-018"

Json = dict[str, object]


class MeterSigning:
    def __init__(self, evse_id: str, meter: SigningMeter, context: Context) -> None:
        self._id, self._meter, self._context = evse_id, meter, context
        self._fetched = False
        # A session that ended while its transaction began must not end that of the next one.
        self._turn = asyncio.Lock()

    async def begin(self, session: Session) -> Json:
        """What the begin of the session carries of it."""
        meter, text = self._meter, session.signing_text
        if not text:
            text = self._text(session)
            if not (await self._store(session.id, {"text": text})).taken:
                return {}  # it has ended meanwhile, and takes no begin, either

        async def work() -> None:
            async with self._turn:
                self._wanted(session.id)
                meter.resume(self._timed(text))
                await self._begun(meter, session.id, text)

        trouble = await self._bounded(work, BEGIN_MOST_S)
        return {} if trouble.get("id") == ENDED else self._told(session.id, trouble)

    async def end(self, session: Session) -> Json:
        """What the end of the session carries of it: the meter's own bytes."""
        meter, text, self._fetched = self._meter, session.signing_text, False
        if not text or session.meter_trouble:
            return {}
        found: Json = {}

        async def work() -> None:
            async with self._turn:
                meter.resume(self._timed(text))
                await self._again(meter.end)
                data = await self._again(meter.fetch)
            if card_like.in_text(value := as_text(data)):
                raise DeviceUnavailable(CARD_NUMBER, "the meter's record holds a card number")
            found.update({"text": value, "public_key": ""})

        async def ask_key() -> None:
            async with self._turn:
                key = await self._again(meter.public_key)
            found["public_key"] = "" if key is None else key.hex()

        trouble = await self._bounded(work, END_MOST_S)
        self._fetched = not trouble or trouble["id"] in (*USELESS, CARD_NUMBER)
        if not trouble and (untold := await self._bounded(ask_key, KEY_MOST_S)):
            # Its record is evidence all the same: the key is printed on the meter.
            self._log("meter_key_not_told", untold, "its record is kept without", session.id)
        return self._told(session.id, trouble) or {"meter_values": found}

    def not_asked(self, session: Session) -> Json:
        """The same where its end reading was not to be had, either."""
        if not session.signing_text or session.meter_trouble:
            return {}
        why = "the meter gave no end reading that fits; what it has signed is kept with the next session"
        return self._told(session.id, {"id": "STA-023", "why": why})

    async def acknowledge(self) -> None:
        """What was fetched is durable. One that does not arrive is done before the next begin."""
        meter, fetched, self._fetched = self._meter, self._fetched, False
        if not fetched:
            return
        trouble = await self._bounded(meter.acknowledge, ACKNOWLEDGE_MOST_S)
        if trouble:
            self._log("meter_not_acknowledged", trouble, "it is asked before the next session")

    # --- inside -----------------------------------------------------------------------------------

    async def _begun(self, meter: SigningMeter, session_id: str, text: str) -> None:
        for _ in range(TRIES):
            self._wanted(session_id)
            try:
                await meter.begin(self._timed(text))
                return
            except DeviceUnavailable as error:
                last = error
                if error.code in FINAL:
                    raise
                if error.code == OPEN:
                    await self._end_stray(meter, session_id)
                if error.code not in (OPEN, WAITING, *USELESS):
                    await asyncio.sleep(AGAIN_S)
                elif not await self._clear(meter, session_id, text):
                    raise
        raise last

    def _wanted(self, session_id: str) -> None:
        """Raises DeviceUnavailable when the session has ended meanwhile: another may be next."""
        session = self._context.keeper.sessions.get(session_id)
        if session is None or session.state is not S.BEGINNING:
            raise DeviceUnavailable(ENDED, "the session has ended meanwhile")

    async def _end_stray(self, meter: SigningMeter, session_id: str) -> None:
        """A session that died before it began may have left its transaction open. It gets no name of a
        customer's."""
        try:
            await meter.end()
        except DeviceUnavailable as error:
            if error.code != WANTS_TEXT:
                raise
            meter.resume(self._timed(json.dumps({"ID": f"stray-{session_id}"})))
            await meter.end()

    async def _clear(self, meter: SigningMeter, session_id: str, text: str) -> bool:
        """Store what the meter has from before, then let it forget it. False when it has nothing."""
        try:
            found = as_text(await meter.fetch())
        except DeviceUnavailable as error:
            if error.code == NOTHING:
                return False
            if error.code not in USELESS:
                raise
            found = str(error)
        if card_like.in_text(found):
            found = "a record with a card number"
        if not (await self._store(session_id, {"text": text, "found": found})).taken:
            raise DeviceUnavailable(ENDED, "the session has ended meanwhile")
        trouble: Json = {"id": WAITING, "why": "a record of an earlier session was in the meter"}
        self._log("meter_record_found", trouble, "it is kept with this session", session_id)
        await self._again(meter.acknowledge)
        return True

    async def _store(self, session_id: str, data: Json) -> Any:
        return await self._context.keeper.tell(session_id, E.SIGNING, data)

    async def _again(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """A lost reply is no answer: each of these may be asked again."""
        for _ in range(TRIES - 1):
            try:
                return await work()
            except DeviceUnavailable as error:
                if error.code in (*FINAL, *USELESS):
                    raise
            await asyncio.sleep(AGAIN_S)
        return await work()

    async def _bounded(self, work: Callable[[], Awaitable[None]], bound_s: float) -> Json:
        """Why it failed, with an id; empty when it did not."""
        try:
            async with asyncio.timeout(bound_s):
                await work()
        except DeviceUnavailable as error:
            # It may quote what somebody else has put into the meter; an event with a card number is refused.
            return {"id": error.code, "why": card_like.masked(str(error))}
        except TimeoutError:
            return {"id": "MTR-032", "why": f"the meter has not signed within {bound_s:.0f} s"}
        return {}

    def _told(self, session_id: str, trouble: Json) -> Json:
        if not trouble:
            return {}
        effect = "the station signs the readings itself; the record says so"
        self._log("meter_not_signing", trouble, effect, session_id)
        return {"meter_trouble": trouble}

    def _log(self, event: str, trouble: Json, effect: str, session_id: str = "") -> None:
        self._context.log(
            event, level="error", evse=self._id, session=session_id, effect=effect, **trouble
        )

    # --- the text ---------------------------------------------------------------------------------

    def _text(self, session: Session) -> str:
        """Without the time: that is told anew with each call."""
        customer = customer_of(session)
        known = customer != NOBODY
        tariff = self._context.tariffs.surely_of(session)
        fields = {
            "ID": customer.id if known else session.id,
            "IT": customer.kind if known else "UNDEFINED",
            "IL": customer.level,
            "IS": True,
            "TT": "" if tariff is None else tariff_text(tariff),
            "CT": "EVSEID",
            "CI": self._id,
        }
        return json.dumps(fields)

    def _timed(self, text: str) -> str:
        return json.dumps(json.loads(text) | {"TM": self._time(self._context.clock.stamp())})

    def _time(self, now: Stamp) -> str:
        try:
            return clock_text(now, self._context.zone)
        except CannotMake:
            return ""


def as_text(data: bytes) -> str:
    """The meter's bytes as a text that gives them back: hex where they are no UTF-8, which readers of OCMF
    know."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.hex()
