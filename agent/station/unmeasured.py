"""Energy that no bill names. A session that ends by its last durable reading is settled by it, because the
hold would lapse otherwise; what the register has counted beyond it is told once it is read: in a signed
record of the closed session, charged to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.ledger import EventRow, Head, Ledger, LedgerError, RecordRow
from agent.session import TABLE_VERSION, E, Event, Session, step
from agent.session.measured import LAST_DURABLE
from agent.session.records import unmeasured_record
from agent.station.charge_point import ChargePoint
from agent.station.context import Context
from agent.station.keeper import CLOSED_KEPT, refold
from agent.station.recorder import Recorder
from agent.station.register import LEAST_STEP_WH
from agent.station.stop_proof import POWER_ZERO_W
from agent.trust.chain import Sealed, seal
from agent.trust.keys import Signer
from agent.values import Stamp

LOOK_S = 5.0  # a meter that is back is read within a second; nobody waits for the record
# A full disk is looked at every minute; a record that could not be stored is tried again, each time after
# twice as long, at most this.
PAUSE_FIRST_MS, PAUSE_MOST_MS = 10_000, 600_000


@dataclass(frozen=True, slots=True)
class Next:
    """The register when it was read next, and whose it was."""

    wh: int
    serial: str | None
    at: Stamp


@dataclass(slots=True)
class Open:
    """A session that was ended by its last durable reading; `next` once the register was read. `pause_ms`:
    the last one after the record could not be stored, `again_ms`: when it is tried again."""

    session: Session
    next: Next | None = None
    pause_ms: int = 0
    again_ms: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """The event and its record, before it is signed."""

    event: EventRow
    after: Session
    station: str
    head: Head

    def seal(self, key: Signer) -> Sealed:
        return seal(
            key,
            chain=self.head.chain,
            seq=self.head.seq + 1,
            prev=self.head.hash,
            type="unmeasured",
            station=self.station,
            stamp=self.event.stamp,
            body=unmeasured_record(self.after),
        )

    def store(self, ledger: Ledger, sealed: Sealed) -> None:
        """Both in one commit. Raises LedgerError."""
        after, record = self.after, RecordRow.of(sealed, self.after.id)
        ledger.append(
            self.event, evse=after.evse, terminal=after.terminal, open=False, record=record
        )


def draft(ledger: Ledger, session_id: str, found: Next, now: Stamp) -> Draft | None:
    """None when the session takes no such record: it is open, gone, or has one."""
    row = ledger.session(session_id)
    before = None if row is None else refold(session_id, ledger.events(session_id))
    if row is None or row.open or before is None:
        return None
    head = ledger.head()
    data = {"energy_wh": found.wh, "at": found.at.to_json(), "seq": head.seq + 1}
    result = step(before, Event(E.UNMEASURED, now, data))
    if not result.taken:
        return None
    event = EventRow(
        session_id,
        row.last_n + 1,
        str(E.UNMEASURED),
        data,  # type: ignore[arg-type]  # plain by construction
        str(result.session.state),
        TABLE_VERSION,
        now,
    )
    return Draft(event, result.session, ledger.station, head)


def is_open(session: Session) -> bool:
    """It was billed by an old reading, and nobody has told what came after."""
    return session.end_quality == LAST_DURABLE and session.unmeasured_seq is None


class Unmeasured:
    """What is open is found again after a restart: by the sessions, and by the begin reading of the session
    that came next on the connector, if one did."""

    def __init__(
        self, points: Mapping[str, ChargePoint], recorder: Recorder, context: Context
    ) -> None:
        self._points, self._recorder, self._context = points, recorder, context
        self._open: dict[str, Open] = {}

    def watch(self, session: Session) -> None:
        """Called after every event of a session."""
        if is_open(session):
            known = self._open.setdefault(session.id, Open(session))
            known.session = session
        elif session.begin_wh is not None and session.end_wh is None and self._open:
            self._began(session)

    def _began(self, session: Session) -> None:
        if session.begin_wh is None or session.began_at is None:
            return
        for known in self._open.values():
            if known.next is None and known.session.evse == session.evse:
                known.next = Next(session.begin_wh, session.meter_serial, session.began_at)

    @property
    def open(self) -> frozenset[str]:
        """Sessions of which it is not told yet what came behind their bill."""
        return frozenset(self._open)

    def load(self, sessions: Iterable[Session]) -> None:
        """The last sessions, oldest first."""
        for session in sessions:
            if session.begin_wh is not None:
                self._began(session)
            if is_open(session):
                self._open[session.id] = Open(session)

    async def run(self) -> None:
        self.load(await self._recorder.last_sessions(CLOSED_KEPT))
        while True:
            for session_id in list(self._open):
                await self._look(session_id)
            await asyncio.sleep(LOOK_S)

    async def _look(self, session_id: str) -> None:
        known, keeper = self._open[session_id], self._context.keeper
        known.next = known.next or self._read(known.session)
        now_ms = self._context.clock.boot_ms()
        if known.next is None or session_id in keeper.sessions or now_ms < known.again_ms:
            return
        try:
            await self._tell(known.session, known.next)
        except LedgerError as error:
            if not known.pause_ms:
                self._context.log(
                    "unmeasured_kept",
                    level="warning",
                    id=error.code,
                    session=session_id,
                    why=str(error),
                )
            known.pause_ms = min(2 * known.pause_ms or PAUSE_FIRST_MS, PAUSE_MOST_MS)
            known.again_ms = now_ms + known.pause_ms
            return
        del self._open[session_id]

    def _read(self, session: Session) -> Next | None:
        """The register, once it is read again and nothing flows."""
        point = self._points.get(session.evse or "")
        if point is None or not point.reading.ok or point.session() not in (None, session):
            return None
        reading = point.reading
        if reading.energy_import_wh is None or (reading.power_w or 0) > POWER_ZERO_W:
            return None
        if session.ended_at is not None and not _after(
            reading.boot_ms, session.ended_at, self._now()
        ):
            return None
        return Next(reading.energy_import_wh, reading.serial, self._now())

    def _now(self) -> Stamp:
        return self._context.clock.stamp()

    async def _tell(self, session: Session, found: Next) -> None:
        """Another meter's register, or a lower one, tells nothing."""
        more_wh = found.wh - (session.end_wh or 0)
        known_meter = session.meter_serial in (None, found.serial)
        if not known_meter or more_wh <= LEAST_STEP_WH:
            return
        now = self._now()
        if await self._recorder.add(lambda ledger: draft(ledger, session.id, found, now)):
            self._context.log(
                "energy_unmeasured",
                level="warning",
                id="STA-053",
                session=session.id,
                evse=session.evse,
                energy_wh=more_wh,
                effect="in a record of its own; nobody is charged for it",
            )


def _after(boot_ms: int, ended: Stamp, now: Stamp) -> bool:
    """A reading of this boot was taken after `ended`."""
    return now.boot_id != ended.boot_id or boot_ms >= ended.boot_ms
