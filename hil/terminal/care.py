"""Administration: end of day, diagnosis, initialisation, clock, terminal id, print-outs, reboot."""

from __future__ import annotations

from datetime import datetime

from hil.terminal import codec, printing, results
from hil.terminal.access import PASSWORD_BYTES, refuse_password
from hil.terminal.bank import NOT_POSSIBLE, Declined
from hil.terminal.batch import DayTotals
from hil.terminal.dialogue import Talk
from hil.terminal.printing import RECEIPT_ADMINISTRATION
from hil.terminal.store import Memory
from hil.terminal.texts import LANGUAGES

SOFTWARE = "VOLTILL-PT-SIM 1.0"
MODEL = "simulated PT"
DEVICE_ID = "17FD1E3C"
UNSUPPORTED = 0x83
UNKNOWN_BAUD = 0xFD
UPDATE_STARTS, REBOOT_FOLLOWS = 0xE0, 0xFC

CLOCK_NEEDED, DIAGNOSIS_NEEDED, INITIALISATION_NEEDED = 0x62, 0xC2, 0x51
REPEAT_SENDS_RESULT, REPEAT_DOES_NOT_PRINT = 0x01, 0x02
ECR_CONTROLS_ADMINISTRATION = 0x20
SET_CLOCK = 0x0401
FF_AUTOMATIC_DIAGNOSIS = 0xC9
FF_PLEASE_WAIT = 0x0E
BAUDS = {0x00: 9600, 0x01: 19200, 0x06: 57600, 0x07: 115200}
DIAGNOSES = {0x01, 0x02, 0x03, 0x04, 0x05}
CONFIGURATION_DIAGNOSES = {0x03, 0x04}
FEIG_SYSTEM_INFO, FEIG_FACTORY_RESET = 0x0001, 0x0255


