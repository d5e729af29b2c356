"""Records of real meters, and every branch of parsing and verifying on records made here."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from agent.trust import ocmf
from agent.trust.ocmf import OcmfRefused
from agent.trust.ocmf.record import MAX_TEXT_CHARS

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "ocmf.json"
NO_VECTORS = f"needs the captured vectors in {VECTORS.name}"
EXPECTED = {
    "valid": "valid",
    "bad_signature": "invalid",
    "undecodable_key_or_signature": "undecodable",
    "no_key": "no_key",
}
LACKING_CURVE = "ECDSA-secp192k1"

PAYLOAD = (
    '{"FV":"1.0","GI":"Gateway","GS":"G1","PG":"T7","MS":"M1","IS":true,"IL":"VERIFIED",'
    '"IF":["RFID_PLAIN"],"IT":"ISO14443","ID":"1F2D3A4F5506C7","RD":['
    '{"TM":"2026-07-24T13:22:04,000+0200 S","TX":"B","RV":2935.60,"RI":"1-b:1.8.0","RU":"kWh",'
    '"EF":"","ST":"G"},{"TM":"2026-07-24T13:42:04,000+0200 S","TX":"E","RV":2945.10}]}'
)
CURVES = {
    "ECDSA-secp192r1-SHA256": ec.SECP192R1,
    "ECDSA-secp256k1-SHA256": ec.SECP256K1,
    "ECDSA-secp256r1-SHA256": ec.SECP256R1,
    "ECDSA-secp384r1-SHA256": ec.SECP384R1,
    "ECDSA-brainpool256r1-SHA256": ec.BrainpoolP256R1,
    "ECDSA-brainpoolP256r1-SHA256": ec.BrainpoolP256R1,
    "ECDSA-brainpool384r1-SHA256": ec.BrainpoolP384R1,
    "ECDSA-brainpoolP384r1-SHA256": ec.BrainpoolP384R1,
}
KEY = ec.generate_private_key(ec.SECP256R1())
SHA256 = ec.ECDSA(hashes.SHA256())


def spki(key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sign(payload: str = PAYLOAD, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.sign(payload.encode(), SHA256)


def record(payload: str = PAYLOAD, **section: str) -> str:
    """A record signed with KEY; `section` is the signature section instead."""
    return f"OCMF|{payload}|{json.dumps(section or {'SD': sign(payload).hex()})}"


def vectors() -> list[object]:
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=NO_VECTORS), id="none")]
    listed = json.loads(VECTORS.read_text())["vectors"]
    return [pytest.param(vector, id=vector["id"]) for vector in listed]


# --- Real records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors())
def test_every_public_record_gets_its_verdict(vector: dict[str, str]) -> None:
    verdict = ocmf.verify(vector["ocmf"], vector["public_key"])
    if LACKING_CURVE in vector["ocmf"]:
        assert (verdict.signature, verdict.reason) == ("undecodable", "curve")
    else:
        assert verdict.signature == EXPECTED[vector["expect"]], verdict
    assert (verdict.reason == "") == verdict.valid
    assert verdict.record is not None
    assert verdict.record.signed.decode() == vector["ocmf"].split("|")[1]


@pytest.mark.parametrize("vector", vectors())
def test_every_public_record_with_one_byte_changed_is_not_valid(vector: dict[str, str]) -> None:
    header, payload, signature = vector["ocmf"].split("|")
    for place in range(0, len(payload), max(1, len(payload) // 25)):
        other = "1" if payload[place] != "1" else "2"
        text = "|".join((header, payload[:place] + other + payload[place + 1 :], signature))
        assert not ocmf.verify(text, vector["public_key"]).valid


# --- Algorithms, signatures, keys -----------------------------------------------------------------


@pytest.mark.parametrize("name", CURVES)
def test_every_algorithm_by_each_of_its_names(name: str) -> None:
    key = ec.generate_private_key(CURVES[name]())
    text = record(SA=name, SD=sign(key=key).hex().upper())
    verdict = ocmf.verify(text, spki(key).hex())
    assert (verdict.signature, verdict.algorithm) == ("valid", name)
    assert verdict.key is not None
    assert verdict.key.spki == spki(key)
    assert not ocmf.verify(text.replace("2945.10", "2945.11"), spki(key).hex()).valid


def test_without_sa_it_is_p256() -> None:
    verdict = ocmf.verify(record(), spki())
    assert (verdict.signature, verdict.algorithm) == ("valid", "ECDSA-secp256r1-SHA256")


@pytest.mark.parametrize(
    "name",
    ["ECDSA-secp256r1-SHA512", "ECDSA-secp521r1-SHA256", "RSA-SHA256", "secp256r1", "x" * 99],
)
def test_other_algorithms_are_told(name: str) -> None:
    verdict = ocmf.verify(record(SA=name, SD=sign().hex()), spki())
    assert (verdict.signature, verdict.reason) == ("undecodable", "algorithm")


def test_the_lacking_curve_is_told_with_and_without_its_key() -> None:
    text = record(SA="ECDSA-secp192k1-SHA256", SD=sign().hex())
    for key in (None, spki().hex(), "3046301006072A8648CE3D020106052B8104001F0332000400"):
        verdict = ocmf.verify(text, key)
        assert (verdict.signature, verdict.reason) == ("undecodable", "curve")


def test_the_signature_in_base64_and_with_its_mime_type() -> None:
    text = record(
        SD=base64.b64encode(sign()).decode(),
        SE="base64",
        SM="application/x-der",
        SA="ECDSA-secp256r1-SHA256",
    )
    assert ocmf.verify(text, spki()).valid


def padded(zeros: int) -> bytes:
    """A signature whose numbers have more zeros before them than DER allows."""
    parts = b""
    for value in decode_dss_signature(sign()):
        body = bytes(zeros) + value.to_bytes(33)
        parts += bytes([2, len(body)]) + body
    length = bytes([len(parts)]) if len(parts) < 128 else bytes([0x81, len(parts)])
    return b"\x30" + length + parts


@pytest.mark.parametrize("zeros", [0, 1, 7, 60])
def test_zeros_before_the_numbers_are_survived(zeros: int) -> None:
    assert ocmf.verify(record(SD=padded(zeros).hex()), spki()).valid


@pytest.mark.parametrize(
    "section",
    [
        {"SA": "ECDSA-secp256r1-SHA256"},
        {"SD": ""},
        {"SD": "zz"},
        {"SD": sign().hex()[:-1]},
        {"SD": sign().hex()[:-2]},
        {"SD": sign().hex() + "00"},
        {"SD": sign().hex()[4:]},
        {"SD": "30800201010201010000"},
        {"SD": "3009020101020101020101"},
        {"SD": "3006020101020101", "SE": "base58"},
        {"SD": "3006020101020101", "SM": "application/x-raw"},
        {"SD": "3004020002 00".replace(" ", "")},
        {"SD": "30060201010301 01".replace(" ", "")},
        {"SD": "30"},
        {"SD": "3081"},
        {"SD": "00" * 600},
        {"SD": "ab" * 64},
        {"SD": "====", "SE": "base64"},
    ],
    ids=" ".join,  # the values differ from run to run
)
def test_signatures_that_cannot_be_read(section: dict[str, str]) -> None:
    verdict = ocmf.verify(record(**section), spki())
    assert (verdict.signature, verdict.reason) == ("undecodable", "signature")


@pytest.mark.parametrize("sd", ["3006020101020101", "3006020100020100", "3006020180020101"])
def test_signatures_that_can_be_read_and_are_none(sd: str) -> None:
    verdict = ocmf.verify(record(SD=sd), spki())
    assert (verdict.signature, verdict.reason) == ("invalid", "mismatch")


def compressed(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The SubjectPublicKeyInfo of a P-256 key with its point compressed."""
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point


