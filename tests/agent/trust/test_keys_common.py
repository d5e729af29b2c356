"""What all kinds of record keys share: the forms of a signature, the noted public keys, missing libraries."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from support.tree import ROOT

from agent.trust import known_keys
from agent.trust.keys import (
    KeyFile,
    KeyRefused,
    RecordKey,
    der_signature,
    raw_signature,
    write_private,
)
from agent.trust.pkcs11 import Pkcs11Key, checked
from agent.trust.tpm import TpmKey, TpmSigner

# Below 2^255 and above, with leading zeros: where DER numbers change their length.
NUMBERS = st.one_of(st.integers(1, 2**256 - 1), st.integers(1, 300), st.just(2**255))


@given(NUMBERS, NUMBERS)
def test_raw_and_der_say_the_same(r: int, s: int) -> None:
    raw = r.to_bytes(32) + s.to_bytes(32)
    der = der_signature(raw)
    assert der == encode_dss_signature(r, s) and raw_signature(der) == raw


def test_what_is_no_signature_of_this_curve_is_refused() -> None:
    for raw in (b"", b"1" * 63, b"1" * 65):
        with pytest.raises(ValueError, match="64 bytes"):
            der_signature(raw)
    with pytest.raises(ValueError, match="256 bits"):
        raw_signature(encode_dss_signature(2**256, 1))
    with pytest.raises(ValueError):
        raw_signature(b"\x30\x00")


def test_a_foreign_signature_is_not_handed_out() -> None:
    mine, other = RecordKey.generate(), RecordKey.generate()
    good = mine.sign(b"x")
    assert checked(mine.public, good, b"x", "it") == good
    for public, data in ((other.public, b"x"), (mine.public, b"y")):
        with pytest.raises(KeyRefused, match="KEY-032"):
            checked(public, good, data, "it")


class ShortTpm:
    """A context of the stack whose TPM leaves leading zeros out."""

    def __init__(self, key: RecordKey, data: bytes) -> None:
        self._key, self._data = key, data

    def sign(self, handle: object, digest: bytes, scheme: object) -> SimpleNamespace:
        raw = self._key.sign(self._data)
        assert digest == hashlib.sha256(self._data).digest()
        r, s = (number.lstrip(b"\0") for number in (raw[:32], raw[32:]))
        ecdsa = SimpleNamespace(signatureR=r, signatureS=s)
        return SimpleNamespace(signature=SimpleNamespace(ecdsa=ecdsa))


@pytest.mark.parametrize("place", [0, 32])
def test_a_tpm_may_leave_leading_zeros_out(place: int) -> None:
    key = RecordKey.generate()
    data = next(d for n in range(10_000) if key.sign(d := str(n).encode())[place] == 0)
    stack = MagicMock(TSS2_Exception=RuntimeError)
    source = TpmKey("device:/dev/tpmrm0", handle=1, file=None, pin=None)
    signer = TpmSigner(stack, ShortTpm(key, data), 1, key.public, source)
    assert signer.sign(data) == key.sign(data)


# --- a key file ---------------------------------------------------------------------------------------


def test_a_key_file_is_a_place_like_the_others(tmp_path: Path) -> None:
    source = KeyFile(tmp_path / "key.pem")
    public = source.create()
    with pytest.raises(KeyRefused, match="KEY-005"):
        source.create()
    signer = source.open()
    assert signer.public == public == source.public()
    assert signer.sign(b"x") == source.open().sign(b"x"), "RFC 6979: the same bytes each time"
    signer.check()
    signer.close()
    assert len(signer.sign(b"x")) == 64
    assert (source.kind, source.leaves, source.name) == ("file", False, str(tmp_path / "key.pem"))


def test_a_private_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"one")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyRefused, match="KEY-005"):
        write_private(path, b"two")
    assert path.read_bytes() == b"one"
    with pytest.raises(KeyRefused, match="KEY-001"):
        write_private(tmp_path / "no" / "folder", b"x")


# --- the book of public keys --------------------------------------------------------------------------


def test_the_book_keeps_every_key_in_its_order(tmp_path: Path) -> None:
    book = tmp_path / known_keys.NAME
    assert known_keys.load(book) == () and known_keys.newest(book) is None
    keys = [RecordKey.generate().public for _ in range(3)]
    for n, key in enumerate(keys, 1):
        known_keys.add(book, key)
        assert known_keys.load(book) == tuple(keys[:n]) and known_keys.newest(book) == key
    assert "PRIVATE" not in book.read_text()


def test_a_damaged_book_is_begun_anew(tmp_path: Path) -> None:
    book = tmp_path / known_keys.NAME
    book.write_text("-----BEGIN PUBLIC KEY-----\nrubbish")
    with pytest.raises(KeyRefused, match="KEY-003"):
        known_keys.load(book)
    assert known_keys.newest(book) is None
    key = RecordKey.generate().public
    known_keys.add(book, key)
    assert known_keys.load(book) == (key,)


# --- the extras ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [
        ("pkcs11", Pkcs11Key(Path("/m.so"), "k", token="t", slot=None, pin=None), "pkcs11"),
        ("tpm2_pytss", TpmKey("device:/dev/tpmrm0", handle=1, file=None, pin=None), "tpm"),
    ],
)
def test_a_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, source: Pkcs11Key | TpmKey, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for work in (source.open, source.public, source.create):
        with pytest.raises(KeyRefused) as caught:
            work()
        assert caught.value.code == "KEY-020" and f"voltill[{extra}]" in caught.value.remedy


FILE_KIND = """
import sys
from pathlib import Path
from agent.settings.load import load_settings
from agent.station import build, signing, station
from agent.station.key_source import record_key
settings = load_settings(Path("config/station.yaml"))
assert record_key(settings).kind == "file"
dear = {"pkcs11", "tpm2_pytss", "asn1crypto", "agent.trust.pkcs11", "agent.trust.tpm"}
print(sorted(dear & set(sys.modules)))
"""


def test_a_station_with_a_key_file_loads_none_of_it() -> None:
    """Memory and start-up time are for who has such a device."""
    done = subprocess.run(
        [sys.executable, "-c", FILE_KIND], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n", done.stderr
