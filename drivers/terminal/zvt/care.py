"""What a technician or the station has a terminal do beside payments (CanMaintain). Nothing here moves money;
what changes the terminal's books or settings is done on their order alone, never by the driver itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from agent.ports import DriverEnv, TerminalSpec, Upkeep, UpkeepReport
from drivers.terminal.zvt import codes, commands, day, results
from drivers.terminal.zvt import housekeeping as h
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.channel import Channel, Ran
from drivers.terminal.zvt.joining import Joining
from drivers.terminal.zvt.mask import mask_text
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.transfer import Files
from drivers.terminal.zvt.troubles import unusable

UNKNOWN_COMMAND = 0x83
TID_DIGITS = 8
FILE_ID_MAX = 0xFF  # tag 1D is one byte
# After these the terminal begins anew: it may be away for a while, and has to be registered again.
RESTARTING = frozenset({Upkeep.RESET, Upkeep.FACTORY_RESET})
_FEIG = frozenset({Upkeep.DEVICE_INFO, Upkeep.FACTORY_RESET, Upkeep.WRITE_FILE, Upkeep.CONFIGURE})
_INFO_FIELDS = ("device_id", "sw_version", "tid", "temperature")
# The terminal's own clock, told while the ECR's is to be set by it (04 01).
CLOCK = "0401"


@dataclass(frozen=True, slots=True)
class Task:
    """A command with the name of its sequence."""

    apdu: Apdu
    name: str
    files: Files | None = None


class Care:
    """Its methods need the terminal's turn."""

    def __init__(
        self,
        spec: TerminalSpec,
        env: DriverEnv,
        profile: Profile,
        channel: Channel,
        joining: Joining,
    ) -> None:
        self._spec, self._env, self._profile = spec, env, profile
        self._channel, self._joining = channel, joining
        self._makes: dict[Upkeep, Callable[[_Values], Task]] = {
            Upkeep.DIAGNOSIS: self._diagnosis,
            Upkeep.INITIALISATION: lambda _: self._secret("initialisation"),
            Upkeep.SET_CLOCK: self._set_clock,
            Upkeep.SET_TID: self._set_tid,
            Upkeep.RESET: lambda _: Task(commands.reset(), "reset"),
            Upkeep.LANGUAGE: lambda v: Task(commands.language(v.text("language")), "language"),
            Upkeep.BAUD: lambda v: Task(commands.baud(v.number("baud")), "baud"),
            Upkeep.DEVICE_INFO: lambda _: Task(commands.feig_info(), "feig_info"),
            Upkeep.SELFTEST: lambda _: Task(commands.selftest(), "selftest"),
            Upkeep.PRINT_SETUP: lambda _: Task(commands.print_setup(), "print_setup"),
            Upkeep.TOTALS: lambda _: self._secret("totals"),
            Upkeep.ACTIVATE_READER: lambda v: Task(
                commands.activate_reader(v.flag("on")), "activate_reader"
            ),
            Upkeep.CLOSE_CARD_SESSION: lambda _: Task(
                commands.close_card_session(), "close_card_session"
            ),
            Upkeep.WRITE_FILE: self._write_file,
            Upkeep.CONFIGURE: self._configure,
            Upkeep.FACTORY_RESET: lambda _: self._secret("feig_reset"),
            Upkeep.LOG_OFF: lambda _: Task(commands.log_off(), "log_off"),
        }

    async def maintain(self, task: Upkeep, values: Mapping[str, object]) -> UpkeepReport:
        """Raises DeviceUnavailable when the terminal does not answer, ValueError for values that the
        task does not take."""
        if task is Upkeep.DEVICE_INFO and not self._profile.feig_functions:
            return await self._who(values)
        given = _Values(task, values)
        made = self._makes[task](given)
        given.all_taken()
        lacks = self._lacks(task, made)
        if lacks:
            return UpkeepReport(task, False, f"{UNKNOWN_COMMAND:02x}", lacks)
        if task is Upkeep.BAUD:
            return self._report(task, await self._joining.change_rate(given.number("baud")))
        ran = await self._joining.ask(made.apdu, made.name, files=made.files)
        report = self._report(task, ran)
        if report.done:
            return await self._after(report, ran, given)
        return report

    def _lacks(self, task: Upkeep, made: Task) -> str:
        """Why the profile says that this terminal cannot; it is not asked then."""
        if made.apdu.command in self._profile.unsupported:
            return "this make of terminal does not know the command"
        if task in _FEIG and not self._profile.feig_functions:
            return "only Feig terminals know the command"
        if task is Upkeep.SET_TID and not self._profile.tid_settable:
            return "the id of this make of terminal is set by its operator"
        return ""

    # --- reports ----------------------------------------------------------------------------------

    def _report(self, task: Upkeep, ran: Ran) -> UpkeepReport:
        outcome = ran.outcome
        if isinstance(outcome, o.Broken | o.Disputed):
            raise unusable(str(task), outcome, self._spec.line, self._channel.garbage)
        if isinstance(outcome, o.Completed):
            facts = _facts(outcome, ran)
            return UpkeepReport(task, True, facts=facts, lines=ran.lines)
        text = codes.explain(outcome.code)[1]
        if isinstance(outcome, o.Aborted):
            text = results.error_text(outcome.apdu) or text
        return UpkeepReport(task, False, f"{outcome.code:02x}", text, lines=ran.lines)

    async def _after(self, report: UpkeepReport, ran: Ran, given: _Values) -> UpkeepReport:
        """What has to follow a task that was done."""
        assert isinstance(ran.outcome, o.Completed)
        restarts = report.task in RESTARTING
        if restarts or h.at_work(ran.outcome.completion):
            self._joining.absence.begins(self._env.boot_ms())
        if restarts or report.task is Upkeep.LOG_OFF:
            await self._channel.close()
        if report.task is Upkeep.SET_TID:
            return await self._read_back(report, given.text("tid"))
        return report

    async def _read_back(self, report: UpkeepReport, wanted: str) -> UpkeepReport:
        """A terminal may complete 06 1B without having set anything (seen at Feig)."""
        if self._profile.feig_functions:
            ran = await self._joining.ask(commands.feig_info(), "feig_info")
            done = isinstance(ran.outcome, o.Completed)
            found = self._report(Upkeep.DEVICE_INFO, ran).facts.get("tid") if done else None
        else:
            found = (await self._joining.status()).terminal_id
        if found is None:
            return replace(report, facts={"tid": "unknown"}, text="set, but it cannot be read back")
        facts = {"tid": str(found)}
        if str(found) != wanted:
            text = f"completed, but the terminal still says {found}; expected {wanted}"
            return replace(report, done=False, text=text, facts=facts)
        return replace(report, facts=facts)

    async def _who(self, values: Mapping[str, object]) -> UpkeepReport:
        """Of a terminal without 0F A1: what its status enquiry tells."""
        _Values(Upkeep.DEVICE_INFO, values).all_taken()
        found = await self._joining.identify()
        told = {
            "tid": found.terminal_id,
            "device_id": found.device_serial,
            "sw_version": found.software,
            "model": found.model,
        }
        facts = {name: value for name, value in told.items() if value is not None}
        return UpkeepReport(Upkeep.DEVICE_INFO, True, facts=facts)

    # --- commands ---------------------------------------------------------------------------------

    def _secret(self, name: str) -> Task:
        """A command that takes the password and nothing else."""
        return Task(getattr(commands, name)(self._spec.password), name)

    def _diagnosis(self, given: _Values) -> Task:
        kind = given.text("kind", self._profile.diagnosis_type)
        return Task(commands.diagnosis(kind), "diagnosis")

    def _set_clock(self, given: _Values) -> Task:
        text = given.text("local_time")
        local = datetime.fromisoformat(text)  # raises ValueError
        if local.tzinfo is not None:
            raise ValueError(
                f"local_time {text}; expected the time of the place, without an offset"
            )
        return Task(commands.set_clock(self._spec.password, local), "set_clock")

    def _set_tid(self, given: _Values) -> Task:
        tid = given.text("tid")
        if not tid.isdecimal() or len(tid) != TID_DIGITS:
            raise ValueError(f"tid {tid}; expected {TID_DIGITS} digits")
        return Task(commands.set_tid(self._spec.password, tid), "set_tid")

    def _write_file(self, given: _Values) -> Task:
        file_id, data = given.number("file_id"), given.data("data")
        if not 0 <= file_id <= FILE_ID_MAX or not data:
            raise ValueError(
                f"file_id is {file_id} with {len(data)} bytes; expected 0 to 255, some bytes"
            )
        files = Files({file_id: data}, self._profile.max_apdu)
        command = commands.write_file(self._spec.password, files.sizes)
        return Task(command, "write_file", files)

    def _configure(self, given: _Values) -> Task:
        settings = [(name, bytes.fromhex(value)) for name, value in given.texts("settings")]
        own = ("ff40", bytes.fromhex(self._spec.password))
        return Task(commands.change_configuration([own, *settings]), "change_configuration")


