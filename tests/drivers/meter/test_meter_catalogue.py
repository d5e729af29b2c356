"""Model files: the shipped one means what it should, and every mistake is told with file, line, reason."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from drivers.meter import catalogue
from drivers.meter.catalogue import ModelError, known_models, load_file, load_model
from drivers.meter.values import WordOrder
from drivers.yaml_nodes import MAX_FILE_BYTES

SHIPPED = (catalogue.SHIPPED / "eastron_sdm630.yaml").read_text()


@pytest.mark.parametrize("name", known_models())
def test_every_shipped_model_loads(name: str) -> None:
    model = load_model(name)
    assert model.id == name
    assert model.energy_import.factor > 0


def test_the_sdm630_reads_energy_and_power_in_one_request() -> None:
    model = load_model("eastron_sdm630")
    billing = model.blocks["billing"]
    assert (billing.function, billing.address, billing.count) == (4, 0x34, 22)
    assert billing.address + model.power.at == 0x34
    assert billing.address + model.energy_import.at == 0x48
    assert model.energy_import.factor == 1000  # kWh to Wh
    assert model.power.factor == 1
    assert model.word_order is WordOrder.BIG
    assert model.serial_number is not None
    assert model.blocks["serial"].address + model.serial_number.at == 0xFC00
    assert model.timing.min_gap_ms == 100


def write(folder: Path, text: str, name: str = "eastron_sdm630") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


# (what to replace, with what, what the message must say); the line is found by the replacement's text.
MISTAKES = [
    ("format: voltill-meter-1", "format: voltill-meter-2", "expected one of voltill-meter-1"),
    ("id: eastron_sdm630", "id: eastron_sdm72", "expected the file's name, 'eastron_sdm630'"),
    ("phases: 3", "phases: 4", "expected a whole number from 1 to 3"),
    ("phases: 3", 'phases: "3"', "expected a whole number"),
    ("baud: 9600", "baud: 9600.5", "expected a whole number"),
    ("framing: 8N1", "framing: 7N1", "expected one of 8N1, 8E1, 8O1, 8N2"),
    ("unit: 1,", "unit: 248,", "from 1 to 247"),
    ("turnaround_ms: 300", "turnaround_ms: 1300", "turnaround_ms <= longest_reply_ms"),
    ("turnaround_ms: 300", "turn_around_ms: 300", "did you mean turnaround_ms?"),
    ("word_order: big", "word_order: bigg", "did you mean big?"),
    ("max_registers: 80", "max_registers: 20", "from 1 to 20"),
    ("billing: {function: 4", "billing: {function: 6", "from 3 to 4"),
    ("count: 22}", "count: 20}", "outside block billing (0x0034 to 0x0047)"),
    ("address: 0x0048, type", "address: 0x0049, type", "outside block billing"),
    ('scale: "1", unit: kWh', "scale: 1, unit: kWh", "put it in quotes"),
    ('scale: "1", unit: kWh', 'scale: "1e", unit: kWh', "decimal number as text"),
    ('scale: "1", unit: kWh', 'scale: "0", unit: kWh', "more than 0"),
    ("unit: kWh", "unit: kW", "expected one of Wh, kWh, MWh"),
    ('min: "0"', 'min: "100000000"', "less than max"),
    ('[nan, all_ones],\n     min: "0"', '[nan, all_twos],\n     min: "0"', "all_twos"),
    ("type: u32", "type: f32", "expected one of u16, u32, u64, ascii"),
    ("type: u32", "type: ascii", "registers: missing"),
    ("- [power, energy_import]", "- [power, energy]", "'energy' is none of the values"),
    ("- [power, energy_import]", "- [power, serial_number]", "must be in one block"),
    ("power: high", "power: sure", "expected one of high, medium, low"),
    ("vendor: Eastron", "vendor:", "expected text"),
    ("vendor: Eastron", "vendor: NO", "put it in quotes"),
    ("vendor: Eastron", "vendor: [Eastron]", "expected text"),
    ("vendor: Eastron\n", "vendor: Eastron\nvendour: Eastron\n", "did you mean vendor?"),
    ("vendor: Eastron\n", "vendor: Eastron\nvendor: Eastron\n", "written twice"),
    ("models: [", "models: &a [", "anchors, aliases and tags are not allowed"),
    ("phases: 3", "phases: !!int 3", "anchors, aliases and tags are not allowed"),
    ("phases: 3", "phases: [3", "not YAML"),
    ("gotchas:\n", "gotchas: none\nold:\n", "expected a list of texts"),
]

# A contradiction between two places is told at the one that has to give way.
TOLD_ELSEWHERE = {
    "count: 20}": "energy_import:",
    "max_registers: 20": "billing: {",
    "phases: [3": "signing: none",
}


@pytest.mark.parametrize(("part", "instead", "why"), MISTAKES)
def test_a_mistake_is_told_with_its_place(
    tmp_path: Path, part: str, instead: str, why: str
) -> None:
    assert SHIPPED.count(part) >= 1
    text = SHIPPED.replace(part, instead, 1)
    path = write(tmp_path, text)
    with pytest.raises(ModelError) as caught:
        load_file(path)
    assert caught.value.code == "MTR-009"
    assert str(path) in str(caught.value)
    matching = [problem for problem in caught.value.problems if why in problem.text]
    assert matching, str(caught.value)
    place = SHIPPED[: SHIPPED.index(part)].count("\n") + 1
    if instead in TOLD_ELSEWHERE:
        place = line_of(text, TOLD_ELSEWHERE[instead])
    # A value may stand on two lines, and an insertion moves the rest down by one.
    assert any(place <= problem.line <= place + 2 for problem in matching), str(caught.value)


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    text = SHIPPED.replace("word_order: big\n", "").replace("phases: 3\n", "")
    with pytest.raises(ModelError) as caught:
        load_file(write(tmp_path, text))
    assert {problem.text for problem in caught.value.problems} == {
        "word_order: missing",
        "phases: missing",
    }


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "expected a mapping"),
        (b"- 1\n", "expected a mapping"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 30_000, "nested too deeply"),
        (b"a: " + b"x" * MAX_FILE_BYTES, "larger than"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
        (b"a: \x07\n", "not YAML"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=why):
        load_file(path)


def test_unknown_names_get_a_close_match_and_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean eastron_sdm630") as caught:
        load_model("eastron_sdm360")
    assert caught.value.code == "MTR-008"
    write(tmp_path, SHIPPED, "secret")
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelError, match="not known"):
        load_model("../secret", tmp_path / "models")
    with pytest.raises(ModelError, match="not a folder"):
        load_model("eastron_sdm630", tmp_path / "nowhere")


def test_the_technicians_own_file_wins(tmp_path: Path) -> None:
    write(tmp_path, SHIPPED.replace('scale: "1", unit: kWh', 'scale: "0.01", unit: kWh'))
    assert load_model("eastron_sdm630", tmp_path).energy_import.factor == Fraction(10)
    write(tmp_path, SHIPPED.replace("id: eastron_sdm630", "id: mine"), "mine")
    assert load_model("mine", tmp_path).id == "mine"
    assert "mine" in known_models(tmp_path)
    assert "mine" not in known_models()
