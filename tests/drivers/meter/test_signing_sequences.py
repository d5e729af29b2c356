"""Signing meters behind the port: what comes out verifies with three judges, and what must not happen is
refused by name."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import warnings
from collections.abc import Awaitable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyocmf
import pytest
from support.signing_rig import MODELS, START_WH, Mishap, Site, Station, run, text

from agent.ports import DeviceUnavailable, SigningMeter
from agent.trust import ocmf
from agent.values import ReadingState
from drivers.meter.modbus import Function, Request
from drivers.meter.signing import em580, wm3m4
from drivers.meter.signing.der import minimal_signature
from drivers.meter.signing.label import parse
from drivers.meter.signing.steps import SigningState, SigningTrouble

EM580, WM3M4, BSM = "carlogavazzi_em580", "iskra_wm3m4", "bauer_bsm_ws36a"


def lines(data: bytes) -> list[str]:
    return data.decode("ascii").split("\n")


def payloads(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.split("|")[1]) for line in lines(data)]


def energy_wh(data: bytes) -> tuple[Decimal, Decimal]:
    """First and last register of the record, total import, in Wh."""
    readings = [own for payload in payloads(data) for own in payload["RD"]]
    found = []
    for reading in (readings[0], readings[-1]):
        value, unit = reading["RV"], reading["RU"]
        if "XV" in reading:
            value, unit = reading["XV"], reading["XU"]
        found.append(Decimal(str(value)) * (1000 if unit == "kWh" else 1))
    return found[0], found[1]


async def refused(call: Awaitable[object], code: str, state: SigningState | None = None) -> None:
    with pytest.raises(SigningTrouble) as caught:
        await call
    assert caught.value.code == code
    assert state is None or caught.value.state is state


def record(model: str, memory: dict[str, Any] | None = None) -> tuple[bytes, bytes]:
    """A record and its key, as DER."""
    found: list[bytes] = []

    async def job(site: Site) -> None:
        found.append(await Station(site, "975-231", 7_350).run())
        key = await site.driver().public_key()
        assert key is not None
        found.append(key)

    run(model, job, memory=memory)
    return found[0], found[1]


@pytest.mark.parametrize("model", MODELS)
def test_a_transaction_from_begin_to_acknowledgement(model: str) -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        assert isinstance(meter, SigningMeter)
        assert await meter.signing_state() is SigningState.FREE
        await meter.begin(text("975-231"))
        assert await meter.signing_state() is SigningState.OPEN
        site.flow(7_350)
        await meter.end()
        assert await meter.signing_state() is SigningState.RECORD
        data = await meter.fetch()
        assert await meter.fetch() == data
        assert await site.driver().fetch() == data
        await meter.acknowledge()
        assert await meter.signing_state() is SigningState.FREE
        begin, end = energy_wh(data)
        step = 1 if model == EM580 else 10
        assert begin == START_WH // step * step
        assert end == (START_WH + 7_350) // step * step
        assert site.memory["discarded"] == 0

    run(model, job)


@pytest.mark.parametrize("model", MODELS)
def test_the_texts_of_the_begin_are_in_the_record(model: str) -> None:
    for payload in payloads(record(model)[0]):
        place, tariff = ("X2", "X3") if model == BSM else ("CI", "TT")
        assert payload["ID"] == "975-231"
        assert payload[place] == "DE*ABC*E1"
        assert payload[tariff] == "001;EUR;0;59;0;0"
        assert model == BSM or payload["IT"] == "CARD_TXN_NR"
        assert payload["RD"][0]["TM"].startswith("2026-11-21T12:40:0")
        assert payload["RD"][0]["TM"].endswith("+0100 S")


# --- Independent judges ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_our_own_verification(model: str) -> None:
    data, key = record(model)
    for line in lines(data):
        assert ocmf.verify(line, key).signature == "valid"
        changed = line.replace("975-231", "975-232")
        assert ocmf.verify(changed, key).signature == "invalid"


@pytest.mark.parametrize("model", MODELS)
def test_openssl(model: str, tmp_path: Path) -> None:
    """On the payload's bytes as they came, and with the signature as it stands in the record."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    data, key = record(model)
    (tmp_path / "key.der").write_bytes(key)
    for line in data.split(b"\n"):
        _, payload, signature = line.split(b"|")
        (tmp_path / "signature").write_bytes(bytes.fromhex(json.loads(signature)["SD"]))
        for signed, verdict in ((payload, "Verified OK"), (payload + b" ", "Verification failure")):
            (tmp_path / "payload").write_bytes(signed)
            done = subprocess.run(
                ["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", tmp_path / "key.der",
                 "-signature", tmp_path / "signature", tmp_path / "payload"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert verdict in done.stdout + done.stderr


@pytest.mark.parametrize("model", MODELS)
def test_pyocmf(model: str) -> None:
    """It knows no brainpoolP384r1, so the EM580 has its other curve here."""
    data, key = record(model, {"curve": "brainpoolP256r1"} if model == EM580 else {})
    for line in lines(data):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert pyocmf.OCMF.from_string(line).verify_signature(key.hex()) is True
            other = pyocmf.OCMF.from_string(line.replace("975-231", "975-232"))
            assert other.verify_signature(key.hex()) is False


@pytest.mark.parametrize("model", [BSM, WM3M4])
def test_the_meters_own_bytes_arrive(model: str) -> None:
    async def job(site: Site) -> None:
        data = await Station(site, "975-231").run()
        told = site.unit.told()
        if model == BSM:
            assert lines(data) == [told["texts"]["start"], told["texts"]["end"]]
            return
        assert data.split(b"|")[1].decode() == told["data"]
        made = bytes.fromhex(told["signature"])
        sent = bytes.fromhex(json.loads(data.split(b"|")[2])["SD"])
        assert len(made) > len(sent) and sent == minimal_signature(made)

    run(model, job)


def test_em580_file_is_passed_on_untouched() -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("1"))
        await meter.end()
        data = await meter.fetch()
        assert data.decode() == site.unit.told()["file"]
        assert b'"RV": ' in data and b'"EF": ' in data  # with the blanks that its firmware leaves

    run(EM580, job)


# --- What must not happen -------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_begun_twice_is_begun_once(model: str) -> None:
    """In one life and after a restart; a transaction with another text is refused."""

    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("975-231"))
        commands = list(site.unit.told()["commands"])
        await meter.begin(text("975-231", TM="2026-11-21T12:41:00,000+0100 S"))
        again = site.driver()
        await again.begin(text("975-231"))
        await refused(again.begin(text("975-232")), "MTR-030", SigningState.OPEN)
        await refused(site.driver().begin(text("975-232")), "MTR-030", SigningState.OPEN)
        assert site.unit.told()["commands"] == commands

    run(model, job)