class _Values:
    """What a task was given; every value is taken, and of the right kind."""

    def __init__(self, task: Upkeep, values: Mapping[str, object]) -> None:
        self._task, self._values, self._taken = task, values, set[str]()

    def text(self, name: str, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise ValueError(f"{self._task}: {name} is {value!r}; expected text")
        return value

    def number(self, name: str) -> int:
        value = self._take(name, None)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{self._task}: {name} is {value!r}; expected a whole number")
        return value

    def flag(self, name: str) -> bool:
        value = self._take(name, None)
        if not isinstance(value, bool):
            raise ValueError(f"{self._task}: {name} is {value!r}; expected true or false")
        return value

    def data(self, name: str) -> bytes:
        value = self._take(name, None)
        if not isinstance(value, bytes):
            raise ValueError(f"{self._task}: {name} is no bytes")
        return value

    def texts(self, name: str) -> list[tuple[str, str]]:
        value = self._take(name, None)
        if not isinstance(value, Mapping):
            raise ValueError(f"{self._task}: {name} is {value!r}; expected names and values")
        return [(str(key), str(text)) for key, text in value.items()]

    def all_taken(self) -> None:
        left = sorted(set(self._values) - self._taken)
        if left:
            raise ValueError(f"{self._task} takes no {', '.join(left)}")

    def _take(self, name: str, default: object) -> object:
        self._taken.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise ValueError(f"{self._task}: {name} is missing")
        return value


def _facts(outcome: o.Completed, ran: Ran) -> dict[str, int | str]:
    """Flat and plain: what the Completion, a 04 0F with totals and a 04 01 said."""
    facts: dict[str, int | str] = {}
    for name in _INFO_FIELDS:
        value = outcome.completion.parts.get(name)
        if value is not None:
            facts[name] = mask_text(str(value).strip())
    if outcome.status is not None:
        facts |= day.totals(outcome.status)
    clock = ran.asked.get(CLOCK)
    if clock is not None:
        facts["terminal_clock"] = f"{clock.get('date', '')} {clock.get('time', '')}".strip()
    return facts