KEY_FORMS: dict[str, Callable[[], str | bytes]] = {
    "hex": lambda: spki().hex(),
    "HEX with blanks": lambda: " " + spki().hex(" ").upper() + "\n",
    "base64": lambda: base64.b64encode(spki()).decode(),
    "PEM": lambda: (
        KEY.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    ),
    "PEM as bytes": lambda: KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    "DER": spki,
    "hex as bytes": lambda: spki().hex().encode(),
    "compressed": lambda: compressed(KEY).hex(),
}


@pytest.mark.parametrize("form", KEY_FORMS)
def test_every_form_of_a_key(form: str) -> None:
    verdict = ocmf.verify(record(), KEY_FORMS[form]())
    assert verdict.valid
    assert verdict.key is not None and verdict.key.spki == spki()
    assert not verdict.embedded


def private(form: serialization.PrivateFormat, encoding: serialization.Encoding) -> bytes:
    return KEY.private_bytes(encoding, form, serialization.NoEncryption())


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("00", "key"),
        ("not a key!", "key"),
        (b"\x30\x00\x01", "key"),
        ("ab" * 64, "key"),  # x and y alone
        ("00" * 5000, "key"),
        (spki().hex() + "00", "key"),
        (spki()[:-1], "key"),
        (private(serialization.PrivateFormat.PKCS8, serialization.Encoding.DER).hex(), "key"),
        (private(serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM), "key"),
        ("-----BEGIN PUBLIC KEY-----", "key"),
        (spki(ec.generate_private_key(ec.SECP521R1())), "curve"),
    ],
    ids=lambda value: value if str(value).isalpha() else type(value).__name__,
)
def test_keys_that_cannot_be_used(key: str | bytes, reason: str) -> None:
    verdict = ocmf.verify(record(), key)
    assert (verdict.signature, verdict.reason) == ("undecodable", reason)


