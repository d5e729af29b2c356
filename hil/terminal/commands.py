"""Commands that move no money by themselves (PA00P015 ch. 2): registration, status, display, end of
day and the like; and which command goes where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from hil.terminal import codec, results
from hil.terminal.bank import WRONG_CURRENCY, Declined
from hil.terminal.dialogue import Talk
from hil.terminal.payment import ALL_OPEN, PROTOCOL_ERROR, Payments
from hil.terminal.points import COMMANDS, ENQUIRE
from hil.terminal.screen import text_of
from hil.terminal.store import CONFIG_AFTER_LOG_OFF

SOFTWARE = "VOLTILL-PT-SIM 1.0"
MODEL = "simulated PT"
DEVICE_ID = "17FD1E3C"
UNSUPPORTED = 0x83

INITIALISATION_NEEDED, CLOCK_NEEDED, DIAGNOSIS_NEEDED = 0x51, 0x62, 0xC2
SERVICE_NO_VERSION, SERVICE_SEND_TLV = 0x02, 0x04
REPEAT_SENDS_RESULT = 0x01
SET_CLOCK = 0x0401
FF_AUTOMATIC_DIAGNOSIS = 0xC9

Handler = Callable[[bytes], Awaitable[None]]


def command_name(apdu: bytes) -> str:
    """The name used in hold points; unknown commands by their number."""
    control, data = codec.split(apdu)
    if control == 0x0623:
        try:
            if codec.fields(data).get(0x87) == ALL_OPEN:
                return ENQUIRE
        except codec.Malformed:
            pass
    return COMMANDS.get(control, f"{control:04x}")


class Commands:
    def __init__(self, talk: Talk, payments: Payments) -> None:
        self._talk = talk
        self._desk = talk.desk
        self._payments = payments
        self._handlers: dict[int, Handler] = {
            0x0600: self._register,
            0x0501: self._status,
            0x0602: self._log_off,
            0x06E0: self._display,
            0x06B0: self._abort,
            0x0620: self._repeat,
            0x0650: self._end_of_day,
            0x0670: self._diagnosis,
            0x0693: self._initialise,
            0x0691: self._set_clock,
            0x0FA1: self._system_info,
            0x06C0: payments.read_card,
            0x0622: payments.reserve,
            0x0623: payments.partial_reversal,
            0x0624: payments.book_total,
            0x0625: payments.cancel,
        }

    async def execute(self, apdu: bytes) -> None:
        """One command of the ECR, to its end. Raises LinkBroken."""
        control, data = codec.split(apdu)
        await self._desk.points.pass_(f"{command_name(apdu)}:received")
        handler = self._handlers.get(control)
        try:
            if handler is None:
                await self._talk.negative(UNSUPPORTED)
            else:
                await handler(data)
        except codec.UnknownBmp:
            await self._talk.negative(UNSUPPORTED)
        except codec.Malformed:
            await self._talk.negative(PROTOCOL_ERROR)

    async def _wrong_password(self, data: bytes) -> bool:
        if data[:3].hex() == self._desk.password:
            return False
        await self._talk.negative(self._desk.switches.wrong_password_code)
        return True

    async def _register(self, data: bytes) -> None:
        memory, switches = self._desk.store.memory, self._desk.switches
        if await self._wrong_password(data):
            return
        if len(data) < 4:
            raise codec.Malformed("a Registration has at least password and configuration byte")
        currency, rest = data[4:6], codec.fields(data[6:])
        own = codec.bcd(int(memory.currency), 2)
        if currency and currency != own:
            await self._talk.negative(0x1E, bytes([WRONG_CURRENCY]) + own)
            return
        tags = codec.objects(rest.get(codec.TLV, b""))
        await self._talk.positive()
        memory.config = data[3]
        memory.registered = True
        memory.tlv_allowed = codec.TLV in rest
        memory.sends_currency = bool(currency)
        memory.ecr_commands = [
            value.hex()
            for tag, offered in tags
            if tag == 0x26
            for inner, value in codec.objects(offered)
            if inner == 0x0A
        ]
        memory.charset = next((value[0] for tag, value in tags if tag in (0x14, 0x27)), 0xFF)
        self._desk.store.save()
        self._payments.forget_card()
        status = switches.registration_status
        status |= 0x01 if switches.status == INITIALISATION_NEEDED else 0
        status |= 0x02 if switches.status == DIAGNOSIS_NEEDED else 0
        answer = bytes([0x19, status]) + b"\x29" + bytes.fromhex(memory.tid)
        await self._talk.complete("register", answer + (b"\x49" + own if currency else b""))

    async def _log_off(self, _data: bytes) -> None:
        memory = self._desk.store.memory
        memory.config, memory.registered = CONFIG_AFTER_LOG_OFF, False
        memory.tlv_allowed, memory.ecr_commands = False, []
        self._desk.store.save()
        await self._talk.positive()

    async def _status(self, data: bytes) -> None:
        """The password is optional here; the Completion is positional."""
        service = 0
        if data:
            if await self._wrong_password(data):
                return
            service = codec.fields(data[3:]).get(0x03, b"\x00")[0]
        switches = self._desk.switches
        code = 0xF0 if switches.eod_due else switches.status
        if switches.locked is not None:
            code = switches.locked
        answer = b"" if service & SERVICE_NO_VERSION else codec.lll(SOFTWARE.encode())
        answer += bytes([code])
        if service & SERVICE_SEND_TLV:
            answer += self._device()
        await self._talk.positive()
        await self._talk.complete("status", answer)

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

    async def _display(self, data: bytes) -> None:
        fields = codec.fields(data)
        charset = self._desk.store.memory.charset
        lines = [text_of(fields.get(number, b""), charset) for number in range(0xF1, 0xF9)]
        while lines and not lines[-1]:
            lines.pop()
        self._desk.screen.show(lines, float(fields.get(0xF0, b"\x00")[0]))
        await self._talk.positive()

    async def _abort(self, _data: bytes) -> None:
        """Nothing is running: a polite yes."""
        await self._talk.positive()

    async def _repeat(self, data: bytes) -> None:
        """The last stored result again, without printing it."""
        if await self._wrong_password(data):
            return
        service = codec.fields(data[3:]).get(0x03, b"\x00")[0]
        last = self._desk.store.memory.last_result
        await self._talk.positive()
        if last is None:
            await self._talk.abort(UNSUPPORTED)
            return
        if service & REPEAT_SENDS_RESULT:
            await self._talk.message(bytes.fromhex(last))
        await self._talk.complete("repeat")

    async def _end_of_day(self, data: bytes) -> None:
        desk, talk = self._desk, self._talk
        if await self._wrong_password(data):
            return
        await talk.positive()
        desk.screen.busy("", "End of day")
        try:
            desk.bank.take_back()
            desk.bank.check_refusal("end_of_day")
            await talk.take_time(desk.pace.BATCH_S)
            totals = desk.bank.close_day()
        except Declined as refusal:
            desk.screen.done([], 0.0)
            await talk.abort(refusal.code)
            return
        desk.screen.done([], 0.0)
        await talk.message(results.day_result(totals, desk.store))
        await talk.complete("end_of_day")

    async def _diagnosis(self, data: bytes) -> None:
        desk, talk = self._desk, self._talk
        codec.fields(data)
        await talk.positive()
        await talk.intermediate(FF_AUTOMATIC_DIAGNOSIS)
        await talk.take_time(desk.pace.HOST_S)
        if desk.switches.set_clock_in_diagnosis:
            now = desk.store.now()
            stamp = b"\xaa" + bytes.fromhex(now.strftime("%y%m%d"))
            stamp += b"\x0c" + bytes.fromhex(now.strftime("%H%M%S"))
            await talk.message(codec.apdu(SET_CLOCK, stamp))
        if desk.switches.status in (DIAGNOSIS_NEEDED, CLOCK_NEEDED):
            desk.switches.status = 0
        await talk.complete("diagnosis")

    async def _initialise(self, data: bytes) -> None:
        desk, talk = self._desk, self._talk
        if await self._wrong_password(data):
            return
        await talk.positive()
        await talk.take_time(desk.pace.HOST_S)
        if desk.switches.status == INITIALISATION_NEEDED:
            desk.switches.status = 0
        await talk.complete("initialise")

    async def _set_clock(self, data: bytes) -> None:
        if await self._wrong_password(data):
            return
        fields = codec.fields(data[3:])
        text = fields.get(0xAA, b"").hex() + fields.get(0x0C, b"").hex()
        try:
            wanted = datetime.strptime(text, "%y%m%d%H%M%S")
        except ValueError as error:
            raise codec.Malformed(f"{text} is no date and time") from error
        memory = self._desk.store.memory
        memory.clock_offset_s = (wanted - datetime.now()).total_seconds()
        self._desk.store.save()
        if self._desk.switches.status == CLOCK_NEEDED:
            self._desk.switches.status = 0
        await self._talk.positive()
        await self._talk.complete("set_clock")

    async def _system_info(self, data: bytes) -> None:
        """Feig's system information; function 0001 only. Plain text by position."""
        if data != b"\x00\x01":
            await self._talk.negative(UNSUPPORTED)
            return
        await self._talk.positive()
        text = f"{DEVICE_ID}{SOFTWARE[:17]:<17}{self._desk.store.memory.tid}24.4"
        await self._talk.complete("system_info", text.encode())
