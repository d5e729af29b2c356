"""ZVT's serial link (PA00P016 rev. 04, transport on RS-232), without I/O: bytes in, events and bytes out.

A block is DLE STX, the APDU with every DLE doubled, DLE ETX, and two CRC bytes that are neither doubled nor
scanned. ACK and NAK are single bytes. There is no block number: when an ACK is lost the same block comes
again, so a block that equals the last one counts as a repeat until something of ours that came after it
was acknowledged.

Whether the length inside an APDU fits is no business of the link: the checksum says that it was sent so,
and a NAK would only bring it twice more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

STX, ETX, ACK, DLE, NAK = 0x02, 0x03, 0x06, 0x10, 0x15
T1_MS = 200  # between two bytes of a block
T2_MS = 5_000  # end of a block to its ACK or NAK
SENDS_MAX = 3  # one block and two repeats
ANSWERS = (0x80, 0x84)  # CCRC: positive and negative application answers
APDU_BYTES_MIN = 3  # control field and length
APDU_BYTES_MAX = 3 + 2 + 0xFFFF  # control field, FF and two length bytes, data


def _crc_row(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return value


_CRC_TABLE = tuple(_crc_row(byte) for byte in range(256))


def crc(apdu: bytes) -> bytes:
    """CRC-16/KERMIT over the un-doubled APDU and the ETX, low byte first."""
    value = 0
    for byte in (*apdu, ETX):
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


def frame(apdu: bytes) -> bytes:
    """An APDU as a block on the line."""
    body = apdu.replace(bytes([DLE]), bytes([DLE, DLE]))
    return bytes([DLE, STX]) + body + bytes([DLE, ETX]) + crc(apdu)


@dataclass(frozen=True, slots=True)
class Received:
    """A good block that is not a repeat. It has been acknowledged already: the link's ACK never
    waits for a disk. The bytes may hold card data, which is for the codec to drop."""

    apdu: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other side has our block."""


@dataclass(frozen=True, slots=True)
class SendFailed:
    """Three sends of `apdu` without an ACK."""

    why: str
    apdu: bytes = field(repr=False)


LinkEvent = Received | Delivered | SendFailed


class _At(Enum):
    IDLE = auto()
    IDLE_DLE = auto()
    BODY = auto()
    BODY_DLE = auto()
    CRC = auto()
    DRAIN = auto()  # after a bad block: silence for T1, then one NAK


_IN_BLOCK = frozenset({_At.BODY, _At.BODY_DLE, _At.CRC})


