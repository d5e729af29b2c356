"""The terminal's end of the line: whole APDUs out and in.

Serial (PA00P016 ch. 2): every good block is acknowledged at once, before anybody looks at it; an own
block is sent at most three times, each time waiting T2 for its ACK. Blocks have no numbers. A block
equal to the one before it, with no ACK for anything of ours between them, is a repeat after a lost
ACK: acknowledged, and otherwise forgotten.

What was received is handed to `deliver` in order. `hold()` stops looking at the line: bytes stay where
they are until `go_on()`, as if the terminal's processor had stopped between two instructions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from hil.common.pty_line import PtyLine
from hil.terminal.codec import split
from hil.terminal.faults import CHAOS_RECEIVING, Faults
from hil.terminal.framing import ACK, NAK, Block, Deframer, Found, Sign
from hil.terminal.switches import Switches

SENDS = 3  # the first and two repeats (PA00P016 ch. 2.3)
ABORT = 0x06B0
REGISTRATION = 0x0600


# Called once when the message has left and before anything that came after it is looked at.
Written = Callable[[], Awaitable[None]]


class LinkBroken(Exception):
    """The other side did not take a block; where the money stands is for the caller to know."""


class Link(Protocol):
    async def send(self, apdu: bytes, written: Written | None = None) -> None:
        """Returns when the other side has the message. Raises LinkBroken."""

    async def send_raw(self, data: bytes) -> None:
        """Bytes that are no message of this protocol."""

    def hold(self) -> None: ...

    def go_on(self, *, discard: bool = False) -> None: ...

    def reset(self) -> None:
        """Forget half-received things (power-up)."""

    async def close(self) -> None: ...


class SerialLink:
    def __init__(
        self,
        line: PtyLine,
        switches: Switches,
        faults: Faults,
        deliver: Callable[[Link, bytes], None],
        on_collision: Callable[[str], None],
        is_deaf: Callable[[], bool] = lambda: False,
        complain: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self._line = line
        self._switches = switches
        self._faults = faults
        self._deliver = deliver
        self._on_collision = on_collision
        self._is_deaf = is_deaf
        self._complain = complain
        # The block that comes again and again, and how often it came.
        self._heard, self._heard_times = b"", 0
        self._deframer = Deframer()
        self._flow = asyncio.Event()
        self._flow.set()
        self._writing = asyncio.Lock()
        # Resolved by an ACK (True), a NAK (False), or LinkBroken.
        self._verdict: asyncio.Future[bool] | None = None
        self._last_block = b""
        self._generation = 0
        self.running = asyncio.ensure_future(self._run())

    # --- Receiving --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                timeout = self._switches.t1_ms / 1000 if self._deframer.busy else None
                async with asyncio.timeout(timeout):
                    data = await self._line.read()
            except TimeoutError:
                found = self._deframer.silence()
            else:
                generation = self._generation
                await self._flow.wait()
                if generation != self._generation:
                    continue  # dropped while it was held
                if self._other_baud():
                    data = self._faults.garbled(data)
                found = self._deframer.feed(data)
            for thing in found:
                await self._on_found(thing)

    async def _on_found(self, found: Found) -> None:
        if self._is_deaf():
            return
        if self._faults.active().get("silent"):
            if isinstance(found, Block):
                self._faults.take("silent")
        elif isinstance(found, Block):
            await self._on_block(found.apdu)
        elif found is Sign.BAD:
            await self._put(bytes([NAK]))
        elif self._verdict is not None and not self._verdict.done():
            if found is Sign.ACK:
                self._last_block = self._heard = b""
            self._verdict.set_result(found is Sign.ACK)

    async def _on_block(self, apdu: bytes) -> None:
        self._count(apdu)
        self._faults.chaos(CHAOS_RECEIVING)
        control = split(apdu)[0]
        if control == ABORT and self._faults.take("collision"):
            self._on_collision(self._faults.collision_card)
            return
        if self._faults.take("ignored"):
            return
        if self._faults.take("nak"):
            await self._put(bytes([NAK]))
            return
        waiting = self._verdict is not None and not self._verdict.done()
        is_repeat = apdu == self._last_block
        is_command = apdu[0] not in (0x80, 0x84)
        if waiting and is_command and not is_repeat:
            # Both sides sent at once. A Registration is no accident: the ECR has started anew.
            if control == REGISTRATION and self._verdict is not None:
                self._verdict.set_exception(LinkBroken("the ECR has started anew"))
            elif self._switches.collision == "strict":
                return
        if not self._faults.take("no_ack"):
            await self._put(bytes([ACK]))
        if is_repeat:
            return
        self._last_block = apdu
        if waiting and not is_command and self._verdict is not None and not self._verdict.done():
            # It answers what it must have received: the ACK got lost on the way.
            self._verdict.set_result(True)
        if self._faults.take("no_answer"):
            self._last_block = b""  # it never was: the same command again is a new one
        else:
            self._deliver(self, apdu)

    def _count(self, apdu: bytes) -> None:
        self._heard_times = self._heard_times + 1 if apdu == self._heard else 1
        self._heard = apdu
        if self._heard_times > SENDS:
            self._complain("block_sent_more_than_three_times")

    # --- Sending ----------------------------------------------------------------------------------

    def _other_baud(self) -> bool:
        return self._switches.check_baud and self._line.peer_baud() != self._line.baud

    async def send_raw(self, data: bytes) -> None:
        await self._put(data)

    async def _put(self, data: bytes, gap_at: int = 0, gap_s: float = 0.0) -> None:
        if self._other_baud():
            data = self._faults.garbled(data)
        async with self._writing:
            await self._line.write(data, gap_at=gap_at, gap_s=gap_s)

    async def send(self, apdu: bytes, written: Written | None = None) -> None:
        for _ in range(SENDS):
            self._verdict = asyncio.get_running_loop().create_future()
            try:
                if written is not None:
                    self.hold()
                await self._send_once(apdu)
                if written is not None:
                    await written()
                    written = None
                    self.go_on()
                async with asyncio.timeout(self._switches.t2_ms / 1000):
                    if await self._verdict:
                        return
            except TimeoutError:
                continue
            finally:
                self._verdict = None
        self._last_block = b""  # both sides gave up; the same command again is a new one
        raise LinkBroken(f"{SENDS} sends of {apdu[:2].hex()} and no ACK")

    async def _send_once(self, apdu: bytes) -> None:
        if self._is_deaf() or self._faults.active().get("silent"):
            return
        sending = self._faults.sending(apdu, self._switches.t1_ms / 1000)
        await self._put(sending.data, sending.gap_at, sending.gap_s)

    # --- Control ----------------------------------------------------------------------------------

    def hold(self) -> None:
        self._flow.clear()

    def go_on(self, *, discard: bool = False) -> None:
        if discard:
            self._line.discard()
            self.reset()
        self._flow.set()

    def reset(self) -> None:
        self._deframer = Deframer()
        self._last_block = self._heard = b""
        self._generation += 1

    async def close(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
