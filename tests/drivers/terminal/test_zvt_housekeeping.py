"""What a terminal needs, its absences, the rate it fell back to, and its care."""

import asyncio
from typing import Any

import pytest
from support.zvt_bench import EUR50, HELD, Bench, h, unavailable
from support.zvt_peer import OK, apdu
from support.zvt_stand import Stand, tell

from agent.ports import CanMaintain, Done, Need, NotSent, Refused, TerminalIdentity, Upkeep
from agent.values import Money
from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.housekeeping import Absence, at_work, needs, registration_bits

PART = Money(1295, "EUR")
TASKS = set(Upkeep)


# --- decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "bits", "expected"),
    [
        (0x00, 0x10, []),
        (0x00, None, []),
        (0xDC, 0x00, []),
        (0xF0, 0x10, [Need.END_OF_DAY]),
        (0x51, 0x01, [Need.INITIALISATION]),
        (0xC2, 0x01, [Need.DIAGNOSIS, Need.INITIALISATION]),
        (0x62, None, [Need.CLOCK]),
        (0xE4, None, [Need.ACTIVATION]),
        (0xE0, None, [Need.MAINTENANCE]),
        (0x9C, None, [Need.MAINTENANCE]),
        (0xE2, 0x07, [Need.OPERATOR, Need.INITIALISATION, Need.DIAGNOSIS]),
        (0x00, 0x06, [Need.DIAGNOSIS, Need.OPERATOR]),
        (None, 0x02, [Need.DIAGNOSIS]),
    ],
)
def test_needs(status: int | None, bits: int | None, expected: list[Need]) -> None:
    assert needs(status, bits) == tuple(map(str, expected))


@pytest.mark.parametrize(
    ("completion", "bits", "works"),
    [
        ("060f0a19102952523535490978", 0x10, False),
        ("060f00", None, False),
        ("060f0227e0", None, True),
        ("060f0227fc", None, True),
        ("060f022700", None, False),
        ("060f02276c", None, False),
    ],
)
def test_what_a_completion_announces(completion: str, bits: int | None, works: bool) -> None:
    message = decode(h(completion), "0600")
    assert (registration_bits(message), at_work(message)) == (bits, works)


def test_an_absence_ends() -> None:
    absence = Absence(60_000)
    assert not absence.excuses(0)
    absence.begins(5_000)
    assert absence.excuses(64_999)
    assert not absence.excuses(65_000)
    absence.begins(5_000)
    absence.ends()
    assert not absence.excuses(5_001)


def test_a_hint_counts_once() -> None:
    absence = Absence(60_000)
    absence.hinted(0)
    absence.hinted(59_000)
    assert not absence.excuses(60_000), "who only says so for ever is lost all the same"


def test_an_identity_says_what_is_needed(run: Any) -> None:
    async def case(b: Bench) -> None:
        b.peer.scripts["0600"] = [OK, h("060f0219 03".replace(" ", ""))]
        b.peer.scripts["0501"] = [OK, apdu("060f", h("f0"))]
        found = await b.driver.connect()
        assert found.needs == ("end_of_day", "initialisation", "diagnosis")
        b.peer.scripts.clear()
        assert (await b.driver.connect()).needs == ()

    run(case)


@pytest.mark.parametrize("status", ["f0", "51", "c2", "62", "e4", "b1"])
def test_a_need_is_told_and_nothing_is_done_about_it(run: Any, status: str) -> None:
    """End of day, initialisation, diagnosis and the like are sent when somebody orders them, not before."""

    async def case(b: Bench) -> None:
        b.peer.scripts["0600"] = [OK, h("060f02 1903".replace(" ", ""))]
        b.peer.scripts["0501"] = [OK, apdu("060f", h(status))]
        b.peer.scripts["0622"] = [OK, apdu("061e", h(status))]
        assert (await b.driver.connect()).needs
        assert (await b.driver.identify()).needs
        assert isinstance(await b.hold(), Refused | NotSent)
        await b.driver.show(["hello"])
        await b.driver.read_card(1)
        await b.driver.open_holds()
        await b.driver.last_result()
        await asyncio.sleep(200)
        assert (await b.driver.connect()).needs
        sent = b.heard()
        assert {"0622", "06c0", "0623", "0620"} <= set(sent)
        assert set(sent) <= {"0600", "0501", "0622", "06e0", "06c0", "0623", "0620"}, sent

    run(case)


