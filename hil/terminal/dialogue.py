"""How the terminal talks: waiting for the ECR, a card or a key, and messages that need an answer
(PA00P015 ch. 3 and 4)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hil.terminal import codec
from hil.terminal.bank import EOD_DUE, Bank
from hil.terminal.batch import Batch
from hil.terminal.booking import Books
from hil.terminal.cards import ALL_TECHNOLOGIES, CONTACTLESS, Card
from hil.terminal.link import REGISTRATION, Link, LinkBroken, Written
from hil.terminal.points import Points
from hil.terminal.screen import Screen
from hil.terminal.sequence import Numbers
from hil.terminal.store import Store
from hil.terminal.switches import Switches
from hil.terminal.upkeep import Upkeep

STATUS_INFORMATION = 0x040F
INTERMEDIATE = 0x04FF
COMPLETION = 0x060F
ABORT = 0x061E
PRINT_LINE = 0x06D1
PRINT_BLOCK = 0x06D3
SIGNATURE = 0x06D0

KEY_CARD = CARD_IN = 0xDC
SETUP_STATUS = {"diagnosis": 0xC2, "initialise": 0x51}
WANTS_INTERMEDIATE = 0x08  # bit of the configuration byte
BUSY = bytes.fromhex("849c00")

# How many blocks may wait while a dialogue is elsewhere; an ECR waits for answers, so two is a crowd.
INBOX_MAX = 64


T = TypeVar("T")


class NoAnswer(LinkBroken):
    """The ECR has the message and did not answer it, or said something else instead."""


class Aborted(Exception):
    """The ECR's 06 B0, the STOP key, or time ended the command."""


@dataclass(frozen=True, slots=True)
class FromEcr:
    apdu: bytes


class Wake:
    """Something at the terminal itself changed: card or key."""


class LinkLost:
    """The ECR has closed the connection."""


Event = FromEcr | Wake | LinkLost


class Pace:
    """How long the terminal takes. `speed` 4 is four times as fast as a real one; `delay_ms` makes
    every delay the same, 0 for none."""

    HOST_S = 1.6  # one answer of the acquirer's host over a mobile link
    PROMPT_S = 0.4  # between two messages of its own
    CARD_S = 0.5  # contactless reading

    def __init__(self, speed: float = 1.0, delay_ms: int | None = None) -> None:
        self._speed, self._delay_ms = speed, delay_ms

    def seconds(self, real_s: float) -> float:
        return real_s / self._speed if self._delay_ms is None else self._delay_ms / 1000


class Field:
    """The place where a card is held, and the keys. `technology` is how the card is presented, a bit
    of tag 1F60."""

    def __init__(self) -> None:
        self.card: Card | None = None
        self.technology = CONTACTLESS
        self.stays = False
        self.until = 0.0
        self.stop_pressed = False
        self.key: int | None = None

    @staticmethod
    def now() -> float:
        """The clock of `until`."""
        return asyncio.get_running_loop().time()

    def present(self) -> Card | None:
        if self.card and not self.stays and self.now() > self.until:
            self.card = None
        return self.card

    def read(self, technologies: int = ALL_TECHNOLOGIES) -> Card | None:
        """Take the card's data. A tap is one presentation: it is over when it was read. A card that is
        presented in another way than allowed is not seen."""
        card = self.present()
        if card is not None and not self.technology & technologies:
            return None
        if not self.stays:
            self.card = None
        return card