class Link:
    """`send` one block at a time; feed `receive` and `on_time`; write `take_output` to the line."""

    def __init__(self) -> None:
        self._at = _At.IDLE
        self._body = bytearray()
        self._crc = bytearray()
        self._output = bytearray()
        self._gap_at: int | None = None  # when T1 ends
        self._pending: bytes | None = None  # our block without ACK
        self._sends = 0
        self._ack_at: int | None = None  # when T2 ends, or the pause after a NAK
        self._why = ""  # what a repeat would be for
        self._last: bytes | None = None  # the block that may still be repeated

    # --- our side ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A block of ours waits for its ACK."""
        return self._pending is not None

    @property
    def pending(self) -> bytes | None:
        """That block."""
        return self._pending

    @property
    def receiving(self) -> bool:
        """In the middle of a block of theirs."""
        return self._at is not _At.IDLE

    def begin(self, command: bytes, now: int) -> None:
        """A command from idle. What is left of the dialogue before is forgotten: half a block, a block
        of ours that nobody acknowledged."""
        self.withdraw()
        self._at, self._gap_at = _At.IDLE, None
        self._output.clear()
        self.send(command, now)

    def send(self, apdu: bytes, now: int) -> None:
        """A block within a dialogue. Raises RuntimeError while another one has no ACK."""
        if self._pending is not None:
            raise RuntimeError("a block is still without ACK")
        if apdu[0] not in ANSWERS and not _is_negative(self._last):
            # To a new command the old positive answer is a new answer. A refusal is not: heard twice
            # because our ACK was lost, it would refuse the new command, which may well be executed.
            self._last = None
        self._pending = apdu
        self._sends = 0
        self._transmit(now)

    def withdraw(self) -> None:
        """Give up the block that waits for its ACK: the other side's block goes first."""
        self._pending, self._ack_at = None, None

    def take_output(self) -> bytes:
        out = bytes(self._output)
        self._output.clear()
        return out

    def next_deadline(self) -> int | None:
        times = [t for t in (self._gap_at, self._ack_at) if t is not None]
        return min(times, default=None)

    def _transmit(self, now: int) -> None:
        assert self._pending is not None
        self._sends += 1
        self._output += frame(self._pending)
        self._ack_at = now + T2_MS
        self._why = "no acknowledgement"

    def _repeat(self, now: int) -> list[LinkEvent]:
        if self._sends < SENDS_MAX:
            self._transmit(now)
            return []
        failed = self._pending
        assert failed is not None
        self.withdraw()
        return [SendFailed(f"{self._why}, {SENDS_MAX} sends", failed)]

    def _refused(self, now: int) -> None:
        """NAK. The repeat waits for T1: a disturbance that looks like a NAK, followed by the ACK and
        the next message, would otherwise send our answer twice, and the second one would answer that
        message."""
        assert self._ack_at is not None
        self._ack_at = min(now + T1_MS, self._ack_at)
        self._why = "refused (NAK)"

    # --- their side -------------------------------------------------------------------------------

    def receive(self, data: bytes, now: int) -> list[LinkEvent]:
        events: list[LinkEvent] = []
        for byte in data:
            events += self._byte(byte, now)
        return events

    def on_time(self, now: int) -> list[LinkEvent]:
        if self._gap_at is not None and now >= self._gap_at:
            # Either a gap inside a block or the silence after a bad one: now, once, NAK. A lone DLE
            # was no block.
            if self._at is not _At.IDLE_DLE:
                self._output.append(NAK)
            self._at, self._gap_at = _At.IDLE, None
        if self._ack_at is None or now < self._ack_at:
            return []
        if self._gap_at is not None and self._at in _IN_BLOCK:
            # In the middle of a block of theirs, behind which the ACK may come, or which tells by itself
            # that ours arrived. A block has a longest length, so this does not go on for ever.
            self._ack_at = self._gap_at
            return []
        return self._repeat(now)

    def _byte(self, byte: int, now: int) -> list[LinkEvent]:
        if self._at is _At.IDLE:
            return self._idle(byte, now)
        self._gap_at = now + T1_MS
        if self._at is _At.IDLE_DLE:
            return self._second(byte, now)
        if self._at is _At.BODY:
            if byte == DLE:
                self._at = _At.BODY_DLE
            else:
                self._take(byte)
        elif self._at is _At.BODY_DLE:
            if byte == ETX:
                self._at = _At.CRC
            elif byte == DLE:
                self._at = _At.BODY
                self._take(byte)
            else:
                self._at = _At.DRAIN
        elif self._at is _At.CRC:
            self._crc.append(byte)
            if len(self._crc) == 2:
                return self._block()
        return []

    def _idle(self, byte: int, now: int) -> list[LinkEvent]:
        if byte == DLE:
            self._at = _At.IDLE_DLE
            self._gap_at = now + T1_MS
        elif byte == ACK and self._pending is not None:
            return self._delivered()
        elif byte == NAK and self._pending is not None:
            self._refused(now)
        return []  # noise, or an ACK nobody waits for

    def _second(self, byte: int, now: int) -> list[LinkEvent]:
        if byte == STX:
            self._at = _At.BODY
            self._body.clear()
            self._crc.clear()
            return []
        if byte == DLE:
            return []
        self._at, self._gap_at = _At.IDLE, None
        return self._idle(byte, now)

    def _take(self, byte: int) -> None:
        self._body.append(byte)
        if len(self._body) > APDU_BYTES_MAX:
            self._at = _At.DRAIN

    def _delivered(self) -> list[LinkEvent]:
        # They have heard us after their last block, so an equal one from now on is a new one.
        self._last = None
        self.withdraw()
        return [Delivered()]

    def _block(self) -> list[LinkEvent]:
        apdu = bytes(self._body)
        if bytes(self._crc) != crc(apdu) or len(apdu) < APDU_BYTES_MIN:
            self._at = _At.DRAIN
            return []
        self._at, self._gap_at = _At.IDLE, None
        self._output.append(ACK)
        events: list[LinkEvent] = []
        if apdu == self._last:
            return events
        if self._pending is not None and self._implies_delivery(apdu):
            events += self._delivered()
        self._last = apdu
        return [*events, Received(apdu)]

    def _implies_delivery(self, apdu: bytes) -> bool:
        """The ACK was lost, but this block can only follow ours: an answer to our command, or what
        comes after our answer."""
        assert self._pending is not None
        return apdu[0] in ANSWERS or self._pending[0] in ANSWERS


def _is_negative(apdu: bytes | None) -> bool:
    return apdu is not None and apdu[0] == ANSWERS[1] and apdu[1] != 0
