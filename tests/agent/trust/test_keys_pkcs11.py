"""Record keys in a softhsm2 token, judged by joserfc and openssl. A module in between counts the PINs."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from joserfc import jws as judge
from joserfc.jwk import ECKey
from support.key_devices import PIN, TOKEN, SoftToken, program

from agent.trust import jws
from agent.trust.keys import KeyAway, KeyRefused, KeySet, PublicKey, der_signature
from agent.trust.pkcs11 import Pkcs11Key

Make = Callable[..., Pkcs11Key]


class Pin:
    """What the PIN's file holds."""

    def __init__(self) -> None:
        self.text = PIN

    def __call__(self) -> str:
        return self.text


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftToken]:
    made = SoftToken(tmp_path, monkeypatch)
    yield made
    made.end()


@pytest.fixture
def pin() -> Pin:
    return Pin()


@pytest.fixture
def at(token: SoftToken, pin: Pin) -> Make:
    """A place in the token, as a process that starts makes it."""

    def make(key: str = "record", **given: object) -> Pkcs11Key:
        where = {"token": TOKEN, "slot": None, "pin": pin, **given}
        return Pkcs11Key(token.module, key, **where)  # type: ignore[arg-type]

    return make


def refusal(work: Callable[[], object]) -> KeyRefused:
    with pytest.raises(KeyRefused) as caught:
        work()
    return caught.value


# --- signing ------------------------------------------------------------------------------------------


def test_two_judges_believe_what_the_token_signed(at: Make, tmp_path: Path) -> None:
    public = at().create()
    assert at().public() == public
    signer = at().open()
    assert signer.public == public
    assert signer.kid == hashlib.sha256(public.spki).hexdigest() and len(public.spki) == 91

    text = jws.sign({"energy_wh": 12_345}, signer, jws.RECORD_TYP)
    assert jws.verify(text, KeySet([public]), jws.RECORD_TYP) == {"energy_wh": 12_345}
    key = ECKey.import_key(public.pem())
    found = judge.deserialize_compact(text, key, algorithms=["ES256"], registry=_registry())
    assert found.payload == b'{"energy_wh":12345}'
    with pytest.raises(Exception, match="bad_signature"):
        judge.deserialize_compact(
            text[:-4] + "AAAA", key, algorithms=["ES256"], registry=_registry()
        )

    data = b"OCMF|{}"
    (tmp_path / "key.pem").write_text(public.pem())
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "signature").write_bytes(der_signature(signer.sign(data)))
    assert _openssl(tmp_path) == "Verified OK"
    (tmp_path / "data").write_bytes(data + b" ")
    assert _openssl(tmp_path) == "Verification failure"


def _registry() -> judge.JWSRegistry:
    return judge.JWSRegistry(algorithms=["ES256"], strict_check_header=False)


