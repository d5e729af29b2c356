"""Signing and strict reading, judged by an independent library."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from joserfc import jws as judge
from joserfc.jwk import ECKey

from agent.trust import jws, plain
from agent.trust.jws import ACK_TYP, RECORD_TYP, JwsRefused
from agent.trust.keys import KeyRefused, KeySet, PublicKey, RecordKey

KEY = RecordKey.generate()
KEYS = KeySet([KEY.public])
PAYLOAD = {"seq": 1, "cost": {"exact": "6.1234"}, "name": 'Straße "1"', "ok": True, "none": None}


def b64(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: str, payload: str = '{"a":1}', key: RecordKey = KEY) -> str:
    """A JWS with any header, properly signed."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(key.sign(signed.encode()))}"


def header(**change: object) -> str:
    return json.dumps({"alg": "ES256", "kid": KEY.kid, "typ": RECORD_TYP, **change})


def test_joserfc_accepts_what_we_sign() -> None:
    text = jws.sign(PAYLOAD, KEY, RECORD_TYP)
    key = ECKey.import_key(KEY.public.pem())
    judged = judge.deserialize_compact(text, key, algorithms=["ES256"])
    assert json.loads(judged.payload) == PAYLOAD
    assert judged.headers() == {
        "alg": "ES256",
        "kid": hashlib.sha256(KEY.public.spki).hexdigest(),
        "typ": RECORD_TYP,
    }


def test_we_accept_what_joserfc_signs() -> None:
    pem = KEY._key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    protected = {"alg": "ES256", "kid": KEY.kid, "typ": ACK_TYP}
    text = judge.serialize_compact(protected, b'{"through_seq":3}', ECKey.import_key(pem))
    assert jws.verify(text, KEYS, ACK_TYP) == {"through_seq": 3}


def test_the_same_payload_gives_the_same_bytes() -> None:
    assert len({jws.sign(PAYLOAD, KEY, RECORD_TYP) for _ in range(5)}) == 1


def test_every_single_changed_character_is_refused() -> None:
    text = jws.sign(PAYLOAD, KEY, RECORD_TYP)
    for place in range(len(text)):
        other = "B" if text[place] != "B" else "C"
        with pytest.raises(JwsRefused):
            jws.verify(text[:place] + other + text[place + 1 :], KEYS, RECORD_TYP)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not_jws"),
        ("a.b", "not_jws"),
        (forge(header()) + ".x", "not_jws"),
        (forge(header()) + "=", "not_jws"),
        (forge(header()) + "\n", "not_jws"),
        (forge(header()).replace(".", ". ", 1), "not_jws"),
        ("x" * 70_000, "not_jws"),
        (forge(header(alg="none")), "bad_header"),
        (forge(header(alg="HS256")), "bad_header"),
        (forge(header(typ=ACK_TYP)), "bad_header"),
        (forge(header(kid=KEY.kid.upper())), "bad_header"),
        (forge(header(crit=["b64"])), "bad_header"),
        (forge('{"alg":"ES256","kid":"x"}'), "bad_header"),
        (forge(header()[:-1] + ',"alg":"ES256"}'), "bad_header"),
        (forge("[]"), "bad_header"),
        (forge(header(), key=RecordKey.generate()), "bad_signature"),
        (forge(header(kid=RecordKey.generate().kid)), "unknown_key"),
        (forge(header(), '{"a":1,"a":2}'), "bad_payload"),
        (forge(header(), '{"a":1.5}'), "bad_payload"),
        (forge(header(), '{"a":1e3}'), "bad_payload"),
        (forge(header(), '{"a":NaN}'), "bad_payload"),
        (forge(header(), '{"a":9007199254740992}'), "bad_payload"),
        (forge(header(), '{"a":' + "9" * 5000 + "}"), "bad_payload"),
        (forge(header(), "[" * 9000 + "]" * 9000), "bad_payload"),
        (forge(header(), '{"a":' + "[" * 30 + "]" * 30 + "}"), "bad_payload"),
        (forge(header(), "17"), "bad_payload"),
    ],
)
def test_anything_but_the_one_spelling_is_refused(text: str, code: str) -> None:
    with pytest.raises(JwsRefused) as caught:
        jws.verify(text, KEYS, RECORD_TYP)
    assert caught.value.code == code


def test_a_second_spelling_of_the_same_signature_is_refused() -> None:
    """64 bytes leave four unused bits in the last base64url character."""
    text = jws.sign(PAYLOAD, KEY, RECORD_TYP)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    assert base64.urlsafe_b64decode(same.split(".")[2] + "==") == base64.urlsafe_b64decode(
        text.split(".")[2] + "=="
    )
    with pytest.raises(JwsRefused, match="canonical"):
        jws.verify(same, KEYS, RECORD_TYP)


@pytest.mark.parametrize("bad", [1.0, {"a": [0.1]}, b"x", {1: 2}, {"ä": 1}, 2**53, {"a": {1, 2}}])
def test_only_plain_values_are_written(bad: object) -> None:
    with pytest.raises(plain.NotPlain):
        plain.dumps(bad)


def test_plain_text_is_compact_ascii_in_the_given_order() -> None:
    assert plain.dumps({"b": "ü", "a": [1, True, None]}) == '{"b":"\\u00fc","a":[1,true,null]}'


# --- Key files ------------------------------------------------------------------------------------


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "record-key.pem"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = RecordKey.load(path)
    assert again.kid == KEY.kid
    assert again.sign(b"x") == KEY.sign(b"x")
    with pytest.raises(KeyRefused, match=r"KEY-005.*exists already"):
        RecordKey.generate().save(path)
    public = tmp_path / "public.pem"
    public.write_text(KEY.public.pem())
    assert KeySet.load([public, path]).kids == (KEY.kid,)
    assert PublicKey.load(public) == KEY.public


def _pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_bad_key_files_are_refused_with_their_reason(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(KeyRefused, match=r"KEY-001.*No such file"):
        RecordKey.load(path)
    KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(KeyRefused, match=r"KEY-002.*mode 0640.*chmod 600"):
        RecordKey.load(path)
    path.chmod(0o600)
    for content, code in [
        (b"", "KEY-003"),
        (b"garbage", "KEY-003"),
        (KEY.public.pem().encode(), "KEY-003"),
        (b"x" * 100_000, "KEY-003"),
        (_pem(ec.generate_private_key(ec.SECP384R1())), "KEY-004"),
        (_pem(ed25519.Ed25519PrivateKey.generate()), "KEY-004"),
    ]:
        path.write_bytes(content)
        with pytest.raises(KeyRefused) as caught:
            RecordKey.load(path)
        assert caught.value.code == code
    if os.geteuid() != 0:
        path.chmod(0)
        with pytest.raises(KeyRefused, match="KEY-001"):
            RecordKey.load(path)
    with pytest.raises(KeyRefused, match="KEY-001"):
        KEY.save(tmp_path / "none" / "key.pem")


def test_a_repr_shows_no_secret() -> None:
    assert "PRIVATE" not in repr(KEY)
