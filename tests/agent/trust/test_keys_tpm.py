"""Record keys in a TPM (swtpm), judged by joserfc, openssl and tpm2-tools."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from joserfc import jws as judge
from joserfc.jwk import ECKey
from support.key_devices import SoftTpm, program

from agent.trust import jws
from agent.trust.keys import KeyAway, KeyRefused, KeySet, PublicKey, der_signature
from agent.trust.tpm import TpmKey

HANDLE = 0x81000123


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[SoftTpm]:
    made = SoftTpm(tmp_path / "tpm")
    yield made
    made.stop()


class Place:
    """A key in `tpm`: wrapped in a file, or at a handle."""

    def __init__(self, tpm: SoftTpm, folder: Path, kind: str) -> None:
        self.tpm, self.file = tpm, folder / "record-key.tpm"
        self.kind, self.password = kind, ""

    def key(self) -> TpmKey:
        """As a process that starts makes it."""
        pin = None if not self.password else lambda: self.password
        handle, file = (HANDLE, None) if self.kind == "handle" else (None, self.file)
        return TpmKey(self.tpm.tcti, handle=handle, file=file, pin=pin)


@pytest.fixture(params=["handle", "file"])
def place(tpm: SoftTpm, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(tpm, tmp_path, request.param)


def refusal(work: Callable[[], object]) -> KeyRefused:
    with pytest.raises(KeyRefused) as caught:
        work()
    return caught.value


def test_two_judges_believe_what_the_tpm_signed(place: Place, tmp_path: Path) -> None:
    public = place.key().create()
    assert place.key().public() == public and len(public.spki) == 91
    signer = place.key().open()
    assert signer.public == public
    signer.check()

    text = jws.sign({"energy_wh": 12_345}, signer, jws.RECORD_TYP)
    assert jws.verify(text, KeySet([public]), jws.RECORD_TYP) == {"energy_wh": 12_345}
    key = ECKey.import_key(public.pem())
    registry = judge.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    found = judge.deserialize_compact(text, key, algorithms=["ES256"], registry=registry)
    assert found.payload == b'{"energy_wh":12345}'

    data = b"OCMF|{}"
    (tmp_path / "key.pem").write_text(public.pem())
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "signature").write_bytes(der_signature(signer.sign(data)))
    signer.close()
    assert _openssl(tmp_path) == "Verified OK"
    (tmp_path / "data").write_bytes(data + b" ")
    assert _openssl(tmp_path) == "Verification failure"


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


def test_the_tools_see_a_key_that_only_signs_and_cannot_leave(tpm: SoftTpm, tmp_path: Path) -> None:
    public = Place(tpm, tmp_path, "handle").key().create()
    pem = tmp_path / "public.pem"
    text = tpm.tool("readpublic", "-c", hex(HANDLE), "-f", "pem", "-o", pem)
    assert PublicKey.load(pem) == public
    (line,) = [
        line for line in text.splitlines() if line.strip().startswith("value:") and "|" in line
    ]
    attributes = set(line.split(":")[1].strip().split("|"))
    assert attributes == {
        "fixedtpm", "fixedparent", "sensitivedataorigin", "userwithauth", "noda", "sign",
    }  # fmt: skip
    digest, signature = tmp_path / "data", tmp_path / "signature"
    digest.write_bytes(b"by the tools")
    tpm.tool(
        "sign",
        "-c",
        hex(HANDLE),
        "-g",
        "sha256",
        "-s",
        "ecdsa",
        "-f",
        "plain",
        "-o",
        signature,
        digest,
    )
    (tmp_path / "key.pem").write_text(public.pem())
    assert _openssl(tmp_path) == "Verified OK"


def test_nothing_stays_in_the_tpm(place: Place, tpm: SoftTpm) -> None:
    place.key().create()
    for _ in range(5):  # there is room for three
        signer = place.key().open()
        assert len(signer.sign(b"x")) == 64
        signer.close()
        signer.close()
    assert tpm.tool("getcap", "handles-transient").strip() == ""
    assert tpm.tool("getcap", "handles-loaded-session").strip() == ""


def test_many_signatures_all_have_64_bytes(place: Place) -> None:
    """About every 128th has a number that begins with a zero byte."""
    place.key().create()
    signer = place.key().open()
    made = [signer.sign(str(n).encode()) for n in range(400)]
    signer.close()
    assert {len(signature) for signature in made} == {64} and len(set(made)) == 400


def test_a_key_is_never_replaced(place: Place) -> None:
    before = place.key().create()
    assert refusal(place.key().create).code == "KEY-005"
    assert place.key().public() == before


def test_a_tpm_that_is_gone_is_away_and_the_key_survives_its_restart(
    place: Place, tpm: SoftTpm, capfd: pytest.CaptureFixture[str]
) -> None:
    public = place.key().create()
    source = place.key()
    signer = source.open()
    tpm.stop()
    for work in (lambda: signer.sign(b"x"), signer.check, source.open):
        refused = refusal(work)
        assert refused.code == "KEY-029" and isinstance(refused, KeyAway)
    signer.close()
    tpm.start()
    signer = source.open()
    assert signer.public == public and public.verify(signer.sign(b"x"), b"x")
    signer.close()
    assert capfd.readouterr().err == "", "the stack's own lines do not get into our log"


def test_a_key_of_another_tpm_is_refused(tpm: SoftTpm, tmp_path: Path) -> None:
    place = Place(tpm, tmp_path, "file")
    public = place.key().create()
    other = SoftTpm(tmp_path / "other")
    try:
        moved = TpmKey(other.tcti, handle=None, file=place.file, pin=None)
        refused = refusal(moved.open)
        assert refused.code == "KEY-031" and not isinstance(refused, KeyAway)
        assert moved.public() == public, "the file says whose it is"
        assert other.tool("getcap", "handles-transient").strip() == ""
    finally:
        other.stop()


def test_a_wrong_password_is_given_once_and_never_again_by_itself(place: Place) -> None:
    place.password = "right"
    place.key().create()
    signer = place.key().open()
    signer.sign(b"x")
    signer.close()
    place.password = "wrong"
    source = place.key()
    signer = source.open()
    refused = refusal(lambda: signer.sign(b"x"))
    signer.close()
    assert refused.code == "KEY-023" and not isinstance(refused, KeyAway)
    for _ in range(3):
        assert refusal(source.open).code == "KEY-025"
    source.open(by_person=True).close()
    place.password = "right"
    signer = source.open()
    assert len(signer.sign(b"x")) == 64
    signer.close()


def test_a_missing_password_is_said(tpm: SoftTpm, tmp_path: Path) -> None:
    place = Place(tpm, tmp_path, "file")
    place.password = "right"
    place.key().create()
    place.password = ""
    assert refusal(place.key().open).code == "KEY-023"


def test_a_password_that_is_not_needed_is_not_given(tpm: SoftTpm, tmp_path: Path) -> None:
    place = Place(tpm, tmp_path, "file")
    place.key().create()
    place.password = "for nothing"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signer = place.key().open()
    assert len(signer.sign(b"x")) == 64
    signer.close()


def test_a_handle_without_a_key_and_a_key_of_another_kind(tpm: SoftTpm, tmp_path: Path) -> None:
    place = Place(tpm, tmp_path, "handle")
    refused = refusal(place.key().open)
    assert refused.code == "KEY-026" and not isinstance(refused, KeyAway)
    context = tmp_path / "primary.ctx"
    tpm.tool("createprimary", "-C", "o", "-G", "rsa2048", "-c", context)
    tpm.tool("evictcontrol", "-C", "o", "-c", context, hex(HANDLE))
    tpm.tool("flushcontext", "-t")
    assert refusal(place.key().open).code == "KEY-004"
    assert refusal(place.key().public).code == "KEY-004"


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_holds_no_key_is_refused(tpm: SoftTpm, tmp_path: Path, text: str) -> None:
    place = Place(tpm, tmp_path, "file")
    assert refusal(place.key().open).code == "KEY-001"
    place.file.write_text(text + "-----END TSS2 PRIVATE KEY-----\n" * ("BEGIN" in text))
    assert refusal(place.key().open).code == "KEY-003"
    assert tpm.tool("getcap", "handles-transient").strip() == ""


def test_a_way_to_a_tpm_that_does_not_exist(tmp_path: Path, tpm: SoftTpm) -> None:
    for tcti in ("device:/dev/null/tpm", "nothing:at-all"):
        key = TpmKey(tcti, handle=HANDLE, file=None, pin=None)
        refused = refusal(key.open)
        assert refused.code == "KEY-029" and isinstance(refused, KeyAway)


def test_a_full_tpm_is_told_and_is_away(tpm: SoftTpm, tmp_path: Path) -> None:
    place = Place(tpm, tmp_path, "file")
    place.key().create()
    for n in range(3):
        tpm.tool("createprimary", "-C", "o", "-c", tmp_path / f"{n}.ctx")
    refused = refusal(place.key().open)
    assert refused.code == "KEY-030" and isinstance(refused, KeyAway)
    tpm.tool("flushcontext", "-t")
    place.key().open().close()
