"""Named points of a dialogue where a test can stop the terminal, or let it reboot.

`<command>:<step>`. Steps: `received` (command complete and acknowledged on the line, nothing answered),
`host_asked` (the host has not answered yet; money commands only), `result_due` (all that comes before
04 0F is acknowledged; money commands only), `result_sent` (the bytes of 04 0F have left, nothing read
after them), `result_answered` (the ECR's positive answer to 04 0F arrived), `completed` (06 0F was sent
and acknowledged; for a card read, which has no Completion, the same moment as `result_answered`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from hil.terminal.link import LinkBroken

COMMANDS = {
    0x0601: "pay",
    0x0610: "totals",
    0x0618: "reset",
    0x061A: "print_setup",
    0x061B: "set_tid",
    0x0626: "cancel_foreign",
    0x0630: "reverse",
    0x0631: "refund",
    0x0679: "selftest",
    0x06C5: "close_card",
    0x06C6: "card_apdus",
    0x06E1: "ask_key",
    0x06E6: "poll_card",
    0x0813: "configure",
    0x0814: "write_file",
    0x0830: "language",
    0x0840: "baud",
    0x0850: "reader",
    0x06C0: "read_card",
    0x0622: "reserve",
    0x0623: "capture",
    0x0624: "book_total",
    0x0625: "cancel",
    0x0600: "register",
    0x0501: "status",
    0x0602: "log_off",
    0x06E0: "display",
    0x06B0: "abort",
    0x0620: "repeat",
    0x0650: "end_of_day",
    0x0670: "diagnosis",
    0x0693: "initialise",
    0x0691: "set_clock",
    0x0FA1: "system_info",
}
ENQUIRE = "enquire"  # 06 23 for receipt FFFF
INCREMENT = "increment"  # 06 22 with 0B or 1F2B
NAMES = (*COMMANDS.values(), ENQUIRE, INCREMENT)
STEPS = ("received", "host_asked", "result_due", "result_sent", "result_answered", "completed")
TRACE_STEPS = 200


class Points:
    """One point can be armed at a time; it catches the next dialogue that reaches it, once."""

    def __init__(self) -> None:
        self.armed: str | None = None
        self.held_at: str | None = None
        self.trace: deque[str] = deque(maxlen=TRACE_STEPS)
        self._resumed = asyncio.Event()
        self._changed = asyncio.Condition()
        self._break_link = False
        self._reboot_at: str | None = None
        self.reboot: Callable[[], None] = lambda: None
        # Until the ECR has what was sent before a point where the terminal stops.
        self.arrived: Callable[[], Awaitable[None]] = _at_once
        self.hold_link: Callable[[], None] = lambda: None
        self.free_link: Callable[[bool], None] = lambda _discard: None

    def arm(self, at: str) -> None:
        """Raises ValueError for a point that does not exist."""
        self.armed = _known(at)

    def arm_reboot(self, at: str) -> None:
        """The terminal reboots when it gets there, once. Raises ValueError."""
        self._reboot_at = _known(at)

    async def pass_(self, at: str) -> None:
        """The dialogue is at `at`. Raises LinkBroken when the test resumes with a broken link."""
        self.trace.append(at)
        if self._reboot_at == at:
            self._reboot_at = None
            await self.arrived()
            self.reboot()
            await asyncio.Event().wait()  # cancelled by the loss of power
        if self.armed != at:
            return
        self.armed = None
        self.hold_link()
        self._resumed.clear()
        self._break_link = False
        await self.arrived()
        await self._set_held(at)
        try:
            await self._resumed.wait()
        finally:
            self.held_at = None
            self.free_link(self._break_link)
        if self._break_link:
            raise LinkBroken("the test broke the link here")

    async def _set_held(self, at: str) -> None:
        async with self._changed:
            self.held_at = at
            self._changed.notify_all()

    async def wait(self, at: str, timeout_s: float) -> None:
        """Until the dialogue is held at `at`. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: self.held_at == at)

    def resume(self, *, break_link: bool = False) -> None:
        """Raises ValueError when nothing is held."""
        if self.held_at is None:
            if self.armed is None:
                raise ValueError("nothing is held")
            self.armed = None
            return
        self._break_link = break_link
        self._resumed.set()

    def reset(self) -> None:
        """Power is gone: nothing is held any more. What is armed stays armed."""
        self.held_at = None


async def _at_once() -> None:
    return None


def _known(at: str) -> str:
    command, _, step = at.partition(":")
    if command not in NAMES or step not in STEPS:
        known = ", ".join(sorted(NAMES))
        raise ValueError(f"no point {at!r}; <command>:<{'|'.join(STEPS)}> with {known}")
    return at