def test_a_private_key_is_told_from_rubbish() -> None:
    key = private(serialization.PrivateFormat.PKCS8, serialization.Encoding.DER)
    assert "private key" in ocmf.verify(record(), key).text


def test_a_key_that_is_not_elliptic_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024).public_key()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert ocmf.verify(record(), der).reason == "key"


def test_another_key_and_a_key_on_another_curve_do_not_fit() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert ocmf.verify(record(), spki(other)).reason == "mismatch"
    elsewhere = ec.generate_private_key(ec.SECP256K1())
    verdict = ocmf.verify(record(), spki(elsewhere))
    assert (verdict.signature, verdict.reason) == ("invalid", "key_curve")


@pytest.mark.parametrize("key", [None, "", b""])
def test_without_a_key_nothing_is_claimed(key: str | bytes | None) -> None:
    verdict = ocmf.verify(record(), key)
    assert (verdict.signature, verdict.reason) == ("no_key", "no_key")


def test_a_key_in_a_fourth_section_is_used_but_told() -> None:
    text = f"{record()}|{spki().hex()}"
    assert ocmf.verify(text, None).embedded
    assert ocmf.verify(text, None).valid
    given_key = ec.generate_private_key(ec.SECP256R1())
    verdict = ocmf.verify(text, spki(given_key))
    assert (verdict.reason, verdict.embedded) == ("mismatch", False)


# --- The text -------------------------------------------------------------------------------------


def test_the_signed_bytes_are_those_that_came() -> None:
    payload = '{ "RD" : [ ] ,\n\t"ID":"Stra\\u00dfe €",  "PG":"T1" }  '
    parsed = ocmf.parse(f'\ufeffOCMF|{payload}|{{"SD":"00"}}\r\n'.encode())
    assert parsed.signed == payload.encode()
    assert ocmf.verify(record(payload), spki()).valid


