"""Which command goes where, and the commands around registration, state and display (PA00P015 ch. 2)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from hil.terminal import codec
from hil.terminal.access import PASSWORD_BYTES, refuse_password
from hil.terminal.bank import ABORTED, WRONG_CURRENCY
from hil.terminal.care import DEVICE_ID, MODEL, SOFTWARE, UNSUPPORTED, Care
from hil.terminal.chip import Chip
from hil.terminal.dialogue import ABORT, Aborted, Talk
from hil.terminal.files import Files
from hil.terminal.holds import ALL_OPEN, Holds
from hil.terminal.payment import PROTOCOL_ERROR, Payments
from hil.terminal.points import COMMANDS, ENQUIRE, INCREMENT
from hil.terminal.reader import Reader
from hil.terminal.requests import Requests
from hil.terminal.screen import text_of
from hil.terminal.sequence import without_number
from hil.terminal.store import CONFIG_AFTER_LOG_OFF
from hil.terminal.texts import CHARSETS, LANGUAGES
from hil.terminal.till import Till

SERVICE_NO_VERSION, SERVICE_SEND_TLV = 0x02, 0x04
CCV_SURPRISE = bytes.fromhex("7d")
OTHER_PROTOCOL = bytes.fromhex("150369")
# What a locked terminal still does.
WHILE_LOCKED = (0x0600, 0x0602, 0x0501, 0x06E0, 0x06E1, 0x06C0, 0x06B0, 0x0814)

Handler = Callable[[bytes], Awaitable[None]]


def command_name(apdu: bytes) -> str:
    """The name used in hold points; unknown commands by their number."""
    control, data = codec.split(apdu)
    try:
        if control == 0x0623 and codec.fields(data).get(0x87) == ALL_OPEN:
            return ENQUIRE
        if control == 0x0622:
            fields = codec.fields(data)
            if 0x0B in fields or 0x1F2B in codec.tags(fields):
                return INCREMENT
    except codec.Malformed:
        pass
    return COMMANDS.get(control, f"{control:04x}")


class Commands:
    def __init__(self, talk: Talk, seed: int) -> None:
        self._talk = talk
        self._desk = talk.desk
        self._random = random.Random(seed)
        self.till = till = Till(talk)
        payments = Payments(talk, till)
        holds = Holds(talk, till)
        self.reader = reader = Reader(talk, till, payments)
        self.requests = Requests(talk)
        till.ask_ecr = self.requests.before_result
        chip = Chip(talk, till)
        care = Care(talk)
        files = Files(talk)
        self._handlers: dict[int, Handler] = {
            0x0600: self._register,
            0x0602: self._log_off,
            0x0501: self._status,
            0x06E0: self._display,
            0x06E1: self._ask_key,
            0x06B0: self._abort,
            0x0601: payments.pay,
            0x0622: payments.reserve,
            0x0630: self._with_password(payments.reverse),
            0x0631: self._with_password(payments.refund),
            0x0623: holds.partial_reversal,
            0x0624: holds.book_total,
            0x0625: holds.cancel,
            0x0626: holds.cancel_foreign,
            0x06C0: reader.read_card,
            0x06E6: reader.poll,
            0x0610: self._with_password(care.totals),
            0x0618: care.reset,
            0x061A: care.print_setup,
            0x061B: self._with_password(care.set_tid),
            0x0620: self._with_password(care.repeat),
            0x0650: self._with_password(care.end_of_day),
            0x0670: care.diagnosis,
            0x0679: care.selftest,
            0x0691: self._with_password(care.set_clock),
            0x0693: self._with_password(care.initialise),
            0x06C5: care.acknowledge,
            0x06C6: chip.send_apdus,
            0x0813: files.configure,
            0x0814: self._with_password(files.write),
            0x0830: care.language,
            0x0840: care.baud,
            0x0850: care.acknowledge,
            0x0FA1: care.feig,
        }

    def _with_password(self, handler: Handler) -> Handler:
        async def guarded(data: bytes) -> None:
            if not await refuse_password(self._talk, data):
                await handler(data)

        return guarded

    async def execute(self, apdu: bytes) -> None:
        """One command of the ECR, to its end. Raises LinkBroken."""
        control, data = codec.split(apdu)
        talk, switches = self._talk, self._desk.switches
        if talk.numbers.active:
            data = without_number(data)
        if switches.wrong_protocol:
            await talk.send_raw(OTHER_PROTOCOL)
            return
        self._desk.bank.expire()
        await self._desk.points.pass_(f"{command_name(apdu)}:received")
        handler = self._handlers.get(control)
        lock = self._desk.upkeep.lock
        try:
            if handler is None or f"{control:04x}" in switches.unsupported.lower().split():
                await talk.negative(UNSUPPORTED)
            elif self._random.randrange(1000) < switches.random_refusal_permille:
                await talk.negative(ABORT & 0xFF, CCV_SURPRISE)
            elif lock is not None and control not in WHILE_LOCKED:
                await talk.positive()
                await talk.abort(lock.code)
            else:
                await handler(data)
        except codec.UnknownBmp:
            await talk.negative(UNSUPPORTED)
        except codec.Malformed:
            await talk.negative(PROTOCOL_ERROR)

    # --- Registration ------------------------------------------------------------------------------

    async def _register(self, data: bytes) -> None:
        memory, switches = self._desk.store.memory, self._desk.switches
        if await refuse_password(self._talk, data):
            return
        if len(data) < PASSWORD_BYTES + 1:
            raise codec.Malformed("a Registration has at least password and configuration byte")
        currency, rest = data[4:6], self._desk.fields(data[6:])
        own = codec.bcd(int(memory.currency), 2)
        if currency and currency != own:
            await self._talk.negative(ABORT & 0xFF, bytes([WRONG_CURRENCY]) + own)
            return
        tags = codec.tags(rest)
        self._agree(tags)
        await self._talk.positive()
        memory.config = data[3]
        memory.registered = True
        memory.tlv_allowed = codec.TLV in rest
        memory.sends_currency = bool(currency)
        self._desk.store.save()
        self.till.forget()
        status = switches.registration_status
        setup = self._desk.setup_status
        status |= 0x01 if setup == 0x51 else 0
        status |= 0x02 if setup == 0xC2 else 0
        answer = bytes([0x19, status]) + b"\x29" + bytes.fromhex(memory.tid)
        answer += b"\x49" + own if currency else b""
        numbered = switches.sequence_numbers and tags.get(0x1F73) == bytes(3)
        if numbered:
            answer += codec.container(codec.tlv(0x1F73, bytes(3)))
        await self._talk.complete("register", answer)
        if numbered:
            self._talk.numbers.agree()

    def _agree(self, tags: dict[int, bytes]) -> None:
        """What the ECR tells about its printer, its texts and its messages. Raises Malformed."""
        memory = self._desk.store.memory
        memory.ecr_commands = [
            value.hex() for inner, value in codec.objects(tags.get(0x26, b"")) if inner == 0x0A
        ]
        charsets = [value for inner, value in codec.objects(tags.get(0x27, b"")) if inner == 0x14]
        charsets = [tags[0x14]] if 0x14 in tags else charsets
        known = [value[0] for value in charsets if value[:1] and value[0] in CHARSETS]
        memory.charset = known[0] if known else 0xFF
        width = codec.from_bcd(tags[0x12]) if tags.get(0x12) else 0
        memory.printer_width = width or None
        longest = int.from_bytes(tags.get(0x1A, b""), "big")
        memory.max_apdu = longest or None
        offered = [
            value.decode("latin-1").lower()
            for inner, value in codec.objects(tags.get(0x28, b""))
            if inner == 0x15
        ]
        if offered and LANGUAGES.get(memory.language) not in offered:
            codes = {word: code for code, word in LANGUAGES.items()}
            both = [codes[word] for word in offered if word in codes]
            memory.language = both[0] if both else memory.language

    async def _log_off(self, _data: bytes) -> None:
        memory = self._desk.store.memory
        memory.config, memory.registered = CONFIG_AFTER_LOG_OFF, False
        memory.tlv_allowed, memory.ecr_commands = False, []
        self._desk.store.save()
        await self._talk.positive()
        self._talk.numbers.reset()

    # --- Status ------------------------------------------------------------------------------------

    async def _status(self, data: bytes) -> None:
        """The password is optional here; the Completion is positional."""
        service = 0
        if data:
            if await refuse_password(self._talk, data):
                return
            service = self._desk.fields(data[PASSWORD_BYTES:]).get(0x03, b"\x00")[0]
        answer = b"" if service & SERVICE_NO_VERSION else codec.lll(SOFTWARE.encode())
        answer += bytes([self._desk.status])
        head = len(answer)
        if service & SERVICE_SEND_TLV:
            answer += self._device()
        await self._talk.positive()
        await self._talk.complete("status", answer, head=head)

    def _device(self) -> bytes:
        now = self._desk.store.now()
        return codec.container(
            codec.tlv(0x1F44, bytes.fromhex(self._desk.store.memory.tid)),
            codec.tlv(
                0xE4,
                codec.tlv(0x1F40, MODEL.encode()),
                codec.tlv(0x1F41, SOFTWARE.encode()),
                codec.tlv(0x1F42, bytes.fromhex(DEVICE_ID)),
                codec.tlv(0x1F43, b"\x00"),
            ),
            codec.tlv(
                0x34,
                codec.tlv(0x1F0E, bytes.fromhex(now.strftime("%Y%m%d"))),
                codec.tlv(0x1F0F, bytes.fromhex(now.strftime("%H%M%S"))),
            ),
        )

    async def _abort(self, _data: bytes) -> None:
        """Nothing is running: a polite yes, where there is an Abort at all."""
        if self._desk.switches.abort == "refused":
            await self._talk.negative(UNSUPPORTED)
        else:
            await self._talk.positive()

    # --- Display -----------------------------------------------------------------------------------

    def _show(self, data: bytes) -> float:
        """The time in seconds it is to be shown; 0 for ever. Raises Malformed."""
        fields = self._desk.fields(data)
        charset = self._desk.store.memory.charset
        lines = [text_of(fields.get(number, b""), charset) for number in range(0xF1, 0xF9)]
        while lines and not lines[-1]:
            lines.pop()
        hold_s = float(fields.get(0xF0, b"\x00")[0])
        self._desk.screen.show(lines, hold_s)
        return hold_s

    async def _display(self, data: bytes) -> None:
        self._show(data)
        await self._talk.positive()

    async def _ask_key(self, data: bytes) -> None:
        """06 E1: the key is told in the answer, which comes when one was pressed."""
        hold_s = self._show(data)
        try:
            key = await self._talk.wait_for_key(hold_s or None)
        except Aborted:
            key = ABORTED
        self._desk.screen.done([], 0.0)
        await self._talk.say(codec.apdu(0x8000, bytes([key])))
