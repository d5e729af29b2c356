"""A bus at the wire on a virtual clock: slaves whose every register says where it is from, and a line that
loses, delays, doubles, corrupts and mixes what they answer. It knows bytes only, and shares no code with the
drivers.

An even register tells unit, function and address; the odd one behind it the number of the request it
answers. So whatever is passed off as the answer to another request shows, also one of the same shape.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from support.rtu_slave import crc

FUNCTIONS = (1, 2, 3, 4, 5, 6, 15, 16, 23)
READS = (1, 2, 3, 4, 23)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as a client means it. `tag` is what is written: no two writes have the same."""

    unit: int
    function: int
    address: int
    count: int
    tag: int = 0

    @property
    def key(self) -> tuple[int, int, int, int, int]:
        return self.unit, self.function, self.address, self.count, self.tag


def truth(unit: int, function: int, address: int, count: int, number: int) -> tuple[int, ...]:
    """What the request with this number reads: registers, or bits."""
    if function in (1, 2):
        both = name(unit, function, address) << 16 | number & 0xFFFF
        return tuple(both >> at % 32 & 1 for at in range(count))
    return tuple(
        number & 0xFFFF if at % 2 else name(unit, function, address + at) for at in range(count)
    )


def name(unit: int, function: int, address: int) -> int:
    return unit << 14 | READS.index(function) << 11 | address


@dataclass(slots=True)
class Heard:
    """A request that the slaves have heard."""

    number: int
    key: tuple[int, int, int, int, int]


# What becomes of a reply: (seconds after the request's end, bytes).
Pieces = list[tuple[float, bytes]]


