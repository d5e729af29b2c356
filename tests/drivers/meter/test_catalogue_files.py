"""Model files: what the shipped ones promise, where a technician's own are found, and each way to write one
wrong, told with file, line and reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.meter import catalogue
from drivers.meter.catalogue import (
    SHIPPED,
    ModelError,
    find_model,
    known_models,
    load_all,
    load_file,
    load_model,
)
from drivers.meter.quantity import number_in
from drivers.meter.values import TYPES, UNITS

ALL_TWELVE = [
    "abb_b21_b23_b24", "bauer_bsm_ws36a", "carlogavazzi_em24_rs485", "carlogavazzi_em340_family",
    "carlogavazzi_em580", "dzg_dvh4013", "eastron_sdm120_sdm230", "eastron_sdm630", "eastron_sdm72dm_v2",
    "inepro_pro380", "iskra_wm3m4", "janitza_b23",
]  # fmt: skip


def test_all_meters_are_there() -> None:
    assert known_models() == ALL_TWELVE
    assert load_all()[1] == []


@pytest.mark.parametrize("name", ALL_TWELVE)
def test_a_shipped_file_says_where_it_is_from_and_how_sure_it_is(name: str) -> None:
    model = load_model(name)
    assert any(source.startswith("https://") for source in model.sources)
    assert model.gotchas
    everything = {*model.values, *model.texts, *(mark.name for mark in model.identity)}
    assert set(model.confidence) == {*everything, "line", "timing"}
    assert model.confidence["energy_import"] in ("high", "medium")
    assert (model.baud is None) == (model.framing is None) == (model.unit is None)
    assert model.energy_import.low == 0 and model.energy_import.high is not None
    # Whatever a driver pays for: at least a voltage, a current, a frequency beside energy and power.
    for wanted in ("voltage_l1", "current_l1", "frequency", "energy_export"):
        assert wanted in model.values
    phases = [n for n in ("voltage_l1", "voltage_l2", "voltage_l3") if n in model.values]
    assert len(phases) == model.phases
    assert model.energy_import.block == "billing"
    if model.power.block == "billing":
        assert model.blocks["billing"].count <= 62


def test_a_signing_meter_is_marked() -> None:
    signing = [name for name in ALL_TWELVE if load_model(name).signing == "ocmf"]
    assert signing == ["bauer_bsm_ws36a", "carlogavazzi_em580", "iskra_wm3m4"]


def test_the_form_is_described() -> None:
    page = (Path(__file__).parents[3] / "docs" / "meters.md").read_text()
    for key in (*catalogue._TOP_KEYS, *UNITS, "exponent", "plus", "ascii_low", "decimal_i24"):
        assert key in page, key


def test_the_page_of_devices_says_what_the_files_say() -> None:
    page = (Path(__file__).parents[3] / "docs" / "devices.md").read_text()
    rows = [line.strip("| \n").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows if not row[0].startswith("`tests")] == ALL_TWELVE
    for row in rows:
        model = load_model(row[0].strip("`"))
        serial = model.confidence.get("serial_number", "-")
        line = "-" if model.baud is None else model.confidence["line"]
        told = [model.confidence["energy_import"], model.confidence["power"], serial, line]
        assert row[2:6] == told, row
        names = "no"
        if model.identity:
            names = "refuses" if any(mark.sure for mark in model.identity) else "hint"
        assert row[6].split(" (")[0] == names, row


# --- One's own ------------------------------------------------------------------------------------


def test_the_folder_beside_the_configuration_and_the_option_come_before_the_shipped_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (SHIPPED / "eastron_sdm630.yaml").read_text()
    beside, option = tmp_path / "etc", tmp_path / "option"
    for folder, vendor in ((beside, "Beside"), (option, "Option")):
        folder.mkdir()
        (folder / "eastron_sdm630.yaml").write_text(
            text.replace("vendor: Eastron", f"vendor: {vendor}")
        )
    (beside / "acme.yaml").write_text(text.replace("id: eastron_sdm630", "id: acme"))
    assert load_model("eastron_sdm630").vendor == "Eastron"
    monkeypatch.setattr(catalogue, "OWN", beside)
    assert load_model("eastron_sdm630").vendor == "Beside"
    assert load_model("eastron_sdm630", option).vendor == "Option"
    assert load_model("acme").id == "acme" and "acme" in known_models()
    with pytest.raises(ModelError, match="did you mean acme"):
        load_model("acne")


def test_a_path_is_a_file_for_people_and_never_for_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (SHIPPED / "eastron_sdm630.yaml").read_text()
    path.write_text(text.replace("id: eastron_sdm630", "id: mine"))
    assert find_model(str(path)).id == "mine"
    with pytest.raises(ModelError, match="MTR-008"):
        load_model(str(path))
    with pytest.raises(ModelError, match="cannot be read"):
        find_model(str(tmp_path / "nothing.yaml"))


def test_one_wrong_file_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("format: voltill-meter-1\nid: bad\n")
    found, wrong = load_all(tmp_path)
    assert set(found) == set(ALL_TWELVE)
    (error,) = wrong
    assert error.code == "MTR-009" and str(tmp_path / "bad.yaml") in str(error)


# --- Mistakes. (file, what to replace, with what, what is said) --------------------------------------

EM340, BAUER, ISKRA, EM24, ABB, DZG = (
    "carlogavazzi_em340_family", "bauer_bsm_ws36a", "iskra_wm3m4", "carlogavazzi_em24_rs485",
    "abb_b21_b23_b24", "dzg_dvh4013",
)  # fmt: skip
MISTAKES = [
    # exponents and halves
    (ISKRA, "exponent: 414", "exponent: 413", "0x019d with 1 registers is outside block billing"),
    (ISKRA, "exponent: 414", "exponent: high", "expected a whole number"),
    (ISKRA, "exponent: 414", "exponents: 414", "did you mean exponent?"),
    (EM340, "plus: {address: 0x0402", "plus: {address: 0x0500", "outside block billing"),
    (EM340, 'scale: "0.001", most: 999}', 'scale: "0", most: 999}', "something else than 0"),
    (EM340, "most: 999}", "most: few}", "expected a whole number"),
    (EM340, "most: 999}", "least: 999}", "least: not known"),
    (EM340, "plus: {address: 0x0402, type: i32", "plus: {address: 0x0402, type: i33", "did you mean"),
    (DZG, 'plus: {address: 0x0002, type: u32, scale: "-0.1"}', "plus: 2", "expected keys and values"),
    # types, units, order
    (ISKRA, "type: decimal_u24", "type: decimal_u23", "did you mean decimal_u24?"),
    (ISKRA, "unit: Hz", "unit: hz", "expected one of Hz"),
    (BAUER, 'scale: "1", unit: A', 'scale: "1", unit: V', "expected one of A"),
    (EM340, "word_order: little", "word_order: middle", "expected one of big, little"),
    (EM340, "type: i16, scale", "type: i16, word_order: big-endian, scale", "expected one of big, little"),
    (EM24, 'scale: "0.1", unit: V', 'scale: "-0.1", unit: V', "more than 0"),
    (EM24, 'scale: "0.1", unit: V', 'scale: "1/10", unit: V', "decimal number as text"),
    (ABB, "not_available: [all_ones]}\n  voltage_l2", "not_available: [ones]}\n  voltage_l2", "'ones'"),
    (EM24, 'min: "-100", max: "1000000"', 'max: "1000000"', "min: missing"),
    # texts
    (ABB, "type: ascii, registers: 8", "type: ascii, registers: 9", "0x8908 with 9 registers is outside"),
    (ABB, "type: ascii, registers: 8", "type: ascii", "registers: missing"),
    (ABB, "type: u32, not_available: [all_ones, zero]", "type: u32, registers: 2", "leave it out"),
    (EM340, "ascii_low", "ascii_high", "did you mean ascii"),
    # identity
    (EM24, 'expected: ["71", "72", "73"]', "expected: []", "expected a list of texts"),
    (EM24, 'expected: ["71", "72", "73"]', 'expects: ["71"]', "did you mean expected?"),
    (EM24, 'expected: ["71", "72", "73"]', 'expected: ["71"], others: ["72"]', "expected keys and values"),
    (EM24, 'expected: ["71", "72", "73"]', 'expected: ["71"], others: {a: 72}', "put it in quotes"),
    (EM24, "model_code: {block: model", "model_code: {block: modell", "'modell': expected one of"),
    # confidence
    (EM24, "frequency: medium, model_code: medium", "frequency: medium", "model_code: missing"),
    (EM24, "frequency: medium, model", "frequenzy: medium, model", "did you mean frequency?"),
    (EM24, "line: low, ", "", "line: missing"),
    # blocks and line
    (EM24, "count: 1}\n  voltages", "count: 12}\n  voltages", "expected a whole number from 1 to 11"),
    (EM24, "  billing:", "  counters:", "no block called billing"),
    (EM24, "values:\n", "values:\n  Energy 2: {block: grid}\n", "expected a name of a-z"),
    (EM24, "  model: {", "  spare: {function: 4, address: 0, count: 1}\n  model: {", "no value is in"),
    (DZG, "baud: unknown", "baud: unknwon", "expected a whole number"),
    (BAUER, "other_baud: [1200", "other_baud: [fast", "'fast': expected whole numbers"),
    (BAUER, "signing: ocmf", "signing: eichrecht", "expected one of none, ocmf"),
    (BAUER, "sources:\n", "sources: []\nold:\n", "expected a list of texts"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "part", "instead", "why"), MISTAKES)
def test_a_mistake_is_told_with_file_line_and_reason(
    tmp_path: Path, name: str, part: str, instead: str, why: str
) -> None:
    text = (SHIPPED / f"{name}.yaml").read_text()
    assert part in text
    path = tmp_path / f"{name}.yaml"
    path.write_text(text.replace(part, instead, 1))
    with pytest.raises(ModelError) as caught:
        load_file(path)
    assert caught.value.code == "MTR-009"
    told = [problem for problem in caught.value.problems if why in problem.text]
    assert told, str(caught.value)
    lines = path.read_text().splitlines()
    for problem in told:
        assert problem.path == path
        key = problem.text.split(":")[0]
        near = "\n".join(lines[problem.line - 1 : problem.line + 2])
        missing = problem.text.endswith("missing") or "no block" in problem.text
        assert missing or key in near, (problem, near)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_done_to_a_file_it_is_read_or_refused_in_words(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Lines lost, doubled, swapped or cut, characters changed: never anything but a model or a ModelError."""
    name = data.draw(st.sampled_from(ALL_TWELVE))
    lines = (SHIPPED / f"{name}.yaml").read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        cut = data.draw(st.integers(0, len(line)))
        odd = data.draw(
            st.sampled_from(["", ":", "{", "]", "-1", "0x", "~", "'", "&a", "\t", "é", "9" * 12])
        )
        other = data.draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = data.draw(
            st.sampled_from(
                [[], [line, line], [lines[other]], [line[:cut]], [line[:cut] + odd + line[cut:]]]
            )
        ) or ["#"]
    path = tmp_path / f"{name}.yaml"
    path.write_text("\n".join(lines))
    try:
        assert load_file(path).id == name
    except ModelError as error:
        assert error.code == "MTR-009" and error.problems
        assert all(problem.text and problem.line >= 1 for problem in error.problems)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = (SHIPPED / f"{EM24}.yaml").read_text()
    for part, instead in (
        ("phases: 3", "phases: 7"),
        ("baud: 9600", "baud: 1"),
        ("unit: Hz", "unit: V"),
        ("model_code: medium", "model_code: quite"),
        ("address: 0x0042, type", "address: 0x0041, type"),
    ):
        text = text.replace(part, instead, 1)
    path = tmp_path / f"{EM24}.yaml"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        load_file(path)
    problems = caught.value.problems
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    said = [problem.text.split(":")[0] for problem in problems]
    assert said == ["phases", "baud", "address", "unit", "model_code"]
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize("name", ALL_TWELVE)
def test_a_power_just_below_zero_is_a_number(name: str) -> None:
    """All ones is minus one in a signed register: an idle meter reads so."""
    power = load_model(name).power
    if TYPES[power.type][1] not in ("signed", "signed_decimal"):
        return  # an unsigned or a float register has no such number
    ones = [0xFFFF] * (power.registers + 1)
    read = replace(power, at=0, exponent_at=None)
    assert -1 <= number_in(read, ones).value < 0
