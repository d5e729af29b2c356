"""Iskra WM3M4 and WM3M4C: a JSON template goes in, the same JSON with both readings and a signature come
out; the record is put together from them.

Registers and sequence as used by the EVerest module RsIskraMeter. Reads function 3, writes 6 for one
register and 16 for texts. The meter has no acknowledgement, and its record stays until the next begin: so
an acknowledged record is marked in the register of the template, which is free between transactions. A
mark that a power loss has taken makes the record wait once more; it is never lost that way.
"""

from __future__ import annotations

import hashlib
import json

from drivers.meter.signing.der import minimal_signature, p256_key
from drivers.meter.signing.label import Label, TimeOfDay
from drivers.meter.signing.steps import (
    Pause,
    Sent,
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
    text_words,
    unusable,
    wants_text,
    word_bytes,
    write,
    wrong_text,
)

STATE = 7000
IDLE, ACTIVE, AFTER_POWER_FAILURE, AFTER_RESET = range(4)
COMMAND, BEGIN, END = 7051, 0x4200, 0x7200
STATUS, IN_PROGRESS, SIGNED, FIRST_ERROR = 7052, 2, 15, 128
TIMEZONE, EPOCH = 7053, 7054
TEMPLATE_LENGTH, DATA_LENGTH, ALGORITHM = 7056, 7057, 7059
TIME_SYNC, LOST, SYNCHRONISED = 7071, 0, 2
TEMPLATE, TEMPLATE_MOST = 7100, 1024  # bytes up to the signed data
DATA, DATA_MOST = 7612, 1024
PUBLIC_KEY, KEY_WORDS = 8124, 32
SIGNATURE, SIGNATURE_MOST = 8188, 160
READ_MOST = 125
ERRORS = {
    128: "its date and time are not valid", 129: "checksum", 130: "unknown command", 131: "not in this state",
    132: "its measurement is not valid", 133: "it is in test mode", 243: "verification of the state",
    244: "state of the signature", 245: "making the key", 246: "hash", 247: "start of the signing part",
    248: "data not locked", 249: "configuration not locked", 250: "verification", 251: "public key",
    252: "form of the text", 253: "length of the text", 254: "signature", 255: "undefined",
}  # fmt: skip
POLL_MS = 100
# What EVerest waits for the state and for the signature.
STATE_MOST_MS, SIGN_MOST_MS = 1_000, 15_000
_MARK = b'{"stored":"'


