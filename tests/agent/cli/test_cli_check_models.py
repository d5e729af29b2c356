"""`voltill check` and a technician's own meter model files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.past_station import Answer
from support.station_world import World

from drivers.meter import catalogue

Voltill = Callable[..., Answer]
EM340 = "carlogavazzi_em340_family"
METER = "{model: eastron_sdm630,"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that is right, and an empty folder for models of one's own."""
    (tmp_path / "meters").mkdir()
    monkeypatch.setattr(catalogue, "OWN", tmp_path / "meters")
    return World(tmp_path / "station", monkeypatch).folder / "station.yaml"


def own_model(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    text = (catalogue.SHIPPED / f"{EM340}.yaml").read_text().replace(f"id: {EM340}", f"id: {name}")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_check_reads_the_technicians_own_model_files(voltill: Voltill, config: Path) -> None:
    own_model(catalogue.OWN, "acme_e3")
    before = voltill("check", config)
    assert before.code == 0, before.err
    bad = own_model(catalogue.OWN, "acme_e4", ("phases: 3", "phases: 4"), ("unit: V", "unit: A"))
    told = voltill("check", config, "--json")
    shown = voltill("check", config)
    assert (told.code, shown.code) == (78, 78)
    mistakes = [p for p in told.json["problems"] if p["id"] == "MTR-009"]
    lines = bad.read_text().splitlines()
    assert all(p["file"] == str(bad) and p["severity"] == "error" for p in mistakes)
    found = {lines[p["line"] - 1].split(":")[0].strip(): p["seen"] for p in mistakes}
    assert set(found) == {"phases", "voltage_l1"}
    assert found["phases"] == "phases: '4': expected a whole number from 1 to 3"
    line = next(n for n, text in enumerate(lines, 1) if text.startswith("phases"))
    assert f"{bad}:{line}:1: error[MTR-009]: phases: '4'" in shown.err


def test_check_finds_model_files_also_beside_a_wrong_configuration(
    voltill: Voltill, config: Path
) -> None:
    bad = own_model(catalogue.OWN, "acme_e4", ("phases: 3", "phases: 4"))
    config.write_text("station: [\n")
    answer = voltill("check", config)
    assert answer.code == 78
    assert "CFG-004" in answer.err and f"{bad}:" in answer.err


@pytest.mark.parametrize(
    ("folder", "model", "id_", "why"),
    [
        ("{}/more", "acme_e3", "", ""),
        ("{}/more", "acme_e5", "MTR-008", 'no file has the meter model "acme_e5"'),
        ("{}/more", "acme_bad", "MTR-009", "phases: '4'"),
        ("{}/nothing", "acme_e3", "MTR-008", "is no folder"),
        ("more", "acme_e3", "MTR-008", "is no absolute path"),
    ],
)
def test_check_looks_into_models_dir(
    voltill: Voltill, config: Path, folder: str, model: str, id_: str, why: str
) -> None:
    more = config.parent / "more"
    more.mkdir()
    own_model(more, "acme_e3")
    if model == "acme_bad":
        own_model(more, "acme_bad", ("phases: 3", "phases: 4"))
    options = f"{{models_dir: {folder.format(config.parent)}}},"
    text = config.read_text()
    assert METER in text
    config.write_text(text.replace(METER, f"{{model: {model}, options: {options}", 1))
    answer = voltill("check", config)
    assert answer.code == (78 if id_ else 0), answer.err
    if id_:
        assert id_ in answer.err and why in answer.err
        assert "1 error in" in answer.err