@dataclass
class BadWire:
    """`patience_s`: after this a reply is late. `longest_s`: none begins later. `pause_s`: silence between
    frames. `say` gets what arrives at the master. With `tcp` frames are those of Modbus TCP."""

    rng: random.Random
    patience_s: float
    longest_s: float
    baud: int = 9600
    tcp: bool = False
    # Mostly of one form, as a meter is asked: only a reply of the same form can be taken for another.
    units: Sequence[int] = (1, 1, 1, 2, 3)
    kinds: Counter[str] = field(default_factory=Counter)
    heard: list[Heard] = field(default_factory=list)
    last: dict[tuple[int, int, int, int, int], int] = field(default_factory=dict)
    tags: Counter[int] = field(default_factory=Counter)
    say: Callable[[bytes], None] = lambda _data: None
    # Called once, when a request of this form is heard.
    on_heard: dict[tuple[int, int, int, int, int], Callable[[], object]] = field(
        default_factory=dict
    )
    _behind: list[bytes] = field(default_factory=list)

    @property
    def pause_s(self) -> float:
        return 38.5 / self.baud

    def chars_s(self, many: int) -> float:
        return 0.0 if self.tcp else many * 10 / self.baud

    # --- Requests ---------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        """A master has sent `data`: one frame."""
        unit, pdu = (data[6], data[7:]) if self.tcp else (data[0], data[1:-2])
        if not self.tcp:
            assert crc(data[:-2]) == data, "the master's own frame is broken"
        number = len(self.heard) + 1
        key, reply = self._answer(unit, pdu, number)
        self.heard.append(Heard(number, key))
        self.last[key] = number
        on_heard = self.on_heard.pop(key, None)
        if on_heard is not None:
            on_heard()
        if self.tcp:
            self._stream(self._tcp_script(data, unit, reply))
        else:
            self._put(self.chars_s(len(data)), self._script(data, unit, reply))

    def _put(self, begin_s: float, pieces: Pieces) -> None:
        loop = asyncio.get_running_loop()
        for delay_s, piece in pieces:
            at_s = loop.time() + begin_s + delay_s
            if self.rng.random() < 0.2:  # a lump at its end, as some adapters hand it over
                loop.call_at(at_s + self.chars_s(len(piece)), self._arrive, piece)
                continue
            for start in range(0, len(piece), 14):  # as a FIFO does
                part = piece[start : start + 14]
                loop.call_at(at_s + self.chars_s(start + len(part)), self._arrive, part)

    def _arrive(self, data: bytes) -> None:
        self.say(data)

    def _stream(self, pieces: Pieces) -> None:
        """A server writes whole frames; the network may bring one in two parts, and nothing between."""
        loop = asyncio.get_running_loop()
        for delay_s, frame in pieces:
            loop.call_later(delay_s, self._arrive_in_parts, frame)

    def _arrive_in_parts(self, frame: bytes) -> None:
        self._behind.append(frame)
        if len(self._behind) > 1:
            return
        if self.rng.random() < 0.8:
            self._behind.clear()
            self.say(frame)
            return
        at = self.rng.randrange(1, len(frame))
        self.say(frame[:at])
        rest_s = self.rng.random() * 0.05
        asyncio.get_running_loop().call_later(rest_s, self._rest, frame[at:])

    def _rest(self, data: bytes) -> None:
        behind, self._behind = self._behind[1:], []
        self.say(b"".join([data, *behind]))

    def _answer(
        self, unit: int, pdu: bytes, number: int
    ) -> tuple[tuple[int, int, int, int, int], bytes]:
        function, address, many = struct.unpack(">BHH", pdu[:5])
        tag, count = 0, many
        if function in (5, 6):
            tag, count = (many if function == 6 else many >> 8 & 1), 1
            reply = pdu[:5]
        elif function in (15, 16):
            tag = int.from_bytes(pdu[6:8], "big" if function == 16 else "little")
            reply = pdu[:5]
        elif function == 23:
            tag = int.from_bytes(pdu[10:12], "big")
            reply = self._read(unit, function, address, count, number)
        else:
            reply = self._read(unit, function, address, count, number)
        if function not in (1, 2, 3, 4):
            self.tags[tag] += 1
        return (unit, function, address, count, tag), reply

    @staticmethod
    def _read(unit: int, function: int, address: int, count: int, number: int) -> bytes:
        values = truth(unit, function, address, count, number)
        if function in (1, 2):
            size = (count + 7) // 8
            data = sum(bit << at for at, bit in enumerate(values)).to_bytes(size, "little")
        else:
            data = struct.pack(f">{count}H", *values)
        return bytes([function, len(data)]) + data

    # --- What becomes of a reply ------------------------------------------------------------------

    def _pick(self, script: dict[str, Pieces]) -> Pieces:
        good = max(1, len(script) // 3)
        kind = self.rng.choice([*script, *["good"] * good])
        self.kinds[kind] += 1
        return script[kind]

    def _times(self) -> tuple[float, float]:
        rng = self.rng
        soon = self.pause_s + rng.random() * max(0.0, min(self.patience_s, 0.1) - self.pause_s)
        return soon, rng.uniform(self.patience_s, self.longest_s)

    def _script(self, request: bytes, unit: int, pdu: bytes) -> Pieces:
        """Never later than the device is declared to answer; a doubled reply follows within the pause, as
        repeaters and echoing adapters do it."""
        rng = self.rng
        soon, late = self._times()
        good = crc(bytes([unit]) + pdu)
        other = crc(bytes([unit % 3 + 1]) + pdu)
        flip = bytearray(good)
        flip[rng.randrange(len(flip))] ^= 1 << rng.randrange(8)
        at = rng.randrange(1, len(good))
        noise = rng.choice([b"\x00", b"\xff", bytes([unit])])
        length = self.chars_s(len(good))
        refusal = crc(bytes([unit, pdu[0] | 0x80, rng.choice([1, 2, 3, 4, 5, 6])]))
        gateway = crc(bytes([unit, pdu[0] | 0x80, rng.choice([10, 11])]))
        longer = crc(bytes([unit, pdu[0], (pdu[1] + 2) & 0xFF]) + pdu[2:] + b"\x12\x34")
        shorter = crc(bytes([unit, pdu[0], (pdu[1] - 2) & 0xFF]) + pdu[2:-2])
        doubled = soon + length + rng.random() * self.pause_s
        return self._pick(
            {
                "good": [(soon, good)],
                "split": [(soon, good[:at]), (soon + self.chars_s(at) + 0.03, good[at:])],
                "late": [(late, good)],
                "as late as may be": [(self.longest_s, good)],
                "late and split": [(late, good[:at]), (late + self.chars_s(at) + 0.05, good[at:])],
                "lost": [],
                "doubled": [(soon, good), (doubled, good)],
                "doubled without a gap": [(soon, good + good)],
                "doubled late": [(late, good + good)],
                "corrupted": [(soon, bytes(flip))],
                "corrupted, late": [(late, bytes(flip))],
                "cut": [(soon, good[:at])],
                "foreign, then good": [(soon, other), (soon + length + 0.02, good)],
                "foreign, then late": [(soon, other), (max(late, soon + length), good)],
                "foreign alone": [(soon, other)],
                "another function": [(soon, crc(bytes([unit, pdu[0] ^ 7]) + pdu[1:]))],
                "more than asked for": [(soon, longer)],
                "less than asked for": [(soon, shorter)],
                "noise before": [(soon, noise + good)],
                "noise behind": [(soon, good + noise)],
                "noise, then late": [(soon, noise), (late, good)],
                "refused": [(soon, refusal)],
                "gateway gives up": [(soon, gateway)],
                "gateway gives up, then late": [(soon, gateway), (max(late, soon + 0.02), good)],
                "echo before": [(0.0, request), (max(soon, self.chars_s(len(request))), good)],
                "another master": [(soon, _request_of_another(unit, pdu)), (late, good)],
            }
        )

    def _tcp_script(self, request: bytes, unit: int, pdu: bytes) -> Pieces:
        rng = self.rng
        soon, late = self._times()

        def frame(number: int, unit: int, pdu: bytes, protocol: int = 0) -> bytes:
            return struct.pack(">HHHB", number & 0xFFFF, protocol, len(pdu) + 1, unit) + pdu

        number = int.from_bytes(request[:2], "big")
        good = frame(number, unit, pdu)
        old = frame(number - rng.randrange(1, 5), unit, pdu)
        code = rng.choice([1, 2, 3, 4, 5, 6, 10, 11])
        refusal = frame(number, unit, bytes([pdu[0] | 0x80, code]))
        return self._pick(
            {
                "good": [(soon, good)],
                "late": [(late, good)],
                "lost": [],
                "doubled": [(soon, good), (soon + rng.random() * self.longest_s, good)],
                "doubled without a gap": [(soon, good + good)],
                "old, then good": [(soon, old), (soon + 0.01, good)],
                "old alone": [(soon, old)],
                "foreign unit": [(soon, frame(number, unit % 3 + 1, pdu))],
                "foreign number": [(soon, frame(rng.randrange(65536) ^ number ^ 1, unit, pdu))],
                "another function": [(soon, frame(number, unit, bytes([pdu[0] ^ 7]) + pdu[1:]))],
                "more than asked for": [(soon, frame(number, unit, pdu + b"\x12\x34"))],
                "less than asked for": [(soon, frame(number, unit, pdu[:-2]))],
                "refused": [(soon, refusal)],
                "refused, then late": [(soon, refusal), (late, good)],
                "no header": [(soon, frame(number, unit, pdu, protocol=rng.randrange(1, 65536)))],
            }
        )

    # --- A second master --------------------------------------------------------------------------

    async def intrude(self, every_s: float) -> None:
        """Another master asks now and then, whatever else is going on, and gets its answer."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 1.5) * every_s)
            unit = self.rng.choice(list(self.units))
            data = struct.pack(">HH", name(unit, 4, 2046), 0xDEAD)
            frame = crc(bytes([unit, 4]) + struct.pack(">HH", 2046, 2))
            self.say(frame)
            loop.call_later(0.03, self.say, crc(bytes([unit, 4, 4]) + data))
            self.kinds["a second master"] += 1


def _request_of_another(unit: int, pdu: bytes) -> bytes:
    """What a second master asks of this device, and what it is told."""
    ask = crc(bytes([unit, pdu[0] if pdu[0] < 5 else 3]) + struct.pack(">HH", 2046, 2))
    told = bytes([pdu[0] if pdu[0] < 5 else 3, 4]) + struct.pack(">HH", 0xBAD0, 0xDEAD)
    return ask + crc(bytes([unit]) + told)


# --- Clients -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Score:
    right: int = 0
    errors: int = 0
    cancelled: int = 0
    wrong: list[str] = field(default_factory=list)
    written_twice: int = 0


@dataclass
class Clients:
    """Tasks that ask one thing after the other through `ask`, cancel some, and judge each answer. No two
    clients ask the same, so the right answer is the one to the newest request of that form, which was
    heard after it had been asked for. An error is any exception of `errors`."""

    wire: BadWire
    ask: Callable[[Ask], object]
    errors: tuple[type[Exception], ...]
    requests: int
    functions: Sequence[int] = (*FUNCTIONS, *[4] * 9)
    many: int = 3
    score: Score = field(default_factory=Score)
    asked: int = 0
    tag: int = 0

    async def run(self) -> Score:
        await asyncio.gather(*(self._client(n) for n in range(self.many)))
        self.score.written_twice = sum(
            1 for tag, times in self.wire.tags.items() if tag > 1 and times > 1
        )
        return self.score

    async def _client(self, number: int) -> None:
        rng = self.wire.rng
        while self.asked < self.requests:
            self.asked += 1
            await self._one(self._next(number))
            # Sometimes back to back, sometimes after a rest, so late replies meet an idle bus, too.
            await asyncio.sleep(rng.choice([0, 0, 0.001, 0.2, 2 * self.wire.longest_s]))

    def _next(self, number: int) -> Ask:
        rng = self.wire.rng
        function = rng.choice(list(self.functions))
        address = 2 * (rng.choice([0, 0, 26, 300]) * self.many + number)
        count = rng.choice([2, 2, 2, 22, 80])
        if function in (1, 2):
            count = 32
        tag = 0
        if function in (5, 6):
            count = 1
        elif function == 15:
            count = 16
        elif function == 16:
            count = 2
        if function in (6, 15, 16, 23):
            self.tag += 1
            tag = self.tag + 1  # 0 and 1 are what a single coil can be
        elif function == 5:
            tag = rng.randrange(2)
        return Ask(rng.choice(list(self.wire.units)), function, address, count, tag)

    async def _one(self, ask: Ask) -> None:
        rng, score, before = self.wire.rng, self.score, len(self.wire.heard)
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(self.ask(ask))  # type: ignore[call-overload]
        cancel = rng.random()
        if cancel < 0.1:  # while it waits for its turn, or for the bus to become quiet
            loop.call_later(rng.random() * self.wire.longest_s, task.cancel)
        elif cancel < 0.2:  # while its reply is on the way
            after_s = rng.random() * self.wire.patience_s
            self.wire.on_heard[ask.key] = lambda: loop.call_later(after_s, task.cancel)
        try:
            values = await task
        except asyncio.CancelledError:
            score.cancelled += 1
            return
        except self.errors:
            score.errors += 1
            return
        finally:
            self.wire.on_heard.pop(ask.key, None)
        number = self.wire.last.get(ask.key, 0)
        expected = None
        if ask.function in READS:
            expected = truth(ask.unit, ask.function, ask.address, ask.count, number)
        if number > before and expected in (None, tuple(values)):
            score.right += 1
        else:
            score.wrong.append(f"{ask}: {values}, expected {expected} ({before}, {number})")
