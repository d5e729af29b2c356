"""Bauer BSM-WS36A: signed snapshots of the register, one at the start and one at the end, each with an OCMF
text of its own. The record is both texts, a line each.

Registers and sequence as in chargeITmobility's bsm-python (SunSpec models 64900 to 64903). Reads function
3, writes 16, also for one register. While it signs, any reply may take 15 s, so what is asked then is asked
patiently. The meter has no acknowledgement and keeps its snapshots until the next: an acknowledged pair is
marked in meta1, which is free between transactions. A mark that is lost makes the pair wait once more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from drivers.meter.signing.der import whole
from drivers.meter.signing.label import Label, TimeOfDay, limit
from drivers.meter.signing.steps import (
    Pause,
    Sent,
    SignedRecord,
    SigningState,
    Steps,
    another_is_open,
    command,
    failed,
    no_end,
    not_fetched,
    nothing_there,
    now,
    read,
    read_long,
    text_in,
    text_words,
    unusable,
    word_bytes,
    write,
)

EPOCH = 40260  # two registers, then the offset from UTC in minutes: one write, or the clock is torn
META = ((40279, 70), (40349, 50), (40399, 50))
KEY_LENGTH, KEY, KEY_WORDS = 40450, 40451, 48
VALID, INVALID, UPDATING, FAILED, NOT_ENABLED, NO_CONTACTOR = range(6)
OCMF_VALID = 0
TEXT_WORDS, READ_MOST = 496, 125
POLL_MS = 500
# A clock within this is left alone; the meter's maker wants it set once in 24 to 48 hours.
CLOCK_OFF_S = 10
# Signing takes it up to 15 s, and the reply that says so as long again.
SIGN_MOST_MS = 35_000
_WHY = {
    INVALID: "the snapshot is not valid", FAILED: "it failed", NOT_ENABLED: "snapshots are not enabled",
    NO_CONTACTOR: "the contactor does not answer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    status: int
    ocmf_status: int

    @property
    def text(self) -> int:
        return self.ocmf_status + 1


START, ENDING = Kind("start", 41286, 43294), Kind("end", 41540, 43794)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A signed text in the meter. `id` and `page` are read out of it, never written again."""

    text: bytes
    id: str
    page: int


@dataclass(frozen=True, slots=True)
class Seen:
    state: SigningState
    start: Snapshot | None
    end: Snapshot | None
    meta: bytes

    @property
    def record(self) -> SignedRecord | None:
        if self.start is None or self.end is None:
            return None
        data = self.start.text + b"\n" + self.end.text
        return SignedRecord(data, hashlib.sha256(data).hexdigest()[:16])


