"""The other end of the bus: a slave that answers every read of registers, in a process of its own.

Blocking on purpose, as `bench.zvt_peer`. With `--baud` it is a line: a reply begins once the request's
characters and the pause behind them have passed, and its bytes come as a UART's FIFO hands them over.
Without, it answers at once."""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from collections.abc import Sequence

from hil.charger.rtu import frame

REQUEST_BYTES = 8
READ_BYTES = 4096
CHAR_BITS = 10  # 8N1
PAUSE_BITS = 38.5  # 3.5 characters of 11 bits
# The kernel wakes a sleeper some 60 us late: the last stretch is waited for awake.
AWAKE_S = 0.0003
FIFO = 14


def wait_until(at: float) -> None:
    left = at - time.perf_counter() - AWAKE_S
    if left > 0:
        time.sleep(left)
    while time.perf_counter() < at:
        pass


def serve(fd: int, baud: int | None) -> None:
    """Until the other side hangs up. Register n of a reply holds n."""
    pending = bytearray()
    replies: dict[tuple[int, int, int], bytes] = {}
    while True:
        select.select([fd], [], [])
        heard = time.perf_counter()
        try:
            data = os.read(fd, READ_BYTES)
        except OSError:
            return
        if not data:
            return
        pending += data
        while len(pending) >= REQUEST_BYTES:
            request = bytes(pending[:REQUEST_BYTES])
            del pending[:REQUEST_BYTES]
            unit, function, count = request[0], request[1], int.from_bytes(request[4:6], "big")
            key = (unit, function, count)
            if key not in replies:
                words = b"".join(n.to_bytes(2, "big") for n in range(count))
                replies[key] = frame(unit, bytes([function, len(words)]) + words)
            answer(fd, replies[key], heard, baud)


def answer(fd: int, reply: bytes, heard: float, baud: int | None) -> None:
    if baud is None:
        os.write(fd, reply)
        return
    char_s = CHAR_BITS / baud
    begin = heard + REQUEST_BYTES * char_s + PAUSE_BITS / baud
    for at in range(0, len(reply), FIFO):
        piece = reply[at : at + FIFO]
        wait_until(begin + (at + len(piece)) * char_s)
        os.write(fd, piece)


def main(arguments: Sequence[str]) -> int:
    """Serves the pty master on descriptor `fd`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fd", type=int)
    parser.add_argument("--baud", type=int)
    given = parser.parse_args(arguments)
    print("ready", flush=True)
    serve(given.fd, given.baud)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
