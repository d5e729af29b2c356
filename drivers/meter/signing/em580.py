"""Carlo Gavazzi EM580: the meter writes the whole OCMF record as a file, and discards it when it is
acknowledged (or when another transaction begins, which is therefore never asked for while one is there).

Registers and sequence as used by the EVerest module CarloGavazzi_EM580. Reads function 4, writes 16. The
meaning of charging_status is not known beyond "0 is none": while it is not 0 a transaction runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.meter.modbus import BusError, ExceptionReply
from drivers.meter.signing.der import whole
from drivers.meter.signing.label import ID_LEVELS, Label, limit
from drivers.meter.signing.steps import (
    Pause,
    SignedRecord,
    SigningState,
    SigningTrouble,
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
    wrong_text,
)

READ, READ_MOST = 4, 125
SIGNATURE_TYPE, PUBLIC_KEY_DER, KEY_WORDS = 0x24FF, 0x2600, {0: 46, 1: 62}
TARIFF, TARIFF_MOST = 0x6900, 251
IDENT_STATUS, IDENT_DATA, IDENT_WORDS = 0x7000, 0x7007, 20
PLACE_TYPE, PLACE_MOST = 0x701B, 40
TIMEZONE, UTC_TIME, MODALITY, CHARGING = 0x7031, 0x7032, 0x7036, 0
COMMAND, BEGIN, END = 0x7040, 0x42, 0x45
CHARGING_STATUS = 0x7045
OCMF_STATE, OCMF_FILE, FILE_MOST = 0x7100, 0x7110, 2031
NOT_READY, RUNNING, READY, CORRUPTED = range(4)

ID_TYPES = {
    "NONE": 0, "DENIED": 1, "UNDEFINED": 2, "ISO14443": 10, "ISO15693": 11, "EMAID": 20, "EVCCID": 21,
    "EVCOID": 30, "CARD_TXN_NR": 50, "CENTRAL": 60, "CENTRAL_1": 61, "CENTRAL_2": 62, "LOCAL": 70,
    "LOCAL_1": 71, "LOCAL_2": 72, "PHONE_NUMBER": 80, "KEY_CODE": 90,
}  # fmt: skip
POLL_MS = 100
# A signature takes it a second or so; ten times that is a meter that hangs.
SIGN_MOST_MS = 15_000
# The clock is refused for about 2 s after power-up; no longer than this.
CLOCK_MOST_MS = 5_000
CLOCK_AGAIN_MS = 500


@dataclass(frozen=True, slots=True)
class Seen:
    ocmf: int
    registers: int
    transaction: int
    charging: bool

    @property
    def state(self) -> SigningState:
        if self.ocmf == READY:
            return SigningState.RECORD
        if self.ocmf == CORRUPTED:
            return SigningState.FAILED
        if self.charging:
            return SigningState.OPEN
        return SigningState.SIGNING if self.ocmf == RUNNING else SigningState.FREE


class Em580:
    """One meter's sequences; keeps nothing."""

    def look(self) -> Steps[Seen]:
        (charging,) = yield from read(CHARGING_STATUS, 1, READ)
        ocmf, registers, low, high = yield from read(OCMF_STATE, 4, READ)
        return Seen(ocmf, registers, high << 16 | low, charging != 0)

    def state(self) -> Steps[SigningState]:
        return (yield from self.look()).state

    def busy(self) -> Steps[bool]:
        """It answers as quickly as ever."""
        yield from now()
        return False

    def public_key(self) -> Steps[bytes | None]:
        """As DER SubjectPublicKeyInfo."""
        (kind,) = yield from read(SIGNATURE_TYPE, 1, READ)
        if kind not in KEY_WORDS:
            return None
        return whole(word_bytes((yield from read(PUBLIC_KEY_DER, KEY_WORDS[kind], READ))))

    def begin(self, label: Label, _ours: bool) -> Steps[None]:
        ident, place = _ident(label), _place(label)
        tariff = limit("TT", label.tariff, TARIFF_MOST)
        seen = yield from self.look()
        if seen.state is SigningState.OPEN:
            told = yield from read(IDENT_DATA, IDENT_WORDS, READ)
            if text_in(told) != label.id.encode("ascii"):
                raise another_is_open(repr(text_in(told).decode("latin-1")))
            return
        if seen.state is SigningState.SIGNING:
            seen = yield from self._signed()
        if seen.state is SigningState.FAILED:
            raise _corrupted(seen)
        if seen.state is not SigningState.FREE:
            raise not_fetched()
        yield from self._set_clock(label)
        yield from write(IDENT_STATUS, ident)
        yield from write(PLACE_TYPE, place)
        yield from write(TARIFF, text_words(tariff, ends=True))
        yield from write(MODALITY, (CHARGING,))
        sent = yield from command(COMMAND, BEGIN)
        yield from self._until_open(sent.at_ms, sent.doubt)

    def _set_clock(self, label: Label) -> Steps[None]:
        if label.time is None:
            return
        begun_ms = yield from now()
        while True:
            now_ms = yield from now()
            utc_s = label.time.utc_s(now_ms)
            try:
                # Least significant word first, as all its numbers.
                yield from write(UTC_TIME, [utc_s >> 16 * n & 0xFFFF for n in range(4)])
                yield from write(TIMEZONE, (label.time.offset_min & 0xFFFF,))
                return
            except ExceptionReply:
                if now_ms - begun_ms >= CLOCK_MOST_MS:
                    raise
            yield Pause(CLOCK_AGAIN_MS)

    def _until_open(self, sent_ms: int, doubt: BusError | None) -> Steps[None]:
        while True:
            seen = yield from self.look()
            if seen.state is SigningState.OPEN:
                return
            if seen.state is SigningState.FAILED:
                raise failed("the meter could not begin a signed transaction")
            now_ms = (yield Pause(POLL_MS)).at_ms
            if now_ms - sent_ms > SIGN_MOST_MS:
                raise doubt or no_end("the transaction did not begin", now_ms - sent_ms)

    def end(self, _label: Label | None) -> Steps[None]:
        seen = yield from self.look()
        if seen.state is SigningState.FREE:
            raise nothing_there(seen.state)
        if seen.state is SigningState.OPEN:
            sent = yield from command(COMMAND, END)
            seen = yield from self._signed(sent.doubt)
        elif seen.state is SigningState.SIGNING:
            seen = yield from self._signed()
        if seen.state is SigningState.FAILED:
            raise _corrupted(seen)

    def _signed(self, doubt: BusError | None = None) -> Steps[Seen]:
        begun_ms = yield from now()
        while True:
            seen = yield from self.look()
            if seen.state not in (SigningState.OPEN, SigningState.SIGNING):
                return seen
            now_ms = (yield Pause(POLL_MS)).at_ms
            if now_ms - begun_ms > SIGN_MOST_MS:
                raise doubt or no_end("the meter has not signed", now_ms - begun_ms)

    def fetch(self) -> Steps[SignedRecord]:
        seen = yield from self.look()
        if seen.state in (SigningState.OPEN, SigningState.SIGNING):
            seen = yield from self._signed()
        if seen.state is SigningState.FAILED:
            raise _corrupted(seen)
        if seen.state is not SigningState.RECORD:
            raise nothing_there(seen.state)
        if not 1 <= seen.registers <= FILE_MOST:
            raise unusable(f"a file of {seen.registers} registers")
        words = yield from read_long(OCMF_FILE, seen.registers, READ_MOST, READ)
        if (yield from self.look()) != seen:
            raise unusable("the file changed while it was read")
        # Only the padding of its last register is no part of the file.
        return SignedRecord(word_bytes(words).rstrip(b"\0"), str(seen.transaction))

    def acknowledge(self, mark: str) -> Steps[None]:
        seen = yield from self.look()
        there = seen.state in (SigningState.RECORD, SigningState.FAILED)
        if there and str(seen.transaction) == mark:
            yield from write(OCMF_STATE, (NOT_READY,))
        elif seen.state is not SigningState.FREE:
            raise nothing_there(seen.state)


def _corrupted(seen: Seen) -> SigningTrouble:
    return failed("the meter calls its record corrupted", str(seen.transaction))


def _ident(label: Label) -> tuple[int, ...]:
    """Status, level, four flags, type and identification, as they stand in the registers."""
    data = limit("ID", label.id, 2 * IDENT_WORDS)
    if label.flags:
        raise wrong_text(
            "IF has flags, but no source tells the numbers that this meter wants for them"
        )
    words = text_words(data.ljust(2 * IDENT_WORDS, b"\0"))
    level = ID_LEVELS.index(label.level)
    return (int(label.assigned), level, 0, 0, 0, 0, ID_TYPES[label.id_type], *words)


def _place(label: Label) -> tuple[int, ...]:
    data = limit("CI", label.place, PLACE_MOST).ljust(PLACE_MOST, b"\0")
    return (0 if label.place_type == "EVSEID" else 1, *text_words(data))
