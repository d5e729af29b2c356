"""`python -m hil meter`: every meter on a pty, as mbpoll and the driver see it, its faults, its truth."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.rtu_slave import driver_env
from support.simulator import Simulator

from agent.ports import LineSpec, MeterSpec
from agent.values import Reading, ReadingState
from drivers.meter.catalogue import known_models, load_model
from drivers.meter.modbus import Function, Request, Timeout
from drivers.meter.modbus_meter import open_meter
from drivers.meter.rtu import DeviceTiming, open_bus
from hil.charger.plant import MW_NS_PER_MWH, Plant
from hil.charger.rtu import ModbusException
from hil.common.control import ControlError, ask_async
from hil.meter import wordmap
from hil.meter.bench import Bench
from hil.meter.cli import made
from hil.meter.slave import Slave
from hil.meter.wordmap import MapError

START_WH = 104_211
QUICK = {"turnaround_ms": 150, "longest_reply_ms": 260, "min_gap_ms": 2, "signing_reply_ms": 260}


@contextmanager
def meter(folder: Path, model: str, *options: str) -> Iterator[Simulator]:
    """A process of its own, as people use it."""
    folder.mkdir(exist_ok=True)
    given = ("--model", model, "--start-wh", str(START_WH), *options)
    with Simulator("meter", folder, *given) as simulator:
        yield simulator


class Served:
    """The same on the test's own loop, with a driver on its line."""

    def __init__(self, bench: Bench, model: str, options: dict[str, object]) -> None:
        self.bench, self.link = bench, str(bench.options.link)
        env, _, _ = driver_env()
        self.bus = open_bus(LineSpec(self.link, bench.options.baud, bench.options.framing), env)
        spec = MeterSpec(model, bench.options.unit, options={**QUICK, **options})
        self.driver = open_meter(spec, self.bus, env)

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return await ask_async(self.bench.options.control, do=do, **request)


@asynccontextmanager
async def served(
    folder: Path, model: str, *options: str, **of_driver: object
) -> AsyncIterator[Served]:
    line = ["--link", str(folder / "pty"), "--start-wh", str(START_WH)]
    bench = made(["--model", model, *line, *options])
    await bench.start()
    try:
        found = Served(bench, model, of_driver)
        try:
            yield found
        finally:
            await found.bus.close()
    finally:
        await bench.close()


async def one_reading(path: Path, model: str) -> Reading:
    env, _, _ = driver_env()
    bus = open_bus(LineSpec(str(path), 9600), env)
    try:
        return await open_meter(MeterSpec(model, 1, options=QUICK), bus, env).read()
    finally:
        await bus.close()


# --- every meter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", known_models())
def test_every_meter_is_read_over_its_own_line(tmp_path: Path, model: str) -> None:
    async def main() -> None:
        async with served(tmp_path, model, "--load-w", "11000", "--strict-rate") as m:
            reading = await m.driver.read()
            assert reading.ok, reading.why
            truth = await m.ask("truth")
            assert reading.serial == ((await m.ask("state"))["serial"] or None)
            assert reading.power_w == 11_000
            told = Decimal(truth["told"]["energy_import"])
            assert reading.energy_import_wh is not None
            # Energy went on flowing between the reading and the question: 3 Wh in a second.
            assert -1 <= told - reading.energy_import_wh <= 100
            assert abs(truth["import_mwh"] - told * 1000) <= 100_000

    asyncio.run(main())


