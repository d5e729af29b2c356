"""ZVT over TCP (PA00P016 rev. 04, transport on TCP/IP), without I/O: the counterpart of `frames.Link`.

APDUs only: no blocks, no checksum, no ACK, no repeats; TCP does all that. A message ends where its length
says, however the bytes were cut up on the way. What was written counts as delivered: the answer of the other
side (T3) is the proof that it was.

Bytes that cannot be ZVT are told as a failure of the link, for the same reason: with no block to find the
beginning of, nothing after them can be trusted."""

from __future__ import annotations

from drivers.terminal.zvt.frames import (
    APDU_BYTES_MIN,
    Delivered,
    LinkEvent,
    Received,
    SendFailed,
)

EXTENDED = 0xFF  # instead of a length: two bytes of it follow, low byte first
HEAD_BYTES_EXTENDED = 5
# What a terminal that is set to another protocol answers to an APDU.
OTHER_PROTOCOL = b"\x15\x03\x69"
# Commands have classes up to 0F, answers and nothing else have the top bit (PA00P015). In between are 10 (a
# block of the serial transport), 15 and all printable text; 00 begins the length of other protocols.
COMMANDS, ANSWERS_FROM = range(0x01, 0x10), 0x80


class StreamLink:
    """`send` one message at a time; feed `receive` and `on_time`; write `take_output` to the line."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._output = bytearray()
        self._pending: bytes | None = None  # our message that is not known to be written
        self._written_at: int | None = None  # when it was handed out
        self._sent_at = 0
        self.garbage = ""  # what came that is no ZVT; nothing after it can be read

    # --- our side ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A message of ours is on its way to the line."""
        return self._pending is not None

    @property
    def pending(self) -> bytes | None:
        """That message."""
        return self._pending

    @property
    def receiving(self) -> bool:
        """In the middle of a message of theirs; before a command that means: out of step."""
        return bool(self._buffer) or bool(self.garbage)

    def begin(self, command: bytes, now: int) -> None:
        """A command from idle. What is left of the dialogue before is forgotten."""
        self.withdraw()
        self._buffer.clear()
        self._output.clear()
        self.garbage = ""
        self.send(command, now)

    def send(self, apdu: bytes, now: int) -> None:
        """A message within a dialogue. Raises RuntimeError while another one was not written."""
        if self._pending is not None:
            raise RuntimeError("a message is still to be written")
        self._pending, self._sent_at, self._written_at = apdu, now, None
        self._output += apdu

    def withdraw(self) -> None:
        """Nobody waits for the delivery any more."""
        self._pending = self._written_at = None

    def take_output(self) -> bytes:
        out = bytes(self._output)
        self._output.clear()
        if self._pending is not None:
            self._written_at = self._sent_at
        return out

    def next_deadline(self) -> int | None:
        """At once after a write, which `on_time` tells of."""
        return self._written_at

    # --- their side -------------------------------------------------------------------------------

    def on_time(self, now: int) -> list[LinkEvent]:
        return self._delivery()

    def receive(self, data: bytes, now: int) -> list[LinkEvent]:
        # What arrives after a write was said after it.
        events = self._delivery()
        if self.garbage:
            return events
        self._buffer += data
        while (apdu := self._next()) is not None:
            events.append(Received(apdu))
        why = self._trouble()
        if why:
            self.garbage = why
            self._buffer.clear()
            events.append(SendFailed(why, self._pending or b""))
            self.withdraw()
        return events

    def _delivery(self) -> list[LinkEvent]:
        if self._written_at is None:
            return []
        self.withdraw()
        return [Delivered()]

    def _next(self) -> bytes | None:
        """The first whole message of the buffer, which stays below the longest one."""
        have = self._buffer
        if len(have) < APDU_BYTES_MIN or self._trouble():
            return None
        size = APDU_BYTES_MIN + have[2]
        if have[2] == EXTENDED:
            if len(have) < HEAD_BYTES_EXTENDED:
                return None
            size = HEAD_BYTES_EXTENDED + int.from_bytes(have[3:5], "little")
        if len(have) < size:
            return None
        apdu = bytes(have[:size])
        del have[:size]
        return apdu

    def _trouble(self) -> str:
        """Why the buffer holds no ZVT. One byte is told at most: nobody knows what the others are."""
        have = self._buffer
        if not have or have[0] in COMMANDS or have[0] >= ANSWERS_FROM:
            return ""
        if OTHER_PROTOCOL.startswith(bytes(have[: len(OTHER_PROTOCOL)])):
            return "15 03 69: it is set to another protocol"
        return f"something that begins with {have[0]:02x}"
