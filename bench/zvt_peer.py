"""The other end of the line: a terminal of few words, in a process of its own, that keeps time.

Blocking on purpose: nothing stands between the wake-up by the kernel and the clock. It writes a message at
the speed of a line and measures from its last byte to the first bytes of what comes back."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench import zvt_messages as m
from drivers.terminal.zvt.frames import ACK, DLE, ETX, STX, frame

ANSWER_S = 10.0
READ_BYTES = 4096
# A receipt as it is printed line by line and as a block, a few words of progress: one saturated hold.
RECEIPT = (
    m.PROGRESS,
    *[m.printed_line("Ladestrom        12,34 kWh     9,99 EUR")] * 10,
    *[m.printed_block(33)] * 2,
)


class Gone(Exception):
    """The other side has hung up, or is mute."""


@dataclass(slots=True)
class Times:
    """Of every message: its control field, and milliseconds from its last byte to the ACK and to the
    first byte of the answer."""

    turnarounds: list[tuple[str, float, float]] = field(default_factory=list)
    sent_bytes: int = 0
    sending_s: float = 0.0


class Peer:
    """`rate`: bytes a second; None writes at once. `piece`: so many bytes arrive together, as from the
    FIFO of a UART."""

    def __init__(self, fd: int, rate: int | None, piece: int) -> None:
        self._fd, self._rate, self._piece = fd, rate, piece
        self._ahead = bytearray()
        self._free_at = 0.0  # when the line is free for the next byte
        self.times = Times()

    # --- bytes ------------------------------------------------------------------------------------

    def _byte(self) -> int:
        if not self._ahead:
            if not select.select([self._fd], [], [], ANSWER_S)[0]:
                raise Gone
            try:
                self._ahead += os.read(self._fd, READ_BYTES)
            except OSError as error:
                raise Gone from error
        if not self._ahead:
            raise Gone
        return self._ahead.pop(0)

    def _write(self, data: bytes) -> float:
        """When the last byte left: the clock is read before it, as the reader may run before we do."""
        started = time.perf_counter()
        if self._rate is None:
            os.write(self._fd, data)
            return started
        left = started
        at = max(self._free_at, started - self._piece / self._rate)
        for offset in range(0, len(data), self._piece):
            piece = data[offset : offset + self._piece]
            at += len(piece) / self._rate
            if (wait := at - time.perf_counter()) > 0:
                time.sleep(wait)
            left = time.perf_counter()
            os.write(self._fd, piece)
        self._free_at = at
        return left

    # --- blocks -----------------------------------------------------------------------------------

    def _block(self) -> tuple[bytes, float]:
        """The next block, acknowledged, and when its first byte came."""
        while self._byte() != DLE:
            pass
        first = time.perf_counter()
        assert self._byte() == STX
        apdu = bytearray()
        while True:
            byte = self._byte()
            if byte == DLE:
                byte = self._byte()
                if byte == ETX:
                    break
            apdu.append(byte)
        self._byte()
        self._byte()
        self._write(bytes([ACK]))
        return bytes(apdu), first

    def _send(self, apdu: bytes) -> tuple[float, float]:
        """When the last byte left, and when the ACK came."""
        framed = frame(apdu)
        written = self._write(framed)
        self.times.sent_bytes += len(framed) + 1  # and our ACK to its answer
        while self._byte() != ACK:
            pass
        return written, time.perf_counter()

    def _message(self, apdu: bytes) -> None:
        written, acknowledged = self._send(apdu)
        _, answered = self._block()
        self.times.turnarounds.append(
            (apdu[:2].hex(), (acknowledged - written) * 1e3, (answered - written) * 1e3)
        )

    # --- commands ---------------------------------------------------------------------------------

    def serve(self, receipt: Sequence[bytes]) -> None:
        """Every command ends well; a reservation prints `receipt` before its result. Until Gone."""
        while True:
            command, _ = self._block()
            started = time.perf_counter()
            self._send(m.ANSWER)
            for message in self._words(command[:2].hex(), receipt):
                self._message(message)
            self.times.sending_s += time.perf_counter() - started

    @staticmethod
    def _words(command: str, receipt: Sequence[bytes]) -> Iterator[bytes]:
        if command == "0622":
            yield from receipt
            yield m.RESULT
            yield m.COMPLETION
        elif command == "0600":
            yield bytes.fromhex("060f0a19102952523535490978")
        elif command == "0501":
            yield bytes.fromhex("060f0100")
        else:
            yield m.COMPLETION


def main(arguments: Sequence[str]) -> int:
    """Serves the pty master on descriptor `fd` until the other side hangs up; then tells its times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fd", type=int)
    parser.add_argument("--rate", type=int)
    parser.add_argument("--piece", type=int, default=1)
    parser.add_argument("--receipt", action="store_true")
    given = parser.parse_args(arguments)
    peer = Peer(given.fd, given.rate, given.piece)
    print("ready", flush=True)
    with contextlib.suppress(Gone):
        peer.serve(RECEIPT if given.receipt else ())
    times = peer.times
    print(json.dumps([times.turnarounds, times.sent_bytes, times.sending_s]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
