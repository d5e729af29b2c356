"""A tiny cash register (ECR) and a terminal simulator to talk to, for tests of the simulator.

Written by itself: blocks are made with `binascii` (a reflected CRC-CCITT), not with hil or drivers."""

import asyncio
import binascii
import contextlib
import os
import select
import termios
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.common.control import ask
from hil.terminal.simulator import Options, Simulator

ACK, NAK = b"\x06", b"\x15"
OK = bytes.fromhex("800000")
PASSWORD = "123456"
QUICK_T2_MS = 400
QUICK_T3_MS = 400


def reflect(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


def crc(apdu: bytes) -> bytes:
    value = binascii.crc_hqx(reflect(apdu + b"\x03"), 0)
    return int(f"{value:016b}"[::-1], 2).to_bytes(2, "little")


def frame(apdu: bytes) -> bytes:
    return b"\x10\x02" + apdu.replace(b"\x10", b"\x10\x10") + b"\x10\x03" + crc(apdu)


def hexa(text: str) -> bytes:
    return bytes.fromhex(text)


@dataclass
class Told:
    """What the terminal said in one dialogue, in order, as hexadecimal APDUs."""

    answer: str
    messages: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [message[:4] for message in self.messages]

    def first(self, kind: str) -> bytes:
        return bytes.fromhex(next(m for m in self.messages if m.startswith(kind)))

    def last(self, kind: str) -> bytes:
        return bytes.fromhex(next(m for m in reversed(self.messages) if m.startswith(kind)))

    def result(self) -> "Result":
        return Result(self.last("040f"))


class Result:
    """The few fields of 04 0F these tests need, found at their bytes."""

    def __init__(self, apdu: bytes) -> None:
        self.apdu = apdu
        self.code = apdu[apdu.index(0x27, 2) + 1]

    def _after(self, mark: str, size: int) -> str:
        at = self.apdu.index(bytes.fromhex(mark)) + len(mark) // 2
        return self.apdu[at : at + size].hex()

    @property
    def amount(self) -> int:
        return int(self._after("270004", 6))

    @property
    def receipt(self) -> int:
        at = self.apdu.rindex(b"\x87", 0, self.apdu.rindex(b"\x88"))
        return int(self.apdu[at + 1 : at + 3].hex())


class LineSilent(AssertionError):
    pass


class Ecr:
    """Blocking. Every read has a timeout; whoever waits longer has found a bug."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd)
        termios.tcflush(self.fd, termios.TCIOFLUSH)
        self._ahead = bytearray()

    def close(self) -> None:
        os.close(self.fd)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                assert select.select([], [self.fd], [], 3.0)[1], "nobody reads the line"

    def byte(self, timeout_s: float = 3.0) -> int:
        if not self._ahead:
            ready, _, _ = select.select([self.fd], [], [], timeout_s)
            if not ready:
                raise LineSilent(f"nothing for {timeout_s} s")
            self._ahead += os.read(self.fd, 4096)
        return self._ahead.pop(0)

    def quiet(self, for_s: float) -> bool:
        """Nothing is said for `for_s` (ahead or on the line)."""
        return not self._ahead and not select.select([self.fd], [], [], for_s)[0]

    def raw_block(self, timeout_s: float = 3.0) -> tuple[bytes, bool]:
        """The next block's APDU and whether its CRC is right; nothing is acknowledged."""
        previous = -1
        while True:
            byte = self.byte(timeout_s)
            if previous == 0x10 and byte == 0x02:
                break
            previous = byte
        apdu = bytearray()
        while True:
            byte = self.byte()
            if byte == 0x10:
                byte = self.byte()
                if byte == 0x03:
                    break
                assert byte == 0x10, f"10 {byte:02x} inside a block"
            apdu.append(byte)
        got = bytes([self.byte(), self.byte()])
        return bytes(apdu), got == crc(bytes(apdu))

    def send(self, apdu: bytes) -> None:
        self.write(frame(apdu))
        byte = self.byte()
        assert byte == ACK[0], f"{byte:02x} instead of an ACK"

    def receive(self, timeout_s: float = 3.0) -> bytes:
        apdu, good = self.raw_block(timeout_s)
        assert good, f"wrong CRC on {apdu.hex()}"
        self.write(ACK)
        return apdu

    def command(
        self,
        text: str,
        answers: dict[str, str] | None = None,
        timeout_s: float = 3.0,
    ) -> Told:
        """One whole dialogue. `answers` maps a message (04ff, 040f ...) to the answer; else 80 00 00."""
        apdu = bytes.fromhex(text)
        self.send(apdu)
        told = Told(self.receive().hex())
        only_answer = ("06e0", "0602", "06b0", "06c5", "0840", "0850")
        if told.answer != OK.hex() or apdu[:2].hex() in only_answer:
            return told
        self.listen(told, answers, timeout_s, card_read=apdu[:2] == b"\x06\xc0")
        return told

    def listen(
        self,
        told: Told,
        answers: dict[str, str] | None = None,
        timeout_s: float = 3.0,
        card_read: bool = False,
    ) -> None:
        """Answer until the terminal gives the master rights back."""
        while True:
            message = self.receive(timeout_s).hex()
            told.messages.append(message)
            self.send(bytes.fromhex((answers or {}).get(message[:4], "800000")))
            if message[:4] in ("060f", "061e") or (card_read and message[:4] == "040f"):
                return

    def rest(self) -> Told:
        """The rest of a dialogue whose command was answered already."""
        told = Told(OK.hex())
        self.listen(told)
        return told

    # --- What the tests say often -----------------------------------------------------------------

    def register(self, config: str = "de", tail: str = "0978") -> Told:
        data = PASSWORD + config + tail
        return self.command(f"0600{len(data) // 2:02x}{data}")

    def read_card(self, timeout_s: int = 5) -> Told:
        return self.command(f"06c00f{timeout_s:02x}1910fc0206081f1501d01f600107", timeout_s=8)

    def reserve(self, minor: int = 5000, pay_type: str = "42", **how: Any) -> Told:
        return self.command(f"06220c04{minor:012d}49097819{pay_type}", timeout_s=8, **how)

    def release_part(self, receipt: int, minor: int, **how: Any) -> Told:
        return self.command(f"06230d87{receipt:04d}04{minor:012d}490978", **how)

    def pay(self, minor: int, more: str = "", **how: Any) -> Told:
        data = f"04{minor:012d}4909781940{more}"
        return self.command(f"0601{len(data) // 2:02x}{data}", timeout_s=8, **how)

    def fields(self, control: str, *parts: str, **how: Any) -> Told:
        """A command of these parts (hexadecimal; spaces are for the reader)."""
        data = "".join(parts).replace(" ", "")
        size = len(data) // 2
        length = f"{size:02x}" if size < 255 else "ff" + size.to_bytes(2, "little").hex()
        return self.command(control + length + data, **how)

    def end_of_day(self, **how: Any) -> Told:
        return self.command(f"065003{PASSWORD}", **how)

    def status(self) -> int:
        """The status byte of 05 01."""
        return int(self.command(f"050105{PASSWORD}0302").messages[0][6:8], 16)

    def cancel(self, receipt: int, **how: Any) -> Told:
        return self.command(f"062508194087{receipt:04d}490978", **how)

    def open_receipts(self) -> str:
        told = self.command("06230387ffff")
        return told.last("061e").hex()


@dataclass
class Bench:
    """A simulator in a thread of its own, reached only over its pty and its control socket."""

    folder: Path
    simulator: Simulator
    ecr: Ecr

    @property
    def link(self) -> Path:
        return self.folder / "terminal"

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return ask(self.folder / "control", do=do, **request)

    def state(self) -> dict[str, Any]:
        return self.ask("state")

    def rows(self) -> list[dict[str, Any]]:
        return self.ask("ledger")["rows"]  # type: ignore[no-any-return]

    def kinds(self) -> list[str]:
        return [row["kind"] for row in self.rows()]

    def until(self, what: str, value: Any, timeout_s: float = 5.0) -> None:
        """Wait for a value in the state; polling is fine for a person's view of it."""
        end = time.monotonic() + timeout_s
        while (seen := self.state()[what]) != value:
            assert time.monotonic() < end, f"{what} is {seen!r}, not {value!r}"
            threading.Event().wait(0.005)

    def until_passed(self, step: str, timeout_s: float = 5.0) -> None:
        """Wait for a step in the trace of dialogues."""
        end = time.monotonic() + timeout_s
        while step not in (trace := self.state()["trace"]):
            assert time.monotonic() < end, f"{step} is not in {trace}"
            threading.Event().wait(0.005)

    def reopen(self) -> Ecr:
        self.ecr.close()
        self.ecr = Ecr(self.link)
        return self.ecr

    def tap_and_read(self, card: str = "visa") -> Told:
        self.ask("tap", card=card)
        return self.ecr.read_card()

    def hold(self, card: str = "visa", minor: int = 5000) -> Result:
        """Card read and reserved; the result of the reservation."""
        self.tap_and_read(card)
        return self.ecr.reserve(minor).result()


@contextlib.contextmanager
def terminal(folder: Path, **options: Any) -> Iterator[Bench]:
    """A terminal without delays, on which nobody has registered; short T2 and T3, so that a broken
    line is soon noticed."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    box: dict[str, Any] = {}

    async def life() -> None:
        stop = box["stop"] = asyncio.Event()
        choice = Options(
            control=folder / "control",
            store=folder / "store.json",
            ledger=folder / "ledger.jsonl",
            link=folder / "terminal",
            **{"delay_ms": 0, **options},
        )
        try:
            simulator = Simulator(choice)
            simulator.switches.t2_ms, simulator.switches.t3_ms = QUICK_T2_MS, QUICK_T3_MS
            box["simulator"] = await simulator.start()
        except OSError as error:
            box["error"] = error
            return
        finally:
            started.set()
        failure = asyncio.ensure_future(simulator.failed())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({failure, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            box["error"] = failure.result()
        for task in (failure, stopped):
            task.cancel()
        await asyncio.gather(failure, stopped, return_exceptions=True)
        await simulator.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(life()))
    thread.start()
    assert started.wait(10)
    if "error" in box:
        thread.join()
        loop.close()
        raise box["error"]
    bench = Bench(folder, box["simulator"], Ecr(folder / "terminal"))
    try:
        yield bench
    finally:
        bench.ecr.close()
        loop.call_soon_threadsafe(box["stop"].set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
    if "error" in box:
        raise box["error"]
