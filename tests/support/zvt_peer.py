"""A payment terminal of its own making, and wires that spoil bytes, for tests of the ZVT driver.

Nothing here comes from drivers/ or hil/: blocks are made with `binascii`, messages are written by hand.
Everything runs on asyncio's timers, so that a virtual clock can drive it. The terminal books a payment when
its 04 0F was answered positively, and takes it back when it was not."""

from __future__ import annotations

import asyncio
import binascii
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from support.zvt_cable import EcrEnd
from support.zvt_wires import Carry, Wire

from drivers.line import LineLost

T1_S, T2_S, T3_S = 0.2, 5.0, 5.0
TID = "52523535"
UID = bytes.fromhex("000000000000081ca72f")
OK, BUSY, UNKNOWN = b"\x80\x00\x00", b"\x84\x9c\x00", b"\x84\x83\x00"


def reflected(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


def crc(apdu: bytes) -> bytes:
    value = binascii.crc_hqx(reflected(apdu + b"\x03"), 0)
    return int(f"{value:016b}"[::-1], 2).to_bytes(2, "little")


def frame(apdu: bytes) -> bytes:
    return b"\x10\x02" + apdu.replace(b"\x10", b"\x10\x10") + b"\x10\x03" + crc(apdu)


def apdu(control: str, data: bytes = b"") -> bytes:
    size = bytes([len(data)]) if len(data) < 255 else b"\xff" + len(data).to_bytes(2, "little")
    return bytes.fromhex(control) + size + data


def bcd(number: int, size: int) -> bytes:
    return bytes.fromhex(f"{number:0{size * 2}d}")


# --- cable ----------------------------------------------------------------------------------------


class Cable(EcrEnd):
    """Both directions between a driver and a terminal of our own."""

    def __init__(self, carry: Carry, seed: int) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.terminal = self._terminal(random.Random(seed + 1))
        self._out = Wire(carry, self.rng, self.terminal.receive)
        self._back = Wire(carry, self.rng, self._arrived)

    def _terminal(self, rng: random.Random) -> Terminal:
        return Terminal(self, rng)

    def _dial(self) -> None:
        if self._out.cut:
            raise LineLost("no such device")

    def _carry(self, data: bytes) -> None:
        self._out.send(data)

    def to_ecr(self, data: bytes) -> None:
        self._back.send(data)

    def unplug(self) -> None:
        self._out.cut = self._back.cut = True
        self._lose("hung up")

    def replug(self) -> None:
        self._out.cut = self._back.cut = False


# --- terminal -------------------------------------------------------------------------------------


class LinkDown(Exception):
    """Nobody takes the block, or nobody answers it."""


@dataclass
class Manners:
    """How this terminal behaves."""

    progress: int = 1
    t4_minutes: int | None = None
    host_s: float = 0.3
    print_first: bool = False
    print_last: bool = False
    approve_at_most: int = 10**9
    decline: int | None = None  # 04 0F and 06 1E with this code
    refuse: int | None = None  # 84 with this code
    abort_after_success: bool = False
    say_twice: bool = False
    polite: bool = True  # hears a command while it waits for its own ACK
    abortable: bool = True
    card_after_s: float | None = 1.0
    receipt_fields: bool = True


@dataclass
class Booking:
    kind: str
    key: str
    receipt: int
    amount: int

    @property
    def trace(self) -> int:
        return self.receipt + 700


@dataclass
class Terminal:
    """`executed`: money commands that were started, by their key (our reference, or the receipt of the
    hold). `booked`: what stands. `reversed`: what was taken back."""

    cable: Cable
    rng: random.Random
    manners: Manners = field(default_factory=Manners)
    executed: list[tuple[str, str]] = field(default_factory=list)
    booked: list[Booking] = field(default_factory=list)
    reversed: list[Booking] = field(default_factory=list)
    holds: dict[int, int] = field(default_factory=dict)
    last: bytes | None = None
    last_told: Booking | None = None  # by a result that names its receipt
    next_receipt: int = 231
    on_commit: Callable[[Booking], None] = lambda _booking: None
    heard: list[bytes] = field(default_factory=list)  # commands
    scripts: dict[str, list[bytes]] = field(
        default_factory=dict
    )  # what is said to a command instead
    silent: bool = False

    def __post_init__(self) -> None:
        self._buffer = bytearray()
        self._at = "idle"
        self._gap: asyncio.TimerHandle | None = None
        self._verdict: asyncio.Future[bool] | None = None
        self._last_block = b""
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    # link: the receiver collects a block by bytes, the sender repeats it twice

    def receive(self, data: bytes) -> None:
        if self.silent:
            return
        for byte in data:
            self._byte(byte)
        if self._gap is not None:
            self._gap.cancel()
            self._gap = None
        if self._at != "idle":
            self._gap = asyncio.get_running_loop().call_later(T1_S, self._silence)

    def _silence(self) -> None:
        if self._at != "dle":
            self.cable.to_ecr(b"\x15")
        self._at = "idle"

    def _byte(self, byte: int) -> None:
        if self._at == "idle":
            if byte == 0x10:
                self._at = "dle"
            elif byte in (0x06, 0x15) and self._verdict is not None and not self._verdict.done():
                self._verdict.set_result(byte == 0x06)
                if byte == 0x06:
                    self._last_block = b""
        elif self._at == "dle":
            if byte == 0x02:
                self._at = "block"
                self._buffer.clear()
            elif byte != 0x10:
                self._at = "idle"
                self._byte(byte)
        elif self._at == "block":
            self._buffer.append(byte)
            self._look_for_end()

    def _look_for_end(self) -> None:
        plain, at = bytearray(), 0
        raw = self._buffer
        while at < len(raw):
            if raw[at] != 0x10:
                plain.append(raw[at])
                at += 1
                continue
            if at + 1 == len(raw):
                return
            if raw[at + 1] == 0x10:
                plain.append(0x10)
                at += 2
            elif raw[at + 1] == 0x03:
                tail = bytes(raw[at + 2 :])
                if len(tail) == 2:
                    self._block(bytes(plain), tail)
                return
            else:
                self._at = "bad"
                return

    def _block(self, block: bytes, tail: bytes) -> None:
        if tail != crc(block) or len(block) < 3 or len(block) != 3 + block[2]:
            self._at = "bad"
            return
        self._at = "idle"
        waiting = self._verdict is not None and not self._verdict.done()
        is_answer = block[0] in (0x80, 0x84)
        if waiting and not is_answer and block != self._last_block and not self.manners.polite:
            return
        self.cable.to_ecr(b"\x06")
        if block == self._last_block:
            return
        self._last_block = block
        if waiting and is_answer and self._verdict is not None:
            self._verdict.set_result(True)
        self._messages.put_nowait(block)

    async def say(self, message: bytes) -> None:
        for _ in range(3):
            self._verdict = asyncio.get_running_loop().create_future()
            self.cable.to_ecr(frame(message))
            try:
                async with asyncio.timeout(T2_S):
                    if await self._verdict:
                        return
            except TimeoutError:
                continue
            finally:
                self._verdict = None
        raise LinkDown

    async def ask(self, message: bytes) -> bytes:
        """An answer that came before the question is none."""
        waiting = [self._messages.get_nowait() for _ in range(self._messages.qsize())]
        for heard in waiting:
            if heard[0] not in (0x80, 0x84):
                self._messages.put_nowait(heard)
        await self.say(message)
        return await self.answer()

    async def answer(self) -> bytes:
        try:
            async with asyncio.timeout(T3_S):
                while True:
                    heard = await self._messages.get()
                    if heard[0] in (0x80, 0x84):
                        return heard
        except TimeoutError:
            raise LinkDown from None

    # application

    async def run(self) -> None:
        while True:
            command = await self._messages.get()
            try:
                await self._execute(command)
            except LinkDown:
                continue

    async def _execute(self, command: bytes) -> None:
        control, data = command[:2].hex(), command[3:]
        if command[0] in (0x80, 0x84):
            return
        self.heard.append(command)
        if control in self.scripts:
            for message in self.scripts[control]:
                await (self.say if message[0] in (0x80, 0x84) else self.ask)(message)
        elif control == "0600":
            await self.say(OK)
            await self.ask(apdu("060f", b"\x19\x10\x29" + bytes.fromhex(TID) + b"\x49\x09\x78"))
        elif control == "0501":
            await self.say(OK)
            await self.ask(apdu("060f", b"\x00\x06\x07\x1f\x44\x04" + bytes.fromhex(TID)))
        elif control in ("06e0", "06b0"):
            await self.say(OK)
        elif control == "06c0":
            await self._read_card(data[0])
        elif control == "0620":
            await self._repeat()
        elif control == "0623" and data[:3] == b"\x87\xff\xff":
            await self._enquire()
        elif control in ("0622", "0623", "0625"):
            await self._money(control, data)
        else:
            await self.say(UNKNOWN)

    async def _read_card(self, timeout_s: int) -> None:
        await self.say(OK)
        until = self.manners.card_after_s
        comes = until is not None and until < timeout_s
        try:
            async with asyncio.timeout(until if comes else timeout_s):
                while True:
                    heard = await self._messages.get()
                    if heard[:2] == b"\x06\xb0":
                        if self.manners.abortable:
                            await self.say(OK)
                            comes = False
                            break
                        await self.say(UNKNOWN)
                    elif heard[0] not in (0x80, 0x84):
                        await self.say(BUSY)
        except TimeoutError:
            pass
        if not comes:
            await self.ask(apdu("061e", b"\x6c"))
            return
        await self.ask(apdu("040f", b"\x27\x00\x06\x0c\x4c\x0a" + UID))

    async def _repeat(self) -> None:
        await self.say(OK)
        if self.last is None:
            await self.ask(apdu("061e", b"\x83"))
            return
        await self.ask(self.last)
        await self.ask(apdu("060f"))

    async def _enquire(self) -> None:
        await self.say(OK)
        receipts = [bcd(receipt, 2) for receipt in self.holds]
        data = b"\xb8\x87" + (receipts[0] if receipts else b"\xff\xff")
        if receipts:
            listed = b"".join(b"\x08\x02" + receipt for receipt in receipts)
            inner = b"\x23" + bytes([len(listed)]) + listed
            data += b"\x06" + bytes([len(inner)]) + inner
        await self.ask(apdu("061e", data))

    async def _money(self, control: str, data: bytes) -> None:
        manners = self.manners
        if manners.refuse is not None:
            await self.say(bytes([0x84, manners.refuse, 0]))
            return
        await self.say(OK)
        booking = self._booking(control, data)
        self.executed.append((booking.kind, booking.key))
        for _ in range(manners.progress):
            minutes = b"" if manners.t4_minutes is None else bcd(manners.t4_minutes, 1)
            await self.ask(apdu("04ff", b"\x0e" + minutes))
        await asyncio.sleep(manners.host_s)
        unknown = booking.kind != "hold" and int(booking.key) not in self.holds
        if manners.decline is not None or unknown:
            code = bytes([manners.decline or 0xB8])
            await self.ask(apdu("040f", b"\x27" + code))
            await self.ask(apdu("061e", code))
            return
        await self._settle(booking)

    def _booking(self, control: str, data: bytes) -> Booking:
        amount = int(data[data.index(b"\x04") + 1 :][:6].hex()) if control != "0625" else 0
        if control == "0622":
            marked = data.index(b"\x1f\x63")
            key = data[marked + 3 : marked + 3 + data[marked + 2]].decode()
            return Booking("hold", key, 0, min(amount, self.manners.approve_at_most))
        receipt = data[data.index(b"\x87") + 1 :][:2].hex()
        held = self.holds.get(int(receipt), 0)
        if control == "0625":
            return Booking("release", receipt, 0, 0)
        return Booking("capture", receipt, 0, held - amount)

    async def _settle(self, booking: Booking) -> None:
        manners = self.manners
        booking.receipt = self.next_receipt
        self.next_receipt += 1
        result = b"\x27\x00\x04" + bcd(booking.amount, 6) + b"\x49\x09\x78"
        result += b"\x0b" + bcd(booking.trace, 3) + b"\x29" + bytes.fromhex(TID)
        result += b"\x87" + bcd(booking.receipt, 2) if manners.receipt_fields else b""
        result = apdu("040f", result)
        taken = False
        try:
            if manners.print_first:
                await self._print()
            taken = await self.ask(result) == OK
            if taken and manners.say_twice:
                taken = await self.ask(result) == OK
            if taken and manners.print_last:
                await self._print()
        except LinkDown:
            taken = False
            raise
        finally:
            if taken:
                self._commit(booking, result)
            else:
                self.reversed.append(booking)
        if not taken or manners.abort_after_success:
            await self.ask(apdu("040f", b"\x27\x6c"))
            await self.ask(apdu("061e", b"\x6c"))
            return
        await self.ask(apdu("060f"))

    async def _print(self) -> None:
        for line in (b"\x40receipt", b"\x00", b"\x00", b"\xff"):
            await self.ask(apdu("06d1", line))

    def _commit(self, booking: Booking, result: bytes) -> None:
        self.on_commit(booking)
        self.booked.append(booking)
        self.last = result
        self.last_told = booking if self.manners.receipt_fields else None
        if booking.kind == "hold":
            self.holds[booking.receipt] = booking.amount
        else:
            self.holds.pop(int(booking.key), None)