@pytest.mark.parametrize("model", MODELS)
def test_a_record_that_was_not_fetched_stops_the_next(model: str) -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("975-231"))
        site.flow(900)
        await meter.end()
        for other in (meter, site.driver()):
            await refused(other.begin(text("975-232")), "MTR-031", SigningState.RECORD)
            # The same text once more is no new transaction either: its record waits.
            await refused(other.begin(text("975-231")), "MTR-031", SigningState.RECORD)
        data = await meter.fetch()
        await refused(meter.begin(text("975-232")), "MTR-031", SigningState.RECORD)
        assert await meter.fetch() == data
        await meter.acknowledge()
        await meter.begin(text("975-232"))
        assert site.memory["discarded"] == 0

    run(model, job)


@pytest.mark.parametrize("model", MODELS)
def test_order_of_the_verbs(model: str) -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        await refused(meter.end(), "MTR-036", SigningState.FREE)
        await refused(meter.fetch(), "MTR-036", SigningState.FREE)
        await refused(meter.acknowledge(), "MTR-036")
        await meter.begin(text("1"))
        await meter.end()
        commands = list(site.unit.told()["commands"])
        await meter.end()  # has ended: nothing is sent
        assert site.unit.told()["commands"] == commands
        await refused(site.driver().acknowledge(), "MTR-036")  # has fetched nothing
        data = await meter.fetch()
        await meter.acknowledge()
        await refused(meter.fetch(), "MTR-036", SigningState.FREE)
        await refused(meter.acknowledge(), "MTR-036")
        assert data

    run(model, job)


@pytest.mark.parametrize("model", MODELS)
def test_power_fails_between_fetch_and_acknowledgement(model: str) -> None:
    """Of the meter and of the agent: the same bytes once more, and then the next transaction."""

    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("1"))
        site.flow(77)
        await meter.end()
        data = await meter.fetch()
        site.cut()
        with pytest.raises(DeviceUnavailable) as caught:
            await meter.acknowledge()
        assert caught.value.code == "MTR-002"
        await asyncio.sleep(5)
        again = site.driver()
        await refused(again.begin(text("2")), "MTR-031")
        assert await again.fetch() == data
        await again.acknowledge()
        await Station(site, "2", 120).run()
        assert site.memory["discarded"] == 0

    run(model, job)