def _openssl(folder: Path) -> str:
    words = ["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "data"]
    done = subprocess.run(
        [program("openssl", "openssl"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def test_the_private_half_cannot_leave_the_token(at: Make, token: SoftToken) -> None:
    import pkcs11

    a = pkcs11.Attribute
    at().create()
    lib = token.begin()
    with lib.get_token(token_label=TOKEN).open(user_pin=PIN) as session:
        private = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label="record")
        assert private[a.SENSITIVE] and private[a.ALWAYS_SENSITIVE] and private[a.LOCAL]
        assert not private[a.EXTRACTABLE] and private[a.NEVER_EXTRACTABLE]
        assert private[a.SIGN] and not private[a.DERIVE] and not private[a.DECRYPT]
        with pytest.raises(pkcs11.AttributeSensitive):
            private[a.VALUE]


def test_a_key_is_never_replaced(at: Make) -> None:
    before = at().create()
    assert refusal(at().create).code == "KEY-005"
    assert at().public() == before


def test_a_signature_that_does_not_verify_is_not_handed_out(at: Make, token: SoftToken) -> None:
    at().create()
    signer = at().open()
    token.misbehave("garbage")
    refused = refusal(lambda: signer.sign(b"x"))
    assert refused.code == "KEY-032" and isinstance(refused, KeyAway)
    token.misbehave("")
    assert signer.public.verify(signer.sign(b"x"), b"x")


# --- the PIN ------------------------------------------------------------------------------------------


def test_a_wrong_pin_is_given_once_and_never_again_by_itself(
    at: Make, token: SoftToken, pin: Pin
) -> None:
    at().create()
    given = len(token.logins)
    pin.text = "000000"
    place = at()
    assert refusal(place.open).code == "KEY-023"
    assert token.logins[given:] == ["000000"]
    for _ in range(5):
        refused = refusal(place.open)
        assert refused.code == "KEY-025" and not isinstance(refused, KeyAway)
        assert "000000" not in str(refused)
    # The next process does not know, but the token does.
    assert refusal(at().open).code == "KEY-025"
    pin.text = PIN
    assert refusal(at().open).code == "KEY-025", "whether this one is right nobody knows, either"
    assert token.logins[given:] == ["000000"]


def test_a_pin_that_was_corrected_meanwhile_is_given(at: Make, token: SoftToken, pin: Pin) -> None:
    at().create()
    place, pin.text = at(), "000000"
    assert refusal(place.open).code == "KEY-023"
    pin.text = PIN
    place.open()
    assert token.logins[-2:] == ["000000", PIN]
    at().open()  # nothing is held against it any more


def test_a_person_may_give_the_pin_again(at: Make, token: SoftToken, pin: Pin) -> None:
    at().create()
    pin.text = "000000"
    assert refusal(at().open).code == "KEY-023"
    assert refusal(lambda: at().open(by_person=True)).code == "KEY-023"
    pin.text = PIN
    assert refusal(at().open).code == "KEY-025"
    at().open(by_person=True)
    at().open()
    assert token.logins[-4:] == ["000000", "000000", PIN, PIN]


@pytest.mark.parametrize(("fault", "code"), [("final-try", "KEY-025"), ("locked", "KEY-024")])
def test_a_token_that_is_about_to_lock_gets_no_pin(
    at: Make, token: SoftToken, fault: str, code: str
) -> None:
    at().create()
    given = len(token.logins)
    token.misbehave(fault)
    assert refusal(at().open).code == code
    assert len(token.logins) == given
    if fault == "locked":
        assert refusal(lambda: at().open(by_person=True)).code == code
        assert len(token.logins) == given


def test_a_pin_that_locks_now_is_told_so(at: Make, token: SoftToken) -> None:
    at().create()
    token.misbehave("pin-locked")
    assert refusal(at().open).code == "KEY-024"


def test_the_public_half_needs_no_pin(at: Make, token: SoftToken) -> None:
    made = at().create()
    given = len(token.logins)
    assert at(pin=None).public() == made
    assert len(token.logins) == given


# --- a token that goes away ---------------------------------------------------------------------------


def test_a_pulled_token_is_away_and_is_the_same_when_it_is_back(at: Make, token: SoftToken) -> None:
    at().create()
    place = at()
    signer = place.open()
    kid = signer.kid
    token.pull()
    for work in (lambda: signer.sign(b"x"), signer.check, place.open, place.public):
        assert isinstance(refusal(work), KeyAway)
    signer.close()
    token.plug()
    signer = place.open()
    assert signer.kid == kid and signer.public.verify(signer.sign(b"x"), b"x")


def test_a_removed_device_is_away(at: Make, token: SoftToken) -> None:
    at().create()
    signer = at().open()
    signer.check()
    token.misbehave("removed")
    for work in (lambda: signer.sign(b"x"), signer.check, at().open):
        refused = refusal(work)
        assert refused.code == "KEY-027" and isinstance(refused, KeyAway)
        assert "DeviceRemoved" in str(refused)
    signer.close()


def test_another_token_is_not_taken_for_it(at: Make) -> None:
    refused = refusal(at(token="another").open)
    assert refused.code == "KEY-022" and isinstance(refused, KeyAway)


def test_two_tokens_of_one_name_are_told_apart_by_slot(at: Make, token: SoftToken) -> None:
    public = at().create()
    token.init(TOKEN)
    assert refusal(at().open).code == "KEY-026"
    lib = token.begin()
    slots = [t.slot.slot_id for t in lib.get_tokens(token_label=TOKEN)]
    assert len(slots) == 2
    found = [at(token=None, slot=slot) for slot in slots]
    codes = [None if _has(place, public) else refusal(place.open).code for place in found]
    assert sorted(codes, key=str) == ["KEY-026", None]


def _has(place: Pkcs11Key, public: PublicKey) -> bool:
    try:
        return place.public() == public
    except KeyRefused:
        return False


# --- what is not such a key ---------------------------------------------------------------------------


def test_a_key_that_is_not_there_is_said(at: Make) -> None:
    refused = refusal(at("other").open)
    assert refused.code == "KEY-026" and "holds no public key with the label other" in str(refused)


def test_a_key_on_another_curve_is_refused(at: Make, token: SoftToken) -> None:
    import pkcs11

    lib = token.begin()
    with lib.get_token(token_label=TOKEN).open(user_pin=PIN, rw=True) as session:
        curve = pkcs11.util.ec.encode_named_curve_parameters("secp384r1")
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
        )
        parameters.generate_keypair(store=True, label="large")
    assert refusal(at("large").open).code == "KEY-004"


def test_a_module_that_is_none_is_said(token: SoftToken, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    for module in ("text.so", "absent.so"):
        place = Pkcs11Key(tmp_path / module, "record", token=TOKEN, slot=None, pin=None)
        assert refusal(place.open).code == "KEY-021"
