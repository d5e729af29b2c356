"""voltill keys: the same two commands for a file, a token and a TPM."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.key_devices import PIN, TOKEN, SoftToken, SoftTpm
from support.past_station import Answer

from agent.cli import status
from agent.trust.keys import PublicKey

Voltill = Callable[..., Answer]
EXAMPLE = Path(__file__).parents[3] / "config" / "station.yaml"


class Stand:
    def __init__(self, folder: Path, record: str, token: SoftToken | None = None) -> None:
        self.folder, self.token = folder, token
        text = EXAMPLE.read_text("utf-8")
        self.config = folder / "station.yaml"
        self.config.write_text(text.replace("{file: record-key.pem}", record))
        self.pin(PIN)

    def pin(self, text: str) -> None:
        path = self.folder / "pin"
        path.write_text(text + "\n")
        path.chmod(0o600)


@pytest.fixture(params=["file", "pkcs11", "tpm-file", "tpm-handle"])
def stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Stand]:
    if request.param == "file":
        yield Stand(tmp_path, "{file: record-key.pem}")
    elif request.param == "pkcs11":
        token = SoftToken(tmp_path, monkeypatch)
        at = f"{{module: {token.module}, token: {TOKEN}, key: record, pin: {{file: pin}}}}"
        yield Stand(tmp_path, f"{{pkcs11: {at}}}", token)
        token.end()
    else:
        tpm = SoftTpm(tmp_path / "tpm")
        key = "file: record-key.tpm" if request.param == "tpm-file" else 'handle: "0x81000010"'
        yield Stand(tmp_path, f'{{tpm: {{tcti: "{tpm.tcti}", {key}, pin: {{file: pin}}}}}}')
        tpm.stop()


def test_a_key_is_made_where_the_configuration_says_and_shown(
    voltill: Voltill, stand: Stand
) -> None:
    missing = voltill("keys", "show", "--config", stand.config)
    assert missing.code == 2 and missing.err.startswith("KEY-0")

    made = voltill("keys", "create", "--config", stand.config, "--json")
    assert made.code == 0, made.err
    shown = voltill("keys", "show", "--config", stand.config, "--json")
    assert shown.code == 0 and shown.json == made.json
    assert set(shown.json) == {"kid", "public_key", "spki", "kind", "name"}
    spki = bytes.fromhex(shown.json["spki"])
    assert hashlib.sha256(spki).hexdigest() == shown.json["kid"]
    assert PublicKey.parse(shown.json["public_key"].encode()).spki == spki

    signs = voltill("keys", "show", "--config", stand.config, "--pin-again")
    assert signs.code == 0 and "signs" in signs.out and shown.json["kid"] in signs.out
    assert PIN not in signs.out + made.out + shown.out

    again = voltill("keys", "create", "--config", stand.config)
    assert again.code == 2 and again.err.startswith("KEY-005")
    assert voltill("keys", "show", "--config", stand.config, "--json").json == shown.json


@pytest.mark.parametrize("stand", ["pkcs11"], indirect=True)
def test_a_person_gives_the_pin_that_the_service_holds_back(voltill: Voltill, stand: Stand) -> None:
    voltill("keys", "create", "--config", stand.config)
    assert stand.token is not None
    stand.pin("000000")
    refused = voltill("keys", "show", "--config", stand.config, "--pin-again")
    assert refused.code == 2 and refused.err.startswith("KEY-023") and "000000" not in refused.err
    given = len(stand.token.logins)
    assert voltill("keys", "show", "--config", stand.config).code == 0, "needs no PIN"
    assert len(stand.token.logins) == given
    stand.pin(PIN)
    assert voltill("keys", "show", "--config", stand.config, "--pin-again").code == 0


def test_the_status_names_a_key_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    status._print_key({"record_key": {"trouble": "KEY-022: the token is not there; plug it in"}})
    assert "record key: KEY-022: the token is not there" in capsys.readouterr().out
    for nothing in ({}, {"record_key": {"trouble": ""}}):  # stopped, and well
        status._print_key(nothing)
    assert capsys.readouterr().out == ""


def test_without_a_file_and_without_a_configuration(voltill: Voltill, tmp_path: Path) -> None:
    gone = voltill("keys", "show", "--config", tmp_path / "nothing.yaml")
    assert gone.code == 78
    assert voltill("keys", "create", "--config", tmp_path / "nothing.yaml").code == 78