@pytest.mark.parametrize("model", MODELS)
def test_the_meter_loses_power_after_the_acknowledgement(model: str) -> None:
    """Where that takes the mark, the stored record is offered once more; nothing is lost, and the next
    transaction comes after it."""

    async def job(site: Site) -> None:
        first = await Station(site, "1", 500).run()
        site.cut()
        await asyncio.sleep(5)
        second = await Station(site, "2", 600).run()
        assert payloads(second)[0]["ID"] == "2"
        assert site.disk.get("found", [first]) == [first]
        assert site.memory["discarded"] == 0

    run(model, job)


ORDERS = {EM580: (0x7040, 0x7040), WM3M4: (7051, 7051), BSM: (41286, 41540)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("verb", [0, 1])
def test_the_reply_to_a_command_that_signs_is_lost(model: str, verb: int) -> None:
    """The meter is asked what became of it: obeyed, the verb is done; lost, the verb fails and may be
    called again. Never are there two commands for one transaction."""

    def orders(site: Site) -> list[int]:
        return [n for n, r in enumerate(site.requests) if r.writes and r.address in ORDERS[model]]

    async def job(site: Site) -> None:
        meter = site.driver()
        for call in (lambda: meter.begin(text("1")), meter.end):
            try:
                await call()
            except DeviceUnavailable as error:
                assert error.code == "MTR-002"
                site.happened.append("told")
                await call()
        assert await meter.fetch()

    at = orders(run(model, job))[verb]
    obeyed = run(model, job, [Mishap("lose", at)])
    assert obeyed.happened == ["lose"] and len(orders(obeyed)) == 2
    lost = run(model, job, [Mishap("drop", at)])
    assert lost.happened == ["drop", "told"] and len(orders(lost)) == 3
    for site in (obeyed, lost):
        assert len(site.unit.told()["commands"]) == 2


@pytest.mark.parametrize("model", MODELS)
def test_only_what_was_fetched_is_acknowledged(model: str) -> None:
    """Another master took the record away and made its own: that one is not acknowledged unseen."""

    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("1"))
        await meter.end()
        first = await meter.fetch()
        foreign = site.driver()
        await foreign.fetch()
        await foreign.acknowledge()
        await foreign.begin(text("2"))
        await foreign.end()
        await refused(meter.acknowledge(), "MTR-036", SigningState.RECORD)
        second = await meter.fetch()
        assert second != first and payloads(second)[0]["ID"] == "2"

    run(model, job)


def test_em580_file_that_changes_while_it_is_read() -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("1"))
        await meter.end()
        plain = site.unit.read

        def changes(function: int, address: int, count: int) -> Sequence[int]:
            found = plain(function, address, count)
            if address > em580.OCMF_FILE and site.memory["page"] == 1:
                site.memory["page"] = 2
            return found

        site.unit.read = changes
        with pytest.raises(SigningTrouble, match="MTR-037"):
            await meter.fetch()
        assert await meter.fetch()

    run(EM580, job)


# --- Power loss in a transaction ------------------------------------------------------------------


def test_wm3m4_wants_its_text_again_after_a_power_loss() -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("975-231"))
        site.flow(3_000)
        site.cut()
        await asyncio.sleep(5)
        assert await meter.signing_state() is SigningState.INTERRUPTED
        fresh = site.driver()
        await refused(fresh.end(), "MTR-035", SigningState.INTERRUPTED)
        # It no longer knows whose it is, so a begin does not take it over.
        await refused(fresh.begin(text("975-232")), "MTR-030")
        fresh.resume(text("975-231"))
        await fresh.begin(text("975-231"))
        await fresh.end()
        data = await fresh.fetch()
        assert payloads(data)[0]["ID"] == "975-231"
        begin, end = energy_wh(data)
        assert end - begin == 3_000
        assert [hex(command) for command in site.unit.told()["commands"]] == ["0x4200", "0x7200"]

    run(WM3M4, job)


def test_em580_ends_the_transaction_itself_when_it_loses_power() -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("975-231"))
        site.flow(3_000)
        site.cut()
        await asyncio.sleep(5)
        await meter.end()
        data = await meter.fetch()
        assert payloads(data)[0]["RD"][-1]["TX"] == "P"
        begin, end = energy_wh(data)
        assert end - begin == 3_000
        assert site.unit.told()["commands"] == [em580.BEGIN]

    run(EM580, job)