def test_mbpoll_reads_the_same_as_the_map_says(tmp_path: Path) -> None:
    """An independent client: words in either order, input and holding registers, another unit and speed."""
    if shutil.which("mbpoll") is None:
        pytest.skip("needs mbpoll: apt-get install mbpoll")

    def polled(link: Path, *options: str) -> str:
        command = ["mbpoll", "-m", "rtu", "-0", "-1", "-q", "-l", "100", *options, str(link)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.rpartition("]:")[2].split()[0]

    with meter(tmp_path / "little", "carlogavazzi_em24_rs485") as simulator:
        little = ("-b", "9600", "-P", "none", "-a", "1", "-t")
        assert polled(simulator.link, *little, "3:int", "-r", "66") == "1042"  # 104.2 kWh
        assert polled(simulator.link, *little, "3:int", "-r", "2") == "2301"
        assert polled(simulator.link, *little, "3", "-r", "11") == "71"
    with meter(tmp_path / "big", "abb_b21_b23_b24") as simulator:
        big = ("-b", "19200", "-P", "none", "-t", "4:int", "-B")
        assert polled(simulator.link, *big, "-r", str(0x5002)) == "10421"  # 104.21 kWh, low half
        assert polled(simulator.link, *big, "-r", str(0x8900)) == "3057391"
    with meter(tmp_path / "sunspec", "bauer_bsm_ws36a") as simulator:
        bsm = ("-b", "19200", "-P", "even", "-a", "42", "-t", "4")
        assert polled(simulator.link, *bsm, "-r", "40099") == "2301"
        assert polled(simulator.link, *bsm, "-r", "40105") == "65535"  # a scale factor of -1
        assert polled(simulator.link, *bsm, "-r", "40000") == str(0x5375)


# --- the truth ------------------------------------------------------------------------------------


def test_energy_is_exact_and_can_be_asked_and_kept(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"

    async def main() -> int:
        async with served(tmp_path, "carlogavazzi_em580", "--truth", str(truth)) as m:
            await m.ask("flow", wh=17)
            assert (await m.driver.read()).energy_import_wh == START_WH + 17
            assert (await m.ask("truth"))["import_mwh"] == (START_WH + 17) * 1000
            await m.ask("load", w=900_000)
            await m.ask("wait", drawn_mwh=17_000 + 50_000, timeout_s=10)
            stopped = await m.ask("load", w=0)
            reading = await m.driver.read()
            assert reading.energy_import_wh == stopped["import_mwh"] // 1000
            return reading.energy_import_wh

    last_wh = asyncio.run(main())
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert len(lines) == 3  # a first reading is taken twice
    assert lines[0]["import_mwh"] == (START_WH + 17) * 1000
    assert lines[-1]["register_wh"] == last_wh
    assert [line["at_ns"] for line in lines] == sorted(line["at_ns"] for line in lines)


def test_what_a_master_has_seen_survives_sigkill(tmp_path: Path) -> None:
    with meter(tmp_path, "eastron_sdm72dm_v2", "--load-w", "900000") as simulator:
        simulator.ask("wait", drawn_mwh=20_000, timeout_s=10)
        before = asyncio.run(one_reading(simulator.link, "eastron_sdm72dm_v2"))
        simulator.kill()
        simulator.start()
        simulator.ask("load", w=0)
        after = asyncio.run(one_reading(simulator.link, "eastron_sdm72dm_v2"))
    assert before.ok and after.ok, (before.why, after.why)
    assert before.energy_import_wh is not None and after.energy_import_wh is not None
    assert after.energy_import_wh >= before.energy_import_wh > START_WH


def test_a_store_of_another_meter_is_refused(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    made(["--model", "eastron_sdm630", *store]).save()
    with pytest.raises(ValueError, match="is the store of a eastron_sdm630"):
        made(["--model", "dzg_dvh4013", *store])
    (tmp_path / "store").write_text('{"version": 1}')
    with pytest.raises(ValueError, match="no meter's store"):
        made(["--model", "eastron_sdm630", *store])


def test_values_of_some_meters_are_fresh_once_a_second_only() -> None:
    found = wordmap.load("iskra_wm3m4")
    plant, clock = Plant(bare=True), [10**9]
    plant.advance(0)
    slave = Slave(plant, found, "1", START_WH, now_ns=lambda: clock[0])
    assert slave.register_wh == START_WH
    plant.energy_mw_ns += 5 * MW_NS_PER_MWH * 1000
    for after_ns, wh in ((999_999_999, START_WH), (10**9, START_WH + 5)):
        clock[0] = 10**9 + after_ns
        assert slave.register_wh == wh


def slave_of(name: str) -> Slave:
    plant = Plant(bare=True)
    plant.advance(0)
    found = wordmap.load(name)
    return Slave(plant, found, found.serial, START_WH)


@pytest.mark.parametrize(
    ("name", "function", "address", "count", "answer"),
    [
        # the model code comes alone, and no read runs over it
        ("carlogavazzi_em24_rs485", 4, 0x0B, 1, [71]),
        ("carlogavazzi_em24_rs485", 4, 0x0B, 2, 2),
        ("carlogavazzi_em24_rs485", 4, 0x04, 9, 2),
        ("carlogavazzi_em24_rs485", 4, 0x00, 12, 3),
        # older firmware: to the wall and from it, never across
        ("carlogavazzi_em340_family", 4, 0x32, 2, [0xFFFF, 500]),
        ("carlogavazzi_em340_family", 4, 0x31, 2, 2),
        ("carlogavazzi_em340_family", 3, 0x33, 1, [500]),
        ("carlogavazzi_em340_family", 4, 0x00, 51, 3),
        # 104.211 kWh: a counter is cut off, never rounded up
        ("carlogavazzi_em340_family", 4, 0x34, 2, [1042, 0]),
        ("abb_b21_b23_b24", 3, 0x5002, 2, [0, 10421]),
        # not measured; not there; another function
        ("abb_b21_b23_b24", 3, 0x5004, 4, [0xFFFF] * 4),
        ("abb_b21_b23_b24", 3, 0x5008, 1, 2),
        ("abb_b21_b23_b24", 4, 0x5000, 4, 1),
        # half of a number, and what lies between numbers: 231.7 V
        ("janitza_b23", 3, 0x4A3D, 2, [0xB333, 0]),
        ("janitza_b23", 3, 0x4A3E, 2, 2),
        ("eastron_sdm630", 3, 0xFC00, 2, [12345678 >> 16, 12345678 & 0xFFFF]),
        ("eastron_sdm630", 4, 0xFC00, 2, 2),
        ("eastron_sdm630", 3, 0x14, 2, [0x3F80, 0]),
    ],
)
def test_the_quirks_of_the_registers(
    name: str, function: int, address: int, count: int, answer: list[int] | int
) -> None:
    slave = slave_of(name)
    if isinstance(answer, list):
        assert slave.read_words(function, address, count) == answer
    else:
        with pytest.raises(ModbusException) as refused:
            slave.read_words(function, address, count)
        assert refused.value.code == answer


@pytest.mark.parametrize(
    ("address", "words", "code"),
    [
        (0x14, (0x4140, 0), None),
        (0x14, (0, 0), 3),  # unit 0
        (0x14, (0x7FC0, 0), 3),  # not a number
        (0x14, (0x4140,), 2),
        (0x48, (0x4140, 0), 2),  # the energy register
    ],
)
def test_only_settings_can_be_written(
    address: int, words: tuple[int, ...], code: int | None
) -> None:
    slave = slave_of("eastron_sdm630")
    if code is None:
        slave.write_words(address, words)
        assert slave.settings == {0x14: 12}
        return
    with pytest.raises(ModbusException) as refused:
        slave.write_words(address, words)
    assert refused.value.code == code and slave.settings == {}


def test_a_map_of_ones_own_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    text = (wordmap.FOLDER / "dzg_dvh4013.yaml").read_text()
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("unit: 1", "unit: 9"))
    assert made(["--model", str(own)]).station.unit == 9
    for part, instead, why in (
        ("0x0002: {u32", "0x0001: {u32", "runs into power_export"),
        ("{u32: voltage_l1", "{u33: voltage_l1", "ValueError"),
        ("per: W", "per: hp", "hp"),
        ("8N1", "7N1", "framing '7N1'"),
        ("gaps: zero\n", "", "gaps"),
        ("counts: 100}", "count: 100}", "'count': 100"),
    ):
        own.write_text(text.replace(part, instead, 1))
        with pytest.raises(MapError, match=why):
            wordmap.load(str(own))
    with pytest.raises(MapError, match="there is abb_b21_b23_b24"):
        wordmap.load("abb")


def test_the_list_of_meters() -> None:
    command = [sys.executable, "-m", "hil", "meter", "--list"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert [line.split()[0] for line in out.splitlines()] == known_models()
    for line in out.splitlines():
        name, baud, framing, _, unit = line.split()
        model = load_model(name)
        if model.baud is not None:
            assert (int(baud), framing, int(unit)) == (model.baud, model.framing, model.unit)


# --- faults ---------------------------------------------------------------------------------------

MODEL = "carlogavazzi_em340_family"
FAULTS = [
    ({"name": "timeout"}, "MTR-002"),
    ({"name": "late", "ms": 230}, "MTR-002"),
    ({"name": "crc"}, "MTR-003"),
    ({"name": "exception", "code": 4}, "MTR-017"),
    ({"name": "wrong_unit"}, "MTR-003"),
    ({"name": "wrong_function"}, "MTR-003"),
    ({"name": "wrong_count"}, "MTR-003"),
    ({"name": "second_master"}, "MTR-003"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=[fault["name"] for fault, _ in FAULTS])
def test_a_spoilt_reply_is_an_error_or_the_truth_and_never_energy(
    tmp_path: Path, fault: dict[str, Any], code: str
) -> None:
    async def main() -> list[Reading]:
        async with served(tmp_path, MODEL) as m:
            seen = [await m.driver.read()]
            await m.ask("fault", count=2, **fault)
            seen += [await m.driver.read() for _ in range(5)]
            assert (await m.ask("state"))["faults"]["meter"] == []  # both were met
            return seen

    seen = asyncio.run(main())
    assert seen[0].ok and seen[-1].ok
    assert {r.energy_import_wh for r in seen} <= {START_WH, None}
    spoilt = [r for r in seen if not r.ok]
    assert all(r.why.startswith(code) for r in spoilt), seen
    # A read is repeated once, so two spoilt replies in a row end one reading; a late one only delays it
    # where the host was slow as well.
    assert spoilt or fault["name"] == "late"


def test_a_word_swap_is_not_taken_for_energy(tmp_path: Path) -> None:
    """Swapped words are well-formed: only what is impossible about the numbers can be seen."""

    async def main() -> None:
        async with served(tmp_path, MODEL) as m:
            assert (await m.driver.read()).ok
            await m.ask("fault", name="word_swap", count=0)
            reading = await m.driver.read()
            assert reading.state is ReadingState.OUT_OF_RANGE and "MTR-014" in reading.why
            await m.ask("clear_faults")
            assert (await m.driver.read()).energy_import_wh == START_WH

    asyncio.run(main())


def test_what_the_meter_itself_may_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, MODEL, rated_power_w=22_000) as m:

            async def after(do: str, **request: Any) -> Reading:
                await m.ask(do, **request)
                return await m.driver.read()

            assert (await after("state")).energy_import_wh == START_WH
            assert (await after("fault", name="nan")).state is ReadingState.NOT_AVAILABLE
            assert (await after("clear_faults")).ok
            assert (await after("fault", name="jump_back", wh=500)).state is ReadingState.ROLLBACK
            assert (await after("clear_faults")).ok
            assert not (await after("fault", name="rollover", wh=0)).ok
            assert (await after("clear_faults")).ok
            await m.ask("fault", name="freeze")
            assert (await after("flow", wh=3)).energy_import_wh == START_WH
            assert (await after("clear_faults")).energy_import_wh == START_WH + 3
            assert (await after("fault", name="missing_phase", phase=2)).ok
            assert Decimal((await m.ask("truth"))["told"]["voltage_l2"]) == 0
            # Another meter in its place: noticed after the silence that changing it takes.
            await m.ask("fault", name="serial", serial="KZ99999")
            await m.ask("power_off")
            assert (await m.driver.read()).state is ReadingState.NO_ANSWER
            swapped = await after("power_on")
            assert swapped.state is ReadingState.WRONG_SERIAL and swapped.serial == "KZ99999"
            assert (await m.ask("clear_faults"))["serial"] == "KZ99999"

    asyncio.run(main())


def test_a_rollover_counts_on_from_zero(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, "dzg_dvh4013") as m:
            rolled = await m.ask("fault", name="rollover", wh=2)
            assert rolled["register_wh"] == 4294967295 - 2
            assert (await m.ask("flow", wh=5))["register_wh"] == 3

    asyncio.run(main())


def test_somebody_else_may_speak_at_any_time(tmp_path: Path) -> None:
    """A stray frame between two requests belongs to nobody."""

    async def main() -> None:
        async with served(tmp_path, MODEL) as m:
            assert (await m.driver.read()).ok
            for _ in range(3):
                await m.ask("say", hex="0104 04 0000 0001 3a44")
                assert (await m.driver.read()).energy_import_wh in (START_WH, None)

    asyncio.run(main())


def test_faults_from_the_command_line_and_wrong_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, MODEL, "--fault", "timeout=2", "--fault", "crc=0") as m:
            assert (await m.ask("state"))["faults"]["meter"] == ["timeout", "crc"]
            wrong: list[tuple[dict[str, Any], str]] = [
                ({"do": "fault", "name": "melt"}, "knows no fault 'melt'"),
                ({"do": "fault", "name": "serial"}, "give `serial`"),
                ({"do": "fault", "name": "nan", "device": "evse"}, "no device 'evse'"),
                ({"do": "load", "w": -1}, "whole watts"),
                ({"do": "flow", "wh": 1.5}, "whole Wh"),
                ({"do": "say", "hex": "xyz"}, "hex"),
                ({"do": "wait", "power_w": 7, "timeout_s": 0.01}, "not within"),
            ]
            for request, why in wrong:
                with pytest.raises(ControlError, match=why):
                    await m.ask(**request)

    asyncio.run(main())
    with pytest.raises(ValueError, match="--fault melt: expected one of timeout"):
        made(["--model", MODEL, "--fault", "melt"])


# --- the line -------------------------------------------------------------------------------------


async def asked(link: str, baud: int, count: int = 2, patience_ms: int = 200) -> float:
    """How long the second of two reads took, in seconds: a fresh line is listened to first. Raises
    BusError."""
    env, _, _ = driver_env()
    bus = open_bus(LineSpec(link, baud), env)
    try:
        request, timing = (
            Request(1, Function.READ_INPUT, 0, count),
            DeviceTiming(patience_ms, patience_ms, 0),
        )
        await bus.transact(request, timing=timing, repeatable=False)
        begun = time.monotonic()
        await bus.transact(request, timing=timing, repeatable=False)
        return time.monotonic() - begun
    finally:
        await bus.close()


def test_a_paced_line_takes_its_time(tmp_path: Path) -> None:
    """76 registers at 9600 baud: 8 and 157 characters of 10 bits, 172 ms, and the meter's own 20 ms."""

    async def main() -> None:
        async with served(tmp_path, "eastron_sdm630", "--pace") as m:
            assert await asked(m.link, 9600, 76, 600) >= 0.185

    asyncio.run(main())


def test_a_strict_line_is_deaf_at_another_rate(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, "eastron_sdm630", "--strict-rate") as m:
            with pytest.raises(Timeout):
                await asked(m.link, 19200)
            await asked(m.link, 9600)

    asyncio.run(main())


def test_a_changed_unit_number_counts_after_the_next_power_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, "eastron_sdm630") as m:
            twelve = (0x4140, 0x0000)  # 12.0
            await m.bus.write_registers(1, 0x14, twelve, timing=DeviceTiming(200, 300, 0))
            assert (await m.ask("state"))["units"] == {"meter": 1}
            await m.ask("power_off")
            assert (await m.ask("power_on"))["units"] == {"meter": 12}

    asyncio.run(main())
