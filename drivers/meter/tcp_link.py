"""The master of one Modbus TCP connection, as a pure state machine beside `Master`.

Source: "MODBUS Messaging on TCP/IP Implementation Guide V1.0b" ch. 3.1.3 (MBAP header). Every request has a
transaction number and its reply repeats it, so a late reply is known for what it is and thrown away: no
quarantine. One request is under way at a time, as many gateways cannot do more. There is no checksum; a
stream without a header where one is due is of no use, and the connection is made anew.
"""

from __future__ import annotations

from drivers.meter.master import LATENCY_SLACK_MS
from drivers.meter.modbus import BadFrame, ExceptionReply, Request, values_of
from drivers.meter.timing import MS
from drivers.meter.turns import Job, Turns

PORT = 502  # registered for Modbus
_PROTOCOL = b"\0\0"
_HEADER_BYTES = (
    6  # transaction, protocol, length; the unit counts as the first byte of what follows
)
# Unit, function and one byte at least; a PDU has 253 bytes at most (ch. 3.1.3 and V1.1b3 ch. 4.1).
_LEAST_BYTES, _MOST_BYTES = 3, 254
# Old transactions whose late replies are still told as such.
_REMEMBERED = 16


class TcpMaster(Turns):
    """See the module and `Turns`."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._sent_us = 0
        self._bytes = bytearray()
        # Transactions given up: number -> (unit, when sent).
        self._owed: dict[int, tuple[int, int]] = {}

    def line_opened(self, now_us: int, *, paced: bool = False) -> None:
        """A new connection: what was sent on the old one is answered there, or never."""
        self._up = True
        self._bytes.clear()
        self._owed.clear()

    def receive(self, data: bytes, now_us: int) -> None:
        self._bytes += data
        while len(self._bytes) >= _HEADER_BYTES:
            length = int.from_bytes(self._bytes[4:6], "big")
            if self._bytes[2:4] != _PROTOCOL or not _LEAST_BYTES <= length <= _MOST_BYTES:
                self.counters.bad_headers += 1
                seen = self._bytes[:_HEADER_BYTES].hex()
                raise BadFrame(f"{seen} is no header of Modbus TCP; is this a Modbus TCP port?")
            end = _HEADER_BYTES + length
            if len(self._bytes) < end:
                return
            frame = bytes(self._bytes[:end])
            del self._bytes[:end]
            self._reply(int.from_bytes(frame[:2], "big"), frame[6], frame[7:], now_us)

    def poll(self, now_us: int) -> bytes | None:
        """As `Turns.poll`. Raises BadFrame as `receive` does."""
        if not self._up:
            return None
        if self._asked is not None:
            if now_us < self._deadline_us:
                return None
            self._timed_out(self._asked, 0, now_us - self._sent_us, now_us)
            if self._bytes:
                raise BadFrame("a frame that never became whole: bytes are missing in the stream")
        job = self._next_job(now_us)
        return None if job is None else self._send(job, now_us)

    def next_deadline(self) -> int | None:
        if not self._up:
            return None
        if self._asked is not None:
            return self._deadline_us
        if not self._queue:
            return None
        return min(self._ready_at(job) for job in self._foremost())

    def _send(self, job: Job, now_us: int) -> bytes:
        self._number = (self._number + 1) & 0xFFFF
        self._owed.pop(self._number, None)
        self._asked, self._sent_us = job, now_us
        self._deadline_us = now_us + (job.timing.turnaround_ms + LATENCY_SLACK_MS) * MS
        return tcp_frame(self._number, job.request)

    def _reply(self, number: int, unit: int, pdu: bytes, now_us: int) -> None:
        job = self._asked
        if job is None or number != self._number:
            self.counters.discarded_bytes += _HEADER_BYTES + 1 + len(pdu)
            late = self._owed.pop(number, None)
            if late is not None:
                self.counters.late(late[0], now_us - late[1])
            return
        try:
            if unit != job.request.unit:
                raise BadFrame(f"a frame of unit {unit} in answer to {job.request.describe()}")
            values = values_of(job.request, pdu)
        except ExceptionReply as error:
            self._excepted(job, error, now_us)
        except BadFrame as error:
            self._spoilt(job, error, now_us)
        else:
            self._answered(job, values, now_us)

    def _unanswered(self, job: Job, now_us: int) -> None:
        """Its reply will carry a number that nobody waits for."""
        self._rest(job, now_us)
        self._owed[self._number] = (job.request.unit, self._sent_us)
        if len(self._owed) > _REMEMBERED:
            del self._owed[next(iter(self._owed))]


def tcp_frame(number: int, request: Request) -> bytes:
    """`request` behind its MBAP header."""
    body = request.frame[:-2]
    return number.to_bytes(2, "big") + _PROTOCOL + len(body).to_bytes(2, "big") + body