class BsmWs36a:
    """One meter's sequences; keeps nothing."""

    def state(self) -> Steps[SigningState]:
        return (yield from self.look()).state

    def look(self) -> Steps[Seen]:
        statuses = yield from self._statuses()
        if UPDATING in statuses:
            return Seen(SigningState.SIGNING, None, None, b"")
        meta = text_in((yield from read(META[0][0], META[0][1])))
        start = (yield from self._snapshot(START)) if statuses[0] == VALID else None
        if start is None:
            return Seen(SigningState.FREE, None, None, meta)
        end = (yield from self._snapshot(ENDING)) if statuses[1] == VALID else None
        if end is not None and (end.id != start.id or end.page <= start.page):
            end = None  # of the transaction before
        seen = Seen(SigningState.OPEN, start, end, meta)
        record = seen.record
        if record is None:
            return seen
        free = meta == _marked(record.mark)
        return Seen(SigningState.FREE if free else SigningState.RECORD, start, end, meta)

    def _statuses(self) -> Steps[list[int]]:
        found: list[int] = []
        for kind in (START, ENDING):
            found += yield from read(kind.status, patient=True)
        return found

    def busy(self) -> Steps[bool]:
        return UPDATING in (yield from self._statuses())

    def _snapshot(self, kind: Kind) -> Steps[Snapshot | None]:
        (status,) = yield from read(kind.ocmf_status)
        if status != OCMF_VALID:
            return None
        text = text_in((yield from read_long(kind.text, TEXT_WORDS, READ_MOST)))
        return _read(text) if text else None

    def public_key(self) -> Steps[bytes | None]:
        """As DER SubjectPublicKeyInfo."""
        (many,) = yield from read(KEY_LENGTH)
        if not 1 <= many <= 2 * KEY_WORDS:
            return None
        return whole(word_bytes((yield from read(KEY, (many + 1) // 2)))[:many])

    def begin(self, label: Label, _ours: bool) -> Steps[None]:
        texts = _texts(label)
        seen = yield from self._settled()
        if seen.state is SigningState.OPEN and seen.start is not None:
            if seen.start.id != label.id:
                raise another_is_open(repr(seen.start.id))
            return
        if seen.state is SigningState.RECORD and not _prepared(seen, label):
            raise not_fetched()
        yield from self._prepare(label, texts)
        yield from self._take(START)

    def _prepare(self, label: Label, texts: tuple[bytes, ...]) -> Steps[None]:
        if label.time is not None:
            yield from self._set_clock(label.time)
        for (address, many), text in zip(META, texts, strict=True):
            yield from write(address, text_words(text.ljust(2 * many, b"\0")))

    def _set_clock(self, time: TimeOfDay) -> Steps[None]:
        """Only where it is wrong: every write wears the meter."""
        high, low, offset = yield from read(EPOCH, 3)
        wanted = time.offset_min & 0xFFFF
        local_s = time.utc_s((yield from now())) + 60 * time.offset_min
        if offset != wanted or abs((high << 16 | low) - local_s) > CLOCK_OFF_S:
            yield from write(EPOCH, (local_s >> 16 & 0xFFFF, local_s & 0xFFFF, wanted))

    def _settled(self) -> Steps[Seen]:
        begun_ms = yield from now()
        while True:
            seen = yield from self.look()
            if seen.state is not SigningState.SIGNING:
                return seen
            now_ms = (yield Pause(POLL_MS)).at_ms
            if now_ms - begun_ms > SIGN_MOST_MS:
                raise no_end("the meter has been signing", now_ms - begun_ms)

    def _take(self, kind: Kind) -> Steps[None]:
        """A snapshot, and nothing but a new one."""
        (old,) = yield from read(kind.status, patient=True)
        before = yield from self._snapshot(kind)
        sent = yield from command(kind.status, UPDATING, patient=True)
        status = yield from self._status(kind, sent)
        if status != VALID:
            if sent.doubt is not None and status == old:
                raise sent.doubt  # it never arrived
            raise failed(f"{kind.name} snapshot: {_WHY.get(status, f'status {status}')}")
        after = yield from self._snapshot(kind)
        if after is None:
            raise failed(f"{kind.name} snapshot: there is no OCMF text of it")
        if after == before:
            raise sent.doubt or failed(f"{kind.name} snapshot: the text is still the old one")

    def _status(self, kind: Kind, sent: Sent) -> Steps[int]:
        while True:
            (status,) = yield from read(kind.status, patient=True)
            if status != UPDATING:
                return status
            now_ms = (yield Pause(POLL_MS)).at_ms
            if now_ms - sent.at_ms > SIGN_MOST_MS:
                raise no_end(f"the {kind.name} snapshot is being signed", now_ms - sent.at_ms)

    def end(self, label: Label | None) -> Steps[None]:
        seen = yield from self._settled()
        if seen.state is SigningState.RECORD:
            return
        if seen.state is not SigningState.OPEN or seen.start is None:
            raise nothing_there(seen.state)
        # A power loss may have taken clock and texts; the pair is known by its identification.
        known = limit("ID", seen.start.id, 2 * META[0][1])
        if seen.meta != known:
            if label is not None and label.id == seen.start.id:
                yield from self._prepare(label, _texts(label))
            else:
                address, many = META[0]
                yield from write(address, text_words(known.ljust(2 * many, b"\0")))
        yield from self._take(ENDING)

    def fetch(self) -> Steps[SignedRecord]:
        seen = yield from self._settled()
        record = seen.record
        if seen.state is not SigningState.RECORD or record is None:
            raise nothing_there(seen.state)
        return record

    def acknowledge(self, mark: str) -> Steps[None]:
        seen = yield from self._settled()
        if seen.state is SigningState.FREE:
            return
        record = seen.record
        if seen.state is not SigningState.RECORD or record is None or record.mark != mark:
            raise nothing_there(seen.state)
        address, many = META[0]
        yield from write(address, text_words(_marked(mark).ljust(2 * many, b"\0")))


def _texts(label: Label) -> tuple[bytes, ...]:
    """Identification, charge point and tariff: meta1 becomes ID, the others X2 and X3."""
    fields = (("ID", label.id), ("CI", label.place), ("TT", label.tariff))
    return tuple(limit(name, text, 2 * many) for (name, text), (_, many) in
                 zip(fields, META, strict=True))  # fmt: skip


def _prepared(seen: Seen, label: Label) -> bool:
    """The pair was acknowledged, and a begin with this label was cut short before its snapshot: only then
    does meta1 hold an identification that is not the pair's."""
    pair = "" if seen.start is None else seen.start.id
    return seen.meta == label.id.encode("ascii") and pair != label.id


def _marked(mark: str) -> bytes:
    return b"stored " + mark.encode("ascii")


def _read(text: bytes) -> Snapshot:
    """Raises SigningTrouble MTR-037."""
    parts = text.split(b"|")
    try:
        if len(parts) != 3 or parts[0] != b"OCMF":
            raise ValueError
        payload = json.loads(parts[1])
        return Snapshot(text, str(payload["ID"]), int(str(payload["PG"])[1:]))
    except (ValueError, KeyError, TypeError):
        raise unusable("the meter's text is no OCMF record with ID and PG") from None