@dataclass(slots=True)
class Desk:
    """Everything a command works with."""

    store: Store
    bank: Bank
    books: Books
    batch: Batch
    upkeep: Upkeep
    switches: Switches
    points: Points
    screen: Screen
    field: Field
    pace: Pace
    password: str
    # What a good ECR never does, counted.
    complaints: Counter[str] = dataclasses.field(default_factory=Counter)
    # Set by whoever owns the line: a new rate after so many seconds.
    change_baud: Callable[[int, float], None] = lambda _rate, _wait_s: None
    # Does the result of this transaction get lost, though it stands?
    loses_result: Callable[[], bool] = lambda: False

    @property
    def setup_status(self) -> int:
        """What 05 01 tells of the terminal's own setup; 00 when it is ready."""
        due = self.store.memory.setup_due
        return SETUP_STATUS[due[0]] if due else self.switches.status

    @property
    def status(self) -> int:
        """What 05 01 tells."""
        if lock := self.upkeep.lock:
            return lock.code
        if self.batch.is_due:
            return EOD_DUE
        if self.switches.card_in_status and self.field.stays and self.field.present():
            return CARD_IN
        return self.setup_status

    def fields(self, data: bytes) -> dict[int, bytes]:
        """The fields of a command. Raises Malformed."""
        return codec.fields(data, strict_ll=self.switches.strict_ll)