class Wm3m4:
    """One meter's sequences; keeps nothing."""

    def state(self) -> Steps[SigningState]:
        (state,) = yield from read(STATE)
        if state in (AFTER_POWER_FAILURE, AFTER_RESET):
            return SigningState.INTERRUPTED
        (status,) = yield from read(STATUS)
        if status == IN_PROGRESS:
            return SigningState.SIGNING
        if state == ACTIVE:
            return SigningState.OPEN
        if state != IDLE:
            raise failed(f"the meter tells state {state}, which is not known")
        record = yield from self._record()
        if record is None:
            return SigningState.FREE
        told = yield from self._template(len(_marked(record.mark)))
        return SigningState.FREE if told == _marked(record.mark) else SigningState.RECORD

    def busy(self) -> Steps[bool]:
        """It answers as quickly as ever."""
        yield from now()
        return False

    def public_key(self) -> Steps[bytes | None]:
        """As DER SubjectPublicKeyInfo."""
        point = word_bytes((yield from read(PUBLIC_KEY, KEY_WORDS)))
        return p256_key(point) if any(point) else None

    def begin(self, label: Label, ours: bool) -> Steps[None]:
        text = template(label)
        state = yield from self._settled()
        if state in (SigningState.OPEN, SigningState.INTERRUPTED):
            told = yield from self._template(len(text))
            if told != text and not ours:
                whose = "another text" if told.strip(b"\0") else "a text it no longer knows"
                raise another_is_open(whose)
            if told != text:
                yield from self._prepare(label, text)
            if state is SigningState.OPEN:
                yield from self._signed()
            return
        if state is SigningState.RECORD and not (yield from self._prepared(label, text)):
            raise not_fetched()
        yield from write(ALGORITHM, (0,), single=True)
        yield from self._prepare(label, text)
        sent = yield from command(COMMAND, BEGIN, single=True)
        yield from self._reaches(ACTIVE, sent)
        yield from self._signed()

    def _prepared(self, label: Label, text: bytes) -> Steps[bool]:
        """The record was acknowledged, and a begin with this text was cut short before its command: only
        then does the register of the template hold a text that is not the record's."""
        record = yield from self._record()
        return (
            record is not None
            and (yield from self._template(len(text))) == text
            and json.dumps({"ID": label.id}, separators=(",", ":"))[1:-1].encode()
            not in record.data
        )

    def _settled(self) -> Steps[SigningState]:
        """The state once it is not signing."""
        begun_ms = yield from now()
        while True:
            state = yield from self.state()
            if state is not SigningState.SIGNING:
                return state
            now_ms = (yield Pause(POLL_MS)).at_ms
            if now_ms - begun_ms > SIGN_MOST_MS:
                raise no_end("the meter has been signing", now_ms - begun_ms)

    def _prepare(self, label: Label, text: bytes) -> Steps[None]:
        """Time and text; both are gone after a power loss."""
        if label.time is not None:
            yield from self._set_clock(label.time)
        yield from write(TEMPLATE, text_words(text))
        yield from write(TEMPLATE_LENGTH, (len(text),), single=True)
        told = yield from self._template(len(text))
        if told != text:
            raise unusable("the meter reads back another text than was written")

    def _set_clock(self, time: TimeOfDay) -> Steps[None]:
        """A time that is not synchronised is not called so, and does not replace one that is."""
        if not time.synchronised and (yield from read(TIME_SYNC)) == (SYNCHRONISED,):
            return
        utc_s = time.utc_s((yield from now()))
        yield from write(EPOCH, (utc_s >> 16 & 0xFFFF,), single=True)
        yield from write(EPOCH + 1, (utc_s & 0xFFFF,), single=True)
        yield from write(TIMEZONE, (time.offset_min & 0xFFFF,), single=True)
        yield from write(TIME_SYNC, (SYNCHRONISED if time.synchronised else LOST,), single=True)

    def _template(self, many: int) -> Steps[bytes]:
        words = yield from read_long(TEMPLATE, (many + 1) // 2, READ_MOST)
        return word_bytes(words)[:many]

    def _reaches(self, wanted: int, sent: Sent) -> Steps[None]:
        """The command was obeyed: the meter is in the state that it leads to."""
        while True:
            (state,) = yield from read(STATE)
            if state == wanted:
                return
            (status,) = yield from read(STATUS)
            if status >= FIRST_ERROR:
                # If it never arrived, the error is that of an older one.
                raise sent.doubt or _error(status)
            now_ms = (yield Pause(POLL_MS)).at_ms
            # While it signs, the state may still be the old one.
            most_ms = SIGN_MOST_MS if status == IN_PROGRESS else STATE_MOST_MS
            if now_ms - sent.at_ms > most_ms:
                raise sent.doubt or no_end("the command was not obeyed", now_ms - sent.at_ms)

    def _signed(self) -> Steps[None]:
        begun_ms = yield from now()
        while True:
            (status,) = yield from read(STATUS)
            if status == SIGNED:
                return
            if status >= FIRST_ERROR:
                raise _error(status)
            now_ms = (yield Pause(POLL_MS)).at_ms
            if now_ms - begun_ms > SIGN_MOST_MS:
                raise no_end("the meter has not signed", now_ms - begun_ms)

    def end(self, label: Label | None) -> Steps[None]:
        state = yield from self._settled()
        if state is SigningState.RECORD:
            return
        if state is SigningState.FREE:
            raise nothing_there(state)
        if state is SigningState.INTERRUPTED:
            if label is None:
                raise wants_text()
            yield from self._prepare(label, template(label))
        sent = yield from command(COMMAND, END, single=True)
        yield from self._reaches(IDLE, sent)
        yield from self._signed()

    def fetch(self) -> Steps[SignedRecord]:
        state = yield from self._settled()
        if state is SigningState.RECORD:
            record = yield from self._record()
            if record is not None and record.why:
                raise unusable(record.why, record.mark)
            if record is not None:
                return record
        raise nothing_there(state)

    def _record(self) -> Steps[SignedRecord | None]:
        """Whatever the meter has signed last, acknowledged or not."""
        many, signature_many = yield from read(DATA_LENGTH, 2)
        if not many or not signature_many:
            return None
        if many > DATA_MOST or signature_many > SIGNATURE_MOST:
            raise unusable(f"{many} bytes signed with {signature_many}")
        words = yield from read_long(DATA, (many + 1) // 2, READ_MOST)
        data = word_bytes(words)[:many]
        words = yield from read(SIGNATURE, (signature_many + 1) // 2)
        signature = word_bytes(words)[:signature_many]
        mark = hashlib.sha256(data + signature).hexdigest()[:16]
        if b"|" in data or not data.startswith(b"{"):
            return SignedRecord(b"", mark, "what the meter signed is no JSON, or has a |")
        try:
            number = minimal_signature(signature).hex().encode("ascii")
        except SigningTrouble as trouble:
            return SignedRecord(b"", mark, trouble.seen)
        return SignedRecord(b"OCMF|" + data + b'|{"SD":"' + number + b'"}', mark)

    def acknowledge(self, mark: str) -> Steps[None]:
        state = yield from self._settled()
        if state is SigningState.FREE:
            return
        record = (yield from self._record()) if state is SigningState.RECORD else None
        if record is None or record.mark != mark:
            raise nothing_there(state)
        yield from write(TEMPLATE, text_words(_marked(mark)))
        if (yield from self._template(len(_marked(mark)))) != _marked(mark):
            raise unusable("the meter did not keep the mark of an acknowledged record")


def _marked(mark: str) -> bytes:
    return _MARK + mark.encode("ascii") + b'"}'


def _error(status: int) -> Exception:
    return failed(f"the meter refused to sign with {status} ({ERRORS.get(status, 'not known')})")


def template(label: Label) -> bytes:
    """The charger's part of the record: what only the meter knows is empty. Raises SigningTrouble
    MTR-034. WM3M4 before its version 2 knows no TT, so a tariff text is only there when it is given."""
    fields: dict[str, object] = {
        "FV": "1.0", "GI": "", "GS": "", "GV": "", "PG": "", "MV": "", "MM": "", "MS": "", "MF": "",
        "IS": label.assigned, "IL": label.level, "IF": list(label.flags), "IT": label.id_type,
        "ID": label.id, "CT": label.place_type, "CI": label.place, "RD": [],
    }  # fmt: skip
    if label.tariff:
        fields["TT"] = label.tariff
    text = json.dumps(fields, separators=(",", ":")).encode("ascii")
    if len(text) > TEMPLATE_MOST:
        raise wrong_text(f"the whole text has {len(text)} bytes; this meter takes {TEMPLATE_MOST}")
    return text
