"""The three places a record key can be in, as the configuration names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings import SettingsRefused, check, load_settings
from agent.station.key_source import record_key
from agent.trust.keys import KeyFile, KeyRefused
from agent.trust.pkcs11 import Pkcs11Key
from agent.trust.tpm import TpmKey

EXAMPLE = Path(__file__).parents[3] / "config" / "station.yaml"
AT = "  record: {file: record-key.pem}"


def write(folder: Path, record: str) -> Path:
    text = EXAMPLE.read_text("utf-8")
    assert AT in text
    path = folder / "station.yaml"
    path.write_text(text.replace(AT, f"  record: {record}"))
    return path


def test_a_token_is_named_by_module_label_and_key(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("1234\n")
    (tmp_path / "pin").chmod(0o600)
    path = write(
        tmp_path,
        "{pkcs11: {module: /usr/lib/p11.so, token: voltill, key: record, pin: {file: pin}}}",
    )
    at = load_settings(path).keys.record
    assert at.file is None and at.tpm is None and at.pkcs11 is not None
    assert at.pkcs11.module == Path("/usr/lib/p11.so") and at.pkcs11.slot is None
    source = record_key(load_settings(path))
    assert isinstance(source, Pkcs11Key) and source.name == "key record in token voltill"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ('{tpm: {handle: "0x81000010"}}', "TPM key handle 0x81000010 at device:/dev/tpmrm0"),
        ("{tpm: {handle: 0x81000010, tcti: 'swtpm:port=2321'}}", "0x81000010 at swtpm:port=2321"),
        ("{tpm: {file: /k.tpm}}", "TPM key /k.tpm at device:/dev/tpmrm0"),
    ],
)
def test_a_tpm_key_is_named_by_handle_or_file(tmp_path: Path, record: str, name: str) -> None:
    source = record_key(load_settings(write(tmp_path, record)))
    assert isinstance(source, TpmKey) and source.name.endswith(name)


def test_a_file_is_what_it_was(tmp_path: Path) -> None:
    source = record_key(load_settings(write(tmp_path, "{file: k.pem}")))
    assert isinstance(source, KeyFile) and source.path == tmp_path / "k.pem"


@pytest.mark.parametrize(
    ("record", "code", "where"),
    [
        ("{}", "CFG-013", "keys.record"),
        ('{file: k.pem, tpm: {handle: "0x81000010"}}', "CFG-013", "keys.record"),
        ("{pkcs11: {module: /m.so, key: k}}", "CFG-013", "keys.record.pkcs11"),
        ("{pkcs11: {module: /m.so, token: t}}", "CFG-011", "keys.record.pkcs11.key"),
        ('{pkcs11: {module: /m.so, token: t, key: k, pin: "1234"}}', "CFG-015", "keys.record.pkcs11.pin"),
        ("{pkcs11: {module: /m.so, slot: -1, key: k}}", "CFG-013", "keys.record.pkcs11.slot"),
        ("{tpm: {}}", "CFG-013", "keys.record.tpm"),
        ('{tpm: {handle: "0x81000010", file: k}}', "CFG-013", "keys.record.tpm"),
        ('{tpm: {handle: "0x01000010"}}', "CFG-013", "keys.record.tpm.handle"),
        ('{tpm: {handle: "0x8100001"}}', "CFG-013", "keys.record.tpm.handle"),
        ('{tpm: {file: k, tcti: "no way"}}', "CFG-013", "keys.record.tpm.tcti"),
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(tmp_path: Path, record: str, code: str, where: str) -> None:
    with pytest.raises(SettingsRefused) as caught:
        load_settings(write(tmp_path, record))
    found = [(p.code, p.path) for p in caught.value.problems]
    assert found == [(code, where)], caught.value
    assert "1234" not in str(caught.value)


def test_check_looks_at_the_files_but_not_at_the_device(tmp_path: Path) -> None:
    def problems(record: str) -> set[tuple[str, str]]:
        found = check(write(tmp_path, record))
        return {(p.code, p.path) for p in found if p.path.startswith("keys")}

    module = "keys.record.pkcs11.module"
    here = tmp_path / "m.so"
    pkcs11 = "{pkcs11: {module: m.so, token: t, key: k, pin: {file: pin}}}"
    assert problems(pkcs11) == {("CFG-026", module), ("CFG-026", "keys.record.pkcs11.pin.file")}
    here.write_bytes(b"")
    (tmp_path / "pin").write_text("1234")
    (tmp_path / "pin").chmod(0o644)
    assert problems(pkcs11) == {("CFG-027", "keys.record.pkcs11.pin.file")}
    (tmp_path / "pin").chmod(0o600)
    assert problems(pkcs11) == set()
    tpm = "{tpm: {file: k.tpm, pin: {file: pin}}}"
    assert problems(tpm) == {("CFG-026", "keys.record.tpm.file")}
    (tmp_path / "k.tpm").touch(0o600)
    assert problems(tpm) == set()
    assert problems('{tpm: {handle: "0x81000010"}}') == set()


def test_a_pin_that_cannot_be_had_is_told_as_the_secret_it_is(tmp_path: Path) -> None:
    source = record_key(
        load_settings(write(tmp_path, "{tpm: {file: k.tpm, pin: {credential: record-pin}}}"))
    )
    with pytest.raises(KeyRefused, match="CFG-029"):
        source.open()