def test_the_whole_text_in_hex() -> None:
    for text in (record().encode().hex(), record().encode().hex().upper(), f" {record()}\n"):
        assert ocmf.verify(text, spki()).valid


def test_readings_take_over_what_they_leave_out() -> None:
    begin, end = ocmf.parse(record()).readings
    assert (end.ri, end.ru, end.st, end.ef) == (begin.ri, "kWh", "G", "")
    assert begin.wh is not None and end.wh is not None
    assert (begin.wh, end.wh - begin.wh) == (2935600, 9500)
    assert str(begin.value) == "2935.60"
    assert begin.begins and end.ends


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "format"),
        ("OCMF", "format"),
        ("OCMX|{}|{}", "format"),
        ('OCMF|{"RD":[]}', "format"),
        ('OCMF|{"RD":[],"ID":"a|b"}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[]}|{"SD":"00"}|30|30', "format"),
        ('OCMF|[]|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[]}|[]', "format"),
        ('OCMF|{"RD":[]|{"SD":"00"}', "format"),
        ('OCMF|{}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":{}}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[1]}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[{"RV":NaN}]}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[{"RV":1e99999999}]}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[{"RV":' + "1" * 50 + '}]}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[{"RV":0.' + "1" * 50 + '}]}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[],"ID":"\\ud800"}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[],"ID":"\ud800"}|{"SD":"00"}', "format"),
        ("OCMF|" + "[" * 30000 + '|{"SD":"00"}', "format"),
        ('OCMF|{"RD":' + "[" * 30 + "]" * 30 + '}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[],"XA":' + "[" * 21 + "]" * 21 + '}|{"SD":"00"}', "format"),
        ('OCMF|{"RD":[{"RV":1,"RV":2}]}|{"SD":"00"}', "duplicate_key"),
        ('OCMF|{"RD":[]}|{"SD":"00","SD":"01"}', "duplicate_key"),
        ("OCMF|" + " " * MAX_TEXT_CHARS + '{"RD":[]}|{}', "size"),
        (b"OCMF|" + b" " * 3 * MAX_TEXT_CHARS, "size"),
        (b'OCMF|{"RD":[]}|{"SD":"\xff"}', "format"),
        (b"4f434d467cff", "format"),
        ('OCMF|{"RD":[' + ",".join(["{}"] * 1001) + "]}|{}", "size"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_texts_that_are_no_record(text: str | bytes, reason: str) -> None:
    with pytest.raises(OcmfRefused) as refused:
        ocmf.parse(text)
    assert refused.value.reason == reason
    verdict = ocmf.verify(text, spki())
    assert (verdict.signature, verdict.reason, verdict.record) == ("undecodable", reason, None)


def test_a_record_with_two_equal_keys_is_refused_even_with_a_good_signature() -> None:
    payload = PAYLOAD.replace('"RV":2945.10', '"RV":2945.10,"RV":9945.10')
    assert ocmf.verify(record(payload), spki()).reason == "duplicate_key"


def refuses_only(text: str | bytes) -> None:
    with contextlib.suppress(OcmfRefused):
        ocmf.parse(text)
    ocmf.verify(text, spki())
    ocmf.verify(record(), text)


@given(st.one_of(st.binary(), st.text()))
def test_no_bytes_raise_anything_else(data: str | bytes) -> None:
    refuses_only(data)


WHOLE = record().encode()


@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 2), st.binary(max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_no_damage_to_a_record_raises_anything_else(cuts: list[tuple[int, int, bytes]]) -> None:
    """Bytes taken out and put in at random places: refused, or judged, and valid only when nothing of
    payload and signature has changed."""
    data = WHOLE
    for place, length, new in cuts:
        data = data[:place] + new + data[place + length :]
    refuses_only(data)
    verdict = ocmf.verify(data, spki())
    if verdict.valid:
        assert verdict.record is not None
        assert verdict.record.signed == PAYLOAD.encode()