# --- Signing that fails or hangs ------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_meter_cannot_sign(model: str) -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        if model == EM580:
            await meter.begin(text("1"))
            site.unit.faults.refuse = 1
            await refused(meter.end(), "MTR-033", SigningState.FAILED)
            await refused(site.driver().begin(text("2")), "MTR-033", SigningState.FAILED)
            await refused(meter.fetch(), "MTR-033", SigningState.FAILED)
            await meter.acknowledge()  # that there is none is stored; the meter may go on
            await meter.begin(text("2"))
            return
        site.unit.faults.refuse, site.unit.faults.code = 1, 254
        await refused(meter.begin(text("1")), "MTR-033", SigningState.FAILED)
        assert await meter.signing_state() is SigningState.FREE
        await meter.begin(text("1"))
        site.unit.faults.refuse, site.unit.faults.code = 1, 254
        await refused(meter.end(), "MTR-033", SigningState.FAILED)
        await meter.end()
        assert await meter.fetch()

    run(model, job)


def test_wm3m4_record_that_another_master_made_unreadable() -> None:
    """With a | in its template the meter signs what can be no OCMF. It does not block the meter for ever."""

    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("1"))
        await meter.end()
        site.memory["data"] = site.memory["data"].replace("DE*ABC", "DE|ABC")
        await refused(meter.begin(text("2")), "MTR-031")
        await refused(meter.fetch(), "MTR-037")
        await meter.acknowledge()
        await meter.begin(text("2"))

    run(WM3M4, job)


def test_wm3m4_does_not_keep_what_is_written() -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        written = site.unit.write

        def forgets(address: int, values: Sequence[int]) -> None:
            written(address, [*values[:-1], 0] if address == wm3m4.TEMPLATE else values)

        site.unit.write = forgets
        await refused(meter.begin(text("1")), "MTR-037")
        assert site.unit.told()["commands"] == []

    run(WM3M4, job)


@pytest.mark.parametrize("model", MODELS)
def test_the_meter_hangs_while_it_signs(model: str) -> None:
    """The end is waited for, and not ordered again; what is signed at last is the one record."""

    async def job(site: Site) -> None:
        meter = site.driver()
        await meter.begin(text("1"))
        site.flow(40)
        site.unit.faults.slow_ms = 60_000 if model != BSM else 14_000
        if model != BSM:
            await refused(meter.end(), "MTR-032", SigningState.SIGNING)
            await asyncio.sleep(60)
        await meter.end()
        assert payloads(await meter.fetch())[0]["PG"] in ("T1", "T403")
        assert len(site.unit.told()["commands"]) == 2

    run(model, job)


def test_bsm_is_patient_only_while_it_signs() -> None:
    """14 s late while it signs is no loss; afterwards a lost reading costs the usual second or two."""

    async def job(site: Site) -> None:
        meter = site.driver()
        assert meter.timing.longest_reply_ms == 15_000  # nobody knows what it does
        assert (await meter.read()).state is ReadingState.OK
        assert meter.timing.longest_reply_ms == 2_000
        site.unit.faults.slow_ms = 14_000
        await meter.begin(text("1"))
        assert meter.timing.longest_reply_ms == 2_000
        ending = asyncio.ensure_future(meter.end())
        await asyncio.sleep(8)
        assert meter.timing.longest_reply_ms == 15_000
        assert (await meter.read()).state is ReadingState.OK  # late, and waited for
        await ending
        assert meter.timing.longest_reply_ms == 2_000
        assert await meter.fetch()

    run(BSM, job)


def test_bsm_clock_is_set_once() -> None:
    """Each write wears the meter, and a torn one would be worse than none."""

    async def job(site: Site) -> None:
        for ident in ("1", "2", "3"):
            spent_s = int(site.loop.time())
            at = f"2026-11-21T12:40:{spent_s:02},000+0100 S"
            meter = site.driver()
            await meter.begin(text(ident, TM=at))
            await meter.end()
            await meter.fetch()
            await meter.acknowledge()
        assert site.unit.told()["clock_sets"] == 1
        writes = [r for r in site.requests if r.writes and r.address == 40260]
        assert [len(request.values) for request in writes] == [3]

    run(BSM, job)


@pytest.mark.parametrize("model", MODELS)
def test_a_clock_that_is_not_known_is_not_given_to_the_meter(model: str) -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        unknown = text("1", TM="2026-11-21T12:40:00,000+0100 U")
        if model == WM3M4:
            await refused(meter.begin(unknown), "MTR-033")  # it wants one
        else:
            await meter.begin(unknown)
            await meter.end()
            assert payloads(await meter.fetch())[0]["RD"][0]["TM"].endswith(" U")
        assert site.unit.told()["clock_sets"] == 0

    run(model, job)


