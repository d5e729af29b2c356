"""Frames and messages a second, next to a checksum by loop and to JSON of the same content."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from statistics import median

from bench import zvt_messages
from bench.report import Table
from drivers.terminal.zvt.codec import decode, encode
from drivers.terminal.zvt.decode import decode_or_error
from drivers.terminal.zvt.frames import Link, Received, frame

ROUNDS, QUICK_ROUNDS = 15, 3
# Long against the clock's resolution, short against what else the machine does.
ROUND_S, QUICK_ROUND_S = 0.03, 0.002

Work = Callable[[], object]


def loop_crc(data: bytes) -> int:
    """The yardstick: the checksum of PA00P016 bit by bit."""
    value = 0
    for byte in (*data, 0x03):
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return value


def receive(framed: bytes) -> bytes:
    """One block through a link that is idle: the checksum, the doubled bytes, the ACK."""
    (event,) = Link().receive(framed, 0)
    assert isinstance(event, Received)
    return event.apdu


def _works(messages: Sequence[bytes]) -> dict[str, tuple[Work, int]]:
    """What is measured: each work and over how many messages it goes."""
    framed = [frame(message) for message in messages]
    decoded = [decode(message) for message in messages]
    # What was dropped on reading cannot be written again; only a terminal sends such messages.
    whole = [apdu for apdu in decoded if not apdu.dropped and not apdu.rest]
    contents = [decode_or_error(message.hex()) for message in messages]
    texts = [json.dumps(content) for content in contents]
    works: dict[str, tuple[Work, int]] = {
        "frame": (lambda: [frame(message) for message in messages], len(messages)),
        "unframe": (lambda: [receive(block) for block in framed], len(messages)),
        "loop_crc": (lambda: [loop_crc(message) for message in messages], len(messages)),
        "decode": (lambda: [decode(message) for message in messages], len(messages)),
        "loads": (lambda: [json.loads(text) for text in texts], len(messages)),
        "encode": (lambda: [encode(apdu) for apdu in whole], len(whole)),
        "dumps": (lambda: [json.dumps(content) for content in contents], len(messages)),
    }
    return works


def _seconds(work: Work, at_least_s: float) -> float:
    """Of one run of `work`."""
    runs = 0
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < at_least_s or not runs:
        work()
        runs += 1
    return passed / runs


def measure(messages: Sequence[bytes], quick: bool) -> dict[str, list[float]]:
    """Seconds a message, for each work and round. In each round all works take their turn, so that a
    ratio compares what was measured within the same fraction of a second."""
    works = _works(messages)
    rounds, round_s = (QUICK_ROUNDS, QUICK_ROUND_S) if quick else (ROUNDS, ROUND_S)
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, count) in works.items():
            found[name].append(_seconds(work, round_s) / count)
    return found


PAIRS = (
    ("frame", "block written", "loop_crc", "its checksum by loop"),
    ("unframe", "block read", "loop_crc", "its checksum by loop"),
    ("encode", "message encoded", "dumps", "json.dumps"),
    ("decode", "message decoded", "loads", "json.loads"),
)


def tables(quick: bool) -> list[Table]:
    classes, source = zvt_messages.by_size()
    rows = []
    for name, messages in classes.items():
        found = measure(messages, quick)
        mean = sum(map(len, messages)) / len(messages)
        for work, what, yardstick, against in PAIRS:
            ratios = [a / b for a, b in zip(found[work], found[yardstick], strict=True)]
            seconds = median(found[work])
            rows.append(
                (
                    f"{what}, {name}",
                    f"{len(messages)} x {mean:.0f}",
                    f"{1 / seconds:,.0f}",
                    f"{seconds * 1e6:.1f}",
                    f"{median(ratios):.2f} x {against}",
                )
            )
    heads = ("", "messages x bytes", "a second", "us each", "time, to its yardstick")
    return [Table(f"Framing and codec ({source}), one core, medians", heads, rows)]