class Talk:
    """The two directions of the conversation, over any link."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.link: Link | None = None
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.numbers = Numbers()
        self._inbox: deque[Event] = deque(maxlen=INBOX_MAX)
        self._news = asyncio.Event()

    # --- In ---------------------------------------------------------------------------------------

    def deliver(self, apdu: bytes) -> None:
        self._put(FromEcr(apdu))

    def wake(self) -> None:
        self._put(Wake())

    def lose(self) -> None:
        """The connection is gone."""
        self._put(LinkLost())

    def _put(self, event: Event) -> None:
        self._inbox.append(event)
        self._news.set()

    def clear(self) -> None:
        self._inbox.clear()

    async def next_event(self, timeout_s: float | None = None) -> Event | None:
        """None when `timeout_s` has passed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._inbox:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        return self._inbox.popleft()

    async def next_command(self) -> bytes:
        """Waits for ever. Answers that nobody waits for any more are passed over; a command that
        comes again under its old number gets its old answer. Raises LinkBroken."""
        while True:
            event = await self.next_event()
            if not isinstance(event, FromEcr):
                continue
            self.note("ecr", event.apdu)
            if event.apdu[0] in (0x80, 0x84):
                continue
            if (again := self.numbers.repeated(event.apdu)) is None:
                return event.apdu
            await self._put_out(again)

    def note(self, who: str, apdu: bytes) -> None:
        name = apdu[:2].hex()
        self.desk.points.trace.append(f"{who} {name}")
        (self.received if who == "ecr" else self.sent)[name] += 1

    # --- Out --------------------------------------------------------------------------------------

    async def say(
        self, apdu: bytes, written: Written | None = None, *, head: int | None = None
    ) -> None:
        """Send; returns when the ECR has it. `head`: bytes of data that stand before the fields,
        where the control field alone does not tell. Raises LinkBroken."""
        await self._put_out(self.numbers.stamped(apdu, head), written)

    async def send_raw(self, data: bytes) -> None:
        """Bytes that are no message."""
        if self.link is not None:
            await self.link.send_raw(data)

    async def _put_out(self, apdu: bytes, written: Written | None = None) -> None:
        if self.link is None:
            raise LinkBroken("no link")
        self.note("pt", apdu)
        await self.link.send(apdu, written)

    async def positive(self) -> None:
        await self.say(codec.POSITIVE)

    async def negative(self, code: int, data: bytes = b"") -> None:
        await self.say(codec.apdu(0x8400 | code, data))

    async def message(
        self,
        apdu: bytes,
        written: Written | None = None,
        *,
        wait_s: float | None = None,
        head: int | None = None,
    ) -> bytes:
        """Send, and return the ECR's answer (80 .. or 84 ..), waiting T3 or `wait_s`. Raises
        LinkBroken and NoAnswer."""
        await self.say(apdu, written, head=head)
        return await self.answer(wait_s)

    async def answer(self, wait_s: float | None = None) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.desk.switches.t3_ms / 1000 if wait_s is None else wait_s)
        while True:
            event = await self.next_event(max(0.0, deadline - loop.time()))
            if event is None:
                self.desk.complaints["message_not_answered"] += 1
                raise NoAnswer("no answer within its time")
            if isinstance(event, LinkLost):
                raise NoAnswer("the ECR has closed the connection")
            if not isinstance(event, FromEcr):
                continue
            if event.apdu[0] in (0x80, 0x84):
                self.note("ecr", event.apdu)
                if self.numbers.belongs(event.apdu):
                    return event.apdu
                continue
            self._inbox.appendleft(event)
            raise NoAnswer(f"{event.apdu[:2].hex()} instead of an answer")

    # --- While the terminal is busy ---------------------------------------------------------------

    async def refuse_while_busy(self, event: FromEcr, *, abortable: bool) -> None:
        """What the ECR says while the terminal is master. Raises Aborted, or NoAnswer when the ECR
        has started anew."""
        control = codec.split(event.apdu)[0]
        if control == REGISTRATION:
            self._inbox.appendleft(event)
            raise NoAnswer("the ECR has started anew")
        self.note("ecr", event.apdu)
        if event.apdu[0] in (0x80, 0x84):
            return
        if (again := self.numbers.repeated(event.apdu)) is not None:
            await self._put_out(again)
        elif control != 0x06B0:
            self.desk.complaints["command_while_busy"] += 1
            await self.say(BUSY)
        elif abortable and self.desk.switches.abort == "cards":
            await self.positive()
            raise Aborted
        else:
            await self.negative(0x83)  # the host dialogue has begun

    async def take_time(
        self, real_s: float, *, exactly_s: float | None = None, abortable: bool = False
    ) -> None:
        """The terminal works for `real_s` (before scaling; `exactly_s` is not scaled) and still hears
        the ECR."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (self.desk.pace.seconds(real_s) if exactly_s is None else exactly_s)
        while (left := end - loop.time()) > 0:
            event = await self.next_event(left)
            if isinstance(event, LinkLost):
                raise LinkBroken("the ECR has closed the connection")
            if isinstance(event, FromEcr):
                await self.refuse_while_busy(event, abortable=abortable)

    async def wait_for_card(
        self, timeout_s: float | None, technologies: int = ALL_TECHNOLOGIES
    ) -> Card:
        """Waits until a card can be read. Raises Aborted by time, by the STOP key and by 06 B0."""
        field = self.desk.field
        field.stop_pressed = False

        def seen() -> Card | None:
            if field.stop_pressed:
                field.stop_pressed = False
                raise Aborted
            return field.read(technologies)

        return await self._wait_for(seen, timeout_s)

    async def wait_for_key(self, timeout_s: float | None) -> int:
        """The code of the next key, DC when a card is presented. Raises Aborted by time and 06 B0."""
        field = self.desk.field
        field.key = None

        def seen() -> int | None:
            if field.key is None and field.present() is not None:
                return KEY_CARD
            key, field.key = field.key, None
            return key

        return await self._wait_for(seen, timeout_s)

    async def _wait_for(self, seen: Callable[[], T | None], timeout_s: float | None) -> T:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while True:
            if (found := seen()) is not None:
                return found
            left = None if deadline is None else max(0.0, deadline - loop.time())
            event = await self.next_event(left)
            if event is None:
                raise Aborted
            if isinstance(event, LinkLost):
                raise LinkBroken("the ECR has closed the connection")
            if isinstance(event, FromEcr):
                await self.refuse_while_busy(event, abortable=True)

    async def intermediate(self, code: int, t4_min: int | None = None) -> None:
        """04 FF, where the ECR asked for it in its Registration."""
        if self.desk.store.memory.config & WANTS_INTERMEDIATE:
            data = bytes([code]) + (b"" if t4_min is None else codec.bcd(t4_min, 1))
            await self.message(codec.apdu(INTERMEDIATE, data))

    async def complete(self, command: str, data: bytes = b"", *, head: int | None = None) -> None:
        """06 0F; the transaction stands even when this is lost. Raises LinkBroken."""
        await self.say(codec.apdu(COMPLETION, data), head=head)
        await self.desk.points.pass_(f"{command}:completed")
        await self.answer()

    async def abort(self, code: int, data: bytes = b"") -> None:
        """06 1E, which gives the master rights back."""
        told = bytes([code]) + data
        if self.desk.switches.abort_without_code:
            told = b""
        await self.message(codec.apdu(ABORT, told))
