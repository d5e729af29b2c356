"""From the session to a verdict on its signed readings, by the command line alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.past_station import Answer, Past, running

Voltill = Callable[..., Answer]


def test_what_a_session_gives_out_verifies(
    voltill: Voltill, past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = voltill("sessions", "show", past.paid, "--state", past.state, "--json").json
    (value,) = shown["signed_values"]
    assert value["signed_by"] == "station" and shown["signed_values_missing"] is None
    plain = voltill("sessions", "ocmf", past.paid, "--state", past.state)
    assert plain.out == value["text"] + "\n"
    file = tmp_path / "readings.ocmf"
    file.write_text(plain.out)
    key = past.state / "record-keys.pem"
    verdict = voltill("ocmf", "verify", file, "--key", key, "--json")
    assert verdict.code == 0 and verdict.json["signature"] == "valid"
    assert verdict.json["eichrecht"] == []
    assert verdict.json["charges"][0]["energy_wh"] == str(shown["energy_wh"])
    assert verdict.json["payload"]["PG"] == "T1"
    with running(past, monkeypatch):
        assert voltill("sessions", "ocmf", past.paid, "--state", past.state).out == plain.out


def test_the_file_for_the_transparency_software_verifies_by_itself(
    voltill: Voltill, past: Past, tmp_path: Path
) -> None:
    made = voltill("sessions", "ocmf", past.paid, "--state", past.state, "--xml")
    file = tmp_path / "readings.xml"
    file.write_text(made.out)
    verdict = voltill("ocmf", "verify", file)
    assert verdict.code == 0 and "came with the record" in verdict.out
    file.write_text(made.out.replace('"RV":', '"RV":1'))
    assert voltill("ocmf", "verify", file).code == 2


def test_each_session_is_a_page_and_says_who_paid(voltill: Voltill, past: Past) -> None:
    rows = []
    for session in (past.paid, past.open):
        shown = voltill("sessions", "show", session, "--state", past.state, "--json").json
        payload = json.loads(shown["signed_values"][0]["text"].split("|")[1])
        hold = shown["hold"]
        assert payload["ID"] == f"{hold['terminal_id']}-{hold['receipt']}-{hold['trace']}"
        rows.append((payload["PG"], payload["IT"], payload["TT"]))
    prices = "0.49 EUR/kWh, 0.10 EUR/min idle, 0.35 EUR/session, incl. 19 % VAT"
    assert rows == [("T1", "CARD_TXN_NR", prices), ("T2", "CARD_TXN_NR", prices)]


def test_a_session_without_energy_has_none(voltill: Voltill, past: Past) -> None:
    answer = voltill("sessions", "ocmf", past.declined, "--state", past.state)
    assert answer.code == 2 and "STA-061" in answer.err
    assert "STA-012" in voltill("sessions", "ocmf", "20990101-000000", "--state", past.state).err


def test_a_person_sees_where_they_are(voltill: Voltill, past: Past) -> None:
    shown = voltill("sessions", "show", past.paid, "--state", past.state).out
    assert f"voltill sessions ocmf {past.paid}" in shown