def test_em580_clock_is_deaf_after_power_up() -> None:
    async def job(site: Site) -> None:
        site.cut()
        await asyncio.sleep(3)
        await site.driver().begin(text("1"))
        assert site.unit.told()["clock_sets"] == 1

    run(EM580, job)


# --- On the wire ----------------------------------------------------------------------------------


def test_bsm_frames_of_its_maker() -> None:
    """As chargeITmobility's bsm-python shows them: a snapshot is ordered with function 16."""
    order = Request(42, Function.WRITE_REGISTERS, 40524, values=(2,))
    assert order.frame.hex() == "2a109e4c0001020002bca5"
    head = Request(42, Function.READ_HOLDING, 41793, 2)
    assert head.frame.hex() == "2a03a3410002b040"


@pytest.mark.parametrize("model", MODELS)
def test_functions_and_sizes(model: str) -> None:
    """Reads of up to 125 registers; Iskra writes single registers with function 6, the others never."""

    async def job(site: Site) -> None:
        await Station(site, "1").run()
        functions = {int(request.function) for request in site.requests}
        assert functions == (
            {3, 6, 16} if model == WM3M4 else {4, 16} if model == EM580 else {3, 16}
        )
        assert max(request.count for request in site.requests) <= 125

    run(model, job)


# --- Texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "", "no json", "[]", '{"ID": 5}', '{"ID": ""}', '{"ID": "1", "XX": 1}', '{"ID": "a|b"}',
        '{"ID": "a\\"b"}',
        '{"ID": "1", "IT": "ISO7812"}', '{"ID": "1", "IT": "nothing"}', '{"ID": "1", "IS": 1}',
        '{"ID": "1", "IF": "RFID_PLAIN"}', '{"ID": "1", "TM": "12:40"}', '{"ID": "\\u00e4"}',
        '{"ID": "1", "TM": "2026-13-21T12:40:00,000+0100 S"}', '{"ID": "1", "CT": "else"}',
        '{"ID": "' + 5000 * "1" + '"}',
    ],
)  # fmt: skip
def test_a_text_that_is_none(wrong: str) -> None:
    with pytest.raises(SigningTrouble, match="MTR-034"):
        parse(wrong, 0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("key", ["ID", "TT", "CI"])
def test_a_text_that_is_too_long_is_refused_and_nothing_is_sent(model: str, key: str) -> None:
    async def job(site: Site) -> None:
        fields = {"ID": "1"} | {key: 1100 * "x"}
        await refused(site.driver().begin(json.dumps(fields)), "MTR-034")
        assert not site.requests

    run(model, job)


def test_longest_texts_fit() -> None:
    async def job(site: Site) -> None:
        await Station(site, "9" * 40).run()
        meter = site.driver()
        await meter.begin(text("8" * 40, TT="t" * em580.TARIFF_MOST, CI="c" * em580.PLACE_MOST))
        await meter.end()
        payload = payloads(await meter.fetch())[0]
        assert (payload["TT"], payload["CI"]) == ("t" * 251, "c" * 40)

    run(EM580, job)


def test_wm3m4_template_is_what_the_meter_takes() -> None:
    template = json.loads(wm3m4.template(parse(text("1"), 0)))
    assert template["RD"] == [] and template["PG"] == ""


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("model", MODELS)
def test_several_mishaps_in_three_transactions(model: str, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(f"{model} {seed}")
    whats = ("drop", "lose", "kill", "kill_after", "cut", "cut_after")
    mishaps = [Mishap(dice.choice(whats), dice.randrange(300)) for _ in range(6)]

    async def job(site: Site) -> None:
        for n in range(3):
            await Station(site, f"975-{n}", 1_000 * (n + 1)).run()

    site = run(model, job, mishaps)
    assert site.memory["discarded"] == 0
    kept = [bytes(of["record"]) for name, of in site.disk.items() if name != "found"]
    assert len(kept) == 3
    found = site.disk.get("found", [])
    pages = [payload["PG"] for data in (*kept, *found) for payload in payloads(data)]
    if model != BSM:
        assert set(pages) == set(site.memory["truth"])
    if not any(what.startswith("cut") for what in site.happened):
        assert len(pages) == len(set(pages)) and not found
        for n, data in enumerate(kept):
            begin, end = energy_wh(data)
            assert abs(end - begin - 1_000 * (n + 1)) <= 10