# --- absences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["aborts", "silent"])
@pytest.mark.parametrize("tcp", [False, True])
def test_an_update_after_the_end_of_day_is_no_error(
    style: str, tcp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        s.set(eod_completion="e0", eod_busy_s=240.0, eod_busy_style=style)
        await s.driver.connect()
        assert isinstance(await s.driver.end_of_day(s.keep), Done)
        begun, seen = s.now(), []
        while True:
            found: TerminalIdentity = await s.driver.identify()
            await s.driver.show(["wait"])
            if found.ready:
                break
            assert found.needs == ("maintenance",)
            assert found.terminal_id == "52523535"
            seen.append(found.status_code)
            assert isinstance(await s.driver.release(HELD, EUR50, s.keep), NotSent)
            await asyncio.sleep(10)
        assert set(seen) == {"e0"}
        assert s.now() - begun < 300, "it was seen when it came back"
        await s.held()

    tell(story, monkeypatch, tcp=tcp, options={"eod_update_s": 600})


def test_a_reboot_after_the_end_of_day_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        s.set(eod_completion="fc", reboot_s=60.0)
        await s.driver.connect()
        assert isinstance(await s.driver.end_of_day(s.keep), Done)
        await asyncio.sleep(5)
        found = await s.driver.identify()
        assert (found.ready, found.needs) == (False, ("maintenance",))
        await asyncio.sleep(90)
        assert (await s.driver.identify()).ready
        await s.held()
        assert s.commands().count("Registration") >= 2, "it was registered anew"

    tell(story, monkeypatch)


def test_an_absence_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        s.set(eod_completion="e0", eod_busy_s=10_000.0, eod_busy_style="silent")
        await s.driver.connect()
        assert isinstance(await s.driver.end_of_day(s.keep), Done)
        assert not (await s.driver.identify()).ready
        await asyncio.sleep(100)
        with unavailable("TRM-006"):
            await s.driver.connect()

    tell(story, monkeypatch, options={"eod_update_s": 60})


def test_silence_without_a_word_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        s.sim.verbs.lock(30.0, style="silent")
        with unavailable("TRM-006"):
            await s.driver.identify()
        await asyncio.sleep(60)
        assert (await s.driver.connect()).ready

    tell(story, monkeypatch)


def test_a_terminal_that_refuses_even_the_registration_is_waited_for(run: Any) -> None:
    async def case(b: Bench) -> None:
        b.peer.scripts["0600"] = [h("84e000")]
        found = await b.driver.connect()
        assert (found.ready, found.needs) == (False, ("maintenance",))
        await b.driver.show(["wait"])
        assert not (await b.driver.identify()).ready
        b.peer.scripts.clear()
        assert (await b.driver.identify()).ready
        assert b.heard() == ["0600", "0600", "0600", "0501"]

    run(case)


def test_a_locked_terminal_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        held = await s.held()
        s.sim.verbs.lock(30.0, code=0xE0, style="aborts")
        found = await s.driver.identify()
        assert (found.ready, found.needs) == (False, ("maintenance",))
        assert isinstance(await s.driver.capture(held.ref, EUR50, PART, s.keep), NotSent)
        await asyncio.sleep(60)
        assert (await s.driver.identify()).needs == ()
        assert isinstance(await s.driver.capture(held.ref, EUR50, PART, s.keep), Done)
        assert s.booked() == [("hold", 5000), ("capture", 1295)]

    tell(story, monkeypatch)


def test_a_reboot_in_a_dialogue_is_answered_by_registering_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        s.set(require_registration=True, forget_registration=True, reboot_s=5.0)
        await s.driver.connect()
        s.sim.verbs.reboot(at="reserve:host_asked")
        outcome = await s.hold()
        assert type(outcome).__name__ == "Unknown"
        await s.driver.connect()
        assert (await s.driver.open_holds()).receipts == ()
        await s.held()

    tell(story, monkeypatch, options={"baud_fallback": ""})


# --- the rate -------------------------------------------------------------------------------------


def test_a_terminal_that_fell_back_to_another_rate_is_found_and_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        s.set(check_baud=True, baud_after_reboot="9600", reboot_s=1.0)
        s.cable.far.set_baud(115_200)
        await s.driver.connect()
        assert s.cable.opened == 1
        await s.sim.power_off()
        s.sim.power_on()
        assert s.cable.far.baud == 9600
        with unavailable("TRM-006"):
            await s.driver.identify()
        assert (await s.driver.connect()).ready
        assert (s.cable.far.baud, s.cable.far.ecr_baud) == (115_200, 115_200)
        assert s.commands().count("Change Baudrate") == 1
        told = [entry for entry in s.log if entry["event"] == "terminal_at_other_rate"]
        assert [(t["id"], t["seen"], t["expected"]) for t in told] == [("TRM-015", 9600, 115_200)]
        await s.held()

    tell(story, monkeypatch, baud=115_200)


def test_a_terminal_that_keeps_its_rate_is_talked_to_at_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        s.set(check_baud=True, baud_change=False)
        s.cable.far.set_baud(9600)
        assert (await s.driver.connect()).ready
        assert (s.cable.far.baud, s.cable.far.ecr_baud) == (9600, 9600)
        assert [e["code"] for e in s.log if e["event"] == "terminal_keeps_its_rate"] == ["fd"]
        await s.held()

    tell(story, monkeypatch, baud=115_200)


def test_a_rate_that_nobody_answers_at_costs_no_more_than_a_minute(run: Any) -> None:
    async def case(b: Bench) -> None:
        b.peer.silent = True
        with unavailable("TRM-006") as error:
            await b.driver.connect()
        assert "9600 8N1" in str(error.value), "what is configured"
        assert asyncio.get_running_loop().time() < 60
        assert b.cable.opened == 3

    run(case, options={"baud_fallback": "9600 57600 115200"})


# --- care -----------------------------------------------------------------------------------------


def test_every_task_against_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        assert isinstance(s.driver, CanMaintain)
        done: set[Upkeep] = set()

        async def do(task: Upkeep, **values: object) -> Any:
            report = await s.driver.maintain(task, **values)
            assert (report.task, report.done) == (task, True), report
            done.add(task)
            return report

        s.set(set_clock_in_diagnosis=True)
        checked = await do(Upkeep.DIAGNOSIS)
        assert len(str(checked.facts["terminal_clock"])) == len("260301 120000")
        await do(Upkeep.DIAGNOSIS, kind="04")
        await do(Upkeep.INITIALISATION)
        await do(Upkeep.SET_CLOCK, local_time="2026-03-01T13:14:15")
        info = (await do(Upkeep.DEVICE_INFO)).facts
        assert (info["device_id"], info["tid"]) == ("17FD1E3C", "52523535")
        assert info["temperature"]
        await do(Upkeep.LANGUAGE, language="en")
        assert (await do(Upkeep.PRINT_SETUP)).lines
        await do(Upkeep.SELFTEST)
        await do(Upkeep.ACTIVATE_READER, on=True)
        await do(Upkeep.CLOSE_CARD_SESSION)
        assert (await do(Upkeep.TOTALS)).facts.get("total_visa_count") is None
        held = await s.held()
        await s.driver.capture(held.ref, EUR50, PART, s.keep)
        facts = (await do(Upkeep.TOTALS)).facts
        assert (facts["total_visa_count"], facts["total_visa_minor"]) == (1, 1295)
        await do(Upkeep.WRITE_FILE, file_id=0x20, data=bytes(range(256)) * 20)
        await do(Upkeep.CONFIGURE, settings={"ff41": "0a000001 4e27 01".replace(" ", "")})
        assert isinstance(await s.driver.end_of_day(s.keep), Done)
        s.set(set_tid="sets")
        assert (await do(Upkeep.SET_TID, tid="11112222")).facts == {"tid": "11112222"}
        found = await s.driver.identify()
        assert (found.terminal_id, found.needs) == ("11112222", ("diagnosis",))
        await do(Upkeep.DIAGNOSIS, kind="04")
        await do(Upkeep.INITIALISATION)
        await do(Upkeep.BAUD, baud=115_200)
        assert (s.cable.far.baud, s.cable.far.ecr_baud) == (115_200, 115_200)
        for task in (Upkeep.RESET, Upkeep.LOG_OFF, Upkeep.FACTORY_RESET):
            await do(task)
            with unavailable("TRM-009"):
                await s.driver.open_holds()  # nothing more on the link of before
            await asyncio.sleep(60)
            found = await s.driver.connect()
            assert found.needs == (("diagnosis",) if task is Upkeep.FACTORY_RESET else ())
        assert done == TASKS

    tell(story, monkeypatch)


@pytest.mark.parametrize("profile", ["feig_cvend", "generic"])
def test_a_terminal_id_that_was_not_set_is_noticed(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        s.set(set_tid="pretends")
        await s.driver.connect()
        report = await s.driver.maintain(Upkeep.SET_TID, tid="11112222")
        assert not report.done
        assert report.facts == {"tid": "52523535"}
        assert "still says 52523535; expected 11112222" in report.text

    tell(story, monkeypatch, profile=profile)


@pytest.mark.parametrize(
    ("task", "values", "control", "options"),
    [
        (Upkeep.INITIALISATION, {}, "0693", {"unsupported": "0693"}),
        (Upkeep.SET_TID, {"tid": "11112222"}, "061b", {"tid_settable": False}),
        (Upkeep.FACTORY_RESET, {}, "0fa1", {"feig_functions": False}),
        (Upkeep.BAUD, {"baud": 19_200}, "0840", {"unsupported": "0840 0850"}),
    ],
)
def test_what_a_terminal_lacks_is_not_sent(
    run: Any, task: Upkeep, values: dict[str, Any], control: str, options: dict[str, Any]
) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        report = await b.driver.maintain(task, **values)
        assert (report.done, report.code) == (False, "83")
        assert report.text
        assert control not in b.heard()

    run(case, options=options)


def test_who_a_terminal_without_system_information_is(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        report = await b.driver.maintain(Upkeep.DEVICE_INFO)
        assert report.facts == {"tid": "52523535"}
        assert b.heard() == ["0501"]

    run(case, profile="generic")


@pytest.mark.parametrize("version", ["4111111111111111 ", "5500 0055 5555 55"])
def test_a_number_like_a_card_s_is_masked_in_what_a_terminal_says_of_itself(
    run: Any, version: str
) -> None:
    """The text is read by position: a firmware that puts something else there must not leak it."""

    async def case(b: Bench) -> None:
        await b.linked()
        text = f"17FD1E3C{version}5252353524.4".encode()
        b.peer.scripts["0fa1"] = [OK, h(f"060f{len(text):02x}") + text]
        report = await b.driver.maintain(Upkeep.DEVICE_INFO)
        assert report.done
        assert (report.facts["device_id"], report.facts["tid"]) == ("17FD1E3C", "52523535")
        told = "".join(str(value) for value in report.facts.values())
        assert version.strip() not in told and version.replace(" ", "") not in told
        assert "*" in str(report.facts["sw_version"])

    run(case, profile="feig_cvend")


@pytest.mark.parametrize(
    ("answers", "code", "text"),
    [
        ([h("848300")], "83", "function not possible"),
        ([OK, h("061e01a0")], "a0", "receiver not ready"),
        (
            [
                OK,
                h("061e0bff06081f1705") + b"nein.",
            ],
            "ff",
            "nein.",
        ),
    ],
)
def test_a_task_that_is_refused(run: Any, answers: list[bytes], code: str, text: str) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0670"] = [m[:2] + bytes([len(m) - 3]) + m[3:] for m in answers]
        report = await b.driver.maintain(Upkeep.DIAGNOSIS)
        assert (report.done, report.code, report.text) == (False, code, text)

    run(case)


def test_a_task_that_breaks(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0670"] = [OK]
        losing = asyncio.ensure_future(b.unplug_after(3))
        with unavailable("TRM-006"):
            await b.driver.maintain(Upkeep.DIAGNOSIS)
        await losing
        with unavailable("TRM-009"):
            await b.driver.maintain(Upkeep.DIAGNOSIS)

    run(case)


@pytest.mark.parametrize(
    ("task", "values"),
    [
        (Upkeep.SET_CLOCK, {}),
        (Upkeep.SET_CLOCK, {"local_time": "noon"}),
        (Upkeep.SET_CLOCK, {"local_time": "2026-03-01T13:14:15+01:00"}),
        (Upkeep.SET_CLOCK, {"local_time": 5}),
        (Upkeep.SET_TID, {"tid": "1234567"}),
        (Upkeep.SET_TID, {"tid": "1234567a"}),
        (Upkeep.LANGUAGE, {"language": "klingon"}),
        (Upkeep.BAUD, {"baud": 300}),
        (Upkeep.BAUD, {"baud": True}),
        (Upkeep.ACTIVATE_READER, {"on": 1}),
        (Upkeep.CONFIGURE, {"settings": "ff41"}),
        (Upkeep.WRITE_FILE, {"file_id": 256, "data": b"x"}),
        (Upkeep.WRITE_FILE, {"file_id": 1, "data": b""}),
        (Upkeep.WRITE_FILE, {"file_id": 1, "data": "x"}),
        (Upkeep.INITIALISATION, {"tid": "11112222"}),
        (Upkeep.DEVICE_INFO, {"what": "ever"}),
    ],
)
def test_values_that_a_task_does_not_take(run: Any, task: Upkeep, values: dict[str, Any]) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        with pytest.raises(ValueError, match=r"."):
            await b.driver.maintain(task, **values)
        assert b.heard() == []

    run(case)


def test_care_writes_no_text_of_the_terminal_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command with its outcome and duration; printed lines go to who asked, numbers masked."""

    async def story(s: Stand) -> None:
        await s.driver.connect()
        report = await s.driver.maintain(Upkeep.PRINT_SETUP)
        entry = s.log[-1]
        assert entry["event"] == "zvt_command"
        assert set(entry) == {
            "event",
            "level",
            "terminal",
            "command",
            "outcome",
            "code",
            "said",
            "after_ms",
        }
        assert (entry["level"], entry["outcome"]) == ("debug", "completed")
        assert entry["after_ms"] >= 0
        printed = [line for line in report.lines if len(line) > 3]
        assert not [line for line in printed if line in repr(s.log)]

    tell(story, monkeypatch)