class Care:
    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._desk = talk.desk

    # --- End of day --------------------------------------------------------------------------------

    async def end_of_day(self, _data: bytes) -> None:
        desk, talk = self._desk, self._talk
        await talk.positive()
        desk.screen.busy("", "End of day")
        try:
            desk.books.take_back()
            desk.bank.check_refusal("end_of_day")
            if desk.switches.eod_code is not None:
                raise Declined(desk.switches.eod_code)
            await self._batch_time()
            totals = desk.batch.close()
        except Declined as refusal:
            await talk.abort(refusal.code)
            return
        finally:
            desk.screen.done([], 0.0)
        result = results.day_result(totals, desk.store)
        self._remember_day(result)
        await talk.message(result)
        await self._print_totals(totals, "End of day")
        try:
            await talk.complete("end_of_day", self._day_completion())
        finally:
            self._after_day()

    async def _batch_time(self) -> None:
        """The host takes its time; with 04 FF where the switches want it. Raises Declined."""
        talk, switches = self._talk, self._desk.switches
        pieces = switches.eod_statuses + 1
        for piece in range(pieces):
            if piece:
                await talk.intermediate(FF_PLEASE_WAIT, switches.eod_t4_min)
            await talk.take_time(switches.eod_s / pieces)
        if switches.host_offline is not None:
            raise Declined(switches.host_offline)

    def _remember_day(self, result: bytes) -> None:
        rule = self._desk.switches.repeat_after_eod
        if rule != "payment":
            self._desk.store.memory.last_result = result.hex() if rule == "day" else None
            self._desk.store.save()

    def _day_completion(self) -> bytes:
        codes = {"e0": UPDATE_STARTS, "fc": REBOOT_FOLLOWS}
        code = codes.get(self._desk.switches.eod_completion)
        return b"" if code is None else bytes([0x27, code])

    def _after_day(self) -> None:
        """An announced update or reboot comes, whether the ECR has heard of it or not."""
        switches = self._desk.switches
        if switches.eod_completion == "e0":
            self._desk.upkeep.begin(UPDATE_STARTS, switches.eod_busy_s, switches.eod_busy_style)
        elif switches.eod_completion == "fc":
            self._desk.points.reboot()

    async def _print_totals(self, totals: DayTotals, title: str) -> None:
        await self._print(printing.day_lines(totals, self._desk.store, title))

    async def _print(self, lines: list[str]) -> None:
        """Nothing depends on whether the ECR can print it."""
        desk = self._desk
        for message in printing.print_messages(
            lines, desk.store.memory, desk.switches, RECEIPT_ADMINISTRATION
        ):
            await self._talk.message(message)

    async def totals(self, _data: bytes) -> None:
        """06 10: as an end of day, but nothing is closed."""
        desk, talk = self._desk, self._talk
        await talk.positive()
        totals = desk.batch.totals()
        desk.store.save()
        await talk.message(results.day_result(totals, desk.store))
        await self._print_totals(totals, "Totals")
        await talk.complete("totals")

    async def repeat(self, data: bytes) -> None:
        """06 20: the last stored result again."""
        desk, talk = self._desk, self._talk
        memory = desk.store.memory
        service = desk.fields(data[PASSWORD_BYTES:]).get(0x03, b"\x00")[0]
        await talk.positive()
        if memory.last_result is None:
            await talk.abort(UNSUPPORTED)
            return
        in_control = memory.config & ECR_CONTROLS_ADMINISTRATION
        if service & REPEAT_SENDS_RESULT and (in_control or not desk.switches.repeat_needs_control):
            await talk.message(bytes.fromhex(memory.last_result))
        if not service & REPEAT_DOES_NOT_PRINT:
            await self._print(["Repeated receipt", f"Terminal ID {memory.tid}"])
        await talk.complete("repeat")

    # --- Setup -------------------------------------------------------------------------------------

    async def diagnosis(self, data: bytes) -> None:
        desk, talk = self._desk, self._talk
        wanted = codec.tags(desk.fields(data)).get(0x1B)
        if wanted is None and desk.switches.diagnosis_type_required:
            await talk.negative(UNSUPPORTED)
            return
        kind = wanted[0] if wanted else 0x02
        await talk.positive()
        await talk.intermediate(FF_AUTOMATIC_DIAGNOSIS)
        await talk.take_time(desk.pace.HOST_S, exactly_s=desk.switches.host_s)
        if desk.switches.host_offline is not None or kind not in DIAGNOSES:
            await talk.abort(desk.switches.host_offline or NOT_POSSIBLE)
            return
        if desk.switches.set_clock_in_diagnosis:
            now = desk.store.now()
            stamp = b"\xaa" + bytes.fromhex(now.strftime("%y%m%d"))
            stamp += b"\x0c" + bytes.fromhex(now.strftime("%H%M%S"))
            await talk.message(codec.apdu(SET_CLOCK, stamp))
        if desk.switches.status in (DIAGNOSIS_NEEDED, CLOCK_NEEDED):
            desk.switches.status = 0
        if kind in CONFIGURATION_DIAGNOSES:
            self._setup_done("diagnosis")
        await talk.complete("diagnosis")

    def _setup_done(self, step: str) -> None:
        memory = self._desk.store.memory
        if memory.setup_due[:1] == [step]:
            memory.setup_due = memory.setup_due[1:]
            self._desk.store.save()

    async def initialise(self, _data: bytes) -> None:
        desk, talk = self._desk, self._talk
        await talk.positive()
        await talk.take_time(desk.pace.HOST_S, exactly_s=desk.switches.host_s)
        if desk.switches.host_offline is not None:
            await talk.abort(desk.switches.host_offline)
            return
        if desk.store.memory.setup_due[:1] == ["diagnosis"]:
            await talk.abort(DIAGNOSIS_NEEDED)
            return
        self._setup_done("initialise")
        if desk.switches.status == INITIALISATION_NEEDED:
            desk.switches.status = 0
        await talk.complete("initialise")

    async def set_clock(self, data: bytes) -> None:
        fields = self._desk.fields(data[PASSWORD_BYTES:])
        text = fields.get(0xAA, b"").hex() + fields.get(0x0C, b"").hex()
        try:
            wanted = datetime.strptime(text, "%y%m%d%H%M%S")
        except ValueError as error:
            raise codec.Malformed(f"{text} is no date and time") from error
        store = self._desk.store
        store.memory.clock_offset_s += (wanted - store.now()).total_seconds()
        store.save()
        if self._desk.switches.status == CLOCK_NEEDED:
            self._desk.switches.status = 0
        await self._talk.positive()
        await self._talk.complete("set_clock")

    async def set_tid(self, data: bytes) -> None:
        """06 1B: only with an empty turnover store; some say yes and do nothing."""
        desk, talk = self._desk, self._talk
        tid = desk.fields(data[PASSWORD_BYTES:]).get(0x29)
        if tid is None:
            await talk.negative(UNSUPPORTED)  # there is nobody to type one
            return
        await talk.positive()
        if not desk.batch.is_empty or desk.switches.set_tid == "refuses":
            await talk.abort(NOT_POSSIBLE)
            return
        if desk.switches.set_tid == "sets":
            desk.store.memory.tid = tid.hex()
            desk.store.memory.setup_due = ["diagnosis", "initialise"]
            desk.store.save()
        await talk.complete("set_tid")

    async def language(self, data: bytes) -> None:
        if len(data) != 1 or data[0] not in LANGUAGES:
            await self._talk.negative(UNSUPPORTED)
            return
        self._desk.store.memory.language = data[0]
        self._desk.store.save()
        await self._talk.positive()
        await self._talk.complete("language")

    async def baud(self, data: bytes) -> None:
        """08 40: answered at the old rate. Then nothing is heard until the new one counts."""
        desk = self._desk
        rate = BAUDS.get(data[0]) if len(data) == 1 else None
        if rate is None or not desk.switches.baud_change:
            await self._talk.negative(UNKNOWN_BAUD)
            return
        await self._talk.positive()
        desk.store.memory.baud = rate
        desk.store.save()
        desk.change_baud(rate, desk.switches.baud_wait_s)

    # --- The device --------------------------------------------------------------------------------

    async def acknowledge(self, _data: bytes) -> None:
        """Commands that are only answered: 06 C5, 08 50."""
        await self._talk.positive()

    async def selftest(self, _data: bytes) -> None:
        await self._talk.positive()
        await self._talk.take_time(self._desk.pace.PROMPT_S)
        await self._print(["Self-test", "no faults"])
        await self._talk.complete("selftest")

    async def print_setup(self, _data: bytes) -> None:
        await self._talk.positive()
        await self._print(printing.setup_lines(self._desk.store, self._desk.switches))
        await self._talk.complete("print_setup")

    async def reset(self, _data: bytes) -> None:
        await self._talk.positive()
        try:
            await self._talk.complete("reset")
        finally:
            self._desk.points.reboot()

    async def feig(self, data: bytes) -> None:
        """0F A1: system information, plain text by position; with the password a factory reset."""
        talk = self._talk
        function = int.from_bytes(data[-2:], "big")
        if data == FEIG_SYSTEM_INFO.to_bytes(2, "big"):
            await talk.positive()
            text = f"{DEVICE_ID}{SOFTWARE[:17]:<17}{self._desk.store.memory.tid}24.4".encode()
            await talk.complete("system_info", text, head=len(text))
        elif len(data) == PASSWORD_BYTES + 2 and function == FEIG_FACTORY_RESET:
            if await refuse_password(talk, data):
                return
            await talk.positive()
            self._factory_reset()
            try:
                await talk.complete("system_info")
            finally:
                self._desk.points.reboot()
        else:
            await talk.negative(UNSUPPORTED)

    def _factory_reset(self) -> None:
        """The terminal forgets; its open holds go on at the acquirer until they expire."""
        store = self._desk.store
        old = store.memory
        store.memory = Memory(
            tid=old.tid,
            currency=old.currency,
            next_trace=old.next_trace,
            turnover=old.turnover,
            world_offset_s=old.world_offset_s,
            day_opened=old.day_opened,
            setup_due=["diagnosis", "initialise"],
            foreign=[*old.foreign, *old.holds],
        )
        store.save()
