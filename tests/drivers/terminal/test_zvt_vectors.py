"""Every captured or published message: its command, its fields, what must be dropped, and its bytes again."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.tree import ROOT

from drivers.terminal.zvt import codec
from drivers.terminal.zvt.decode import decode_or_error
from drivers.terminal.zvt.frames import Link, Received, frame

FILE = ROOT.parent / "shared" / "vectors" / "zvt.json"


def vectors(file: Path = FILE) -> list[dict[str, Any]]:
    if not file.exists():
        pytest.skip(f"needs the captured vectors in {file.name}")
    found: list[dict[str, Any]] = json.loads(file.read_text())["vectors"]
    return found


def differences(expected: Any, seen: Any, where: str) -> list[str]:
    """What of `expected` is not so. `tlv` may show further tags."""
    if where == "tlv":
        return [f"tlv {t}: {seen.get(t)}" for t, v in expected.items() if seen.get(t) != v]
    return [] if seen == expected else [f"{where}: {seen!r} is not {expected!r}"]


def unframed(vector: dict[str, Any]) -> bytes:
    data = bytes.fromhex(vector["hex"])
    if vector["transport"] == "apdu":
        return data
    (event,) = Link().receive(data, 0)
    assert isinstance(event, Received)
    return event.apdu


def test_every_vector_decodes(capsys: pytest.CaptureFixture[str]) -> None:
    decoded, refused = 0, 0
    for vector in vectors():
        answer = decode_or_error(vector["hex"], vector.get("after"))
        if vector.get("malformed"):
            assert set(answer) == {"error", "at"}, vector["id"]
            refused += 1
            continue
        assert answer.get("command") == vector["expected"]["command"], (vector["id"], answer)
        fields = answer["fields"]
        assert isinstance(fields, dict)
        wrong = []
        for name, value in vector["expected"]["fields"].items():
            wrong += differences(value, fields.get(name, "nothing"), name)
        if "dropped" in vector:
            wrong += differences(sorted(vector["dropped"]), answer["dropped"], "dropped")
        assert not wrong, (vector["id"], wrong)
        decoded += 1
    with capsys.disabled():
        print(f"\nZVT vectors: {decoded} decoded as expected, {refused} malformed refused")
    assert decoded >= 44
    assert refused >= 1


def test_vectors_without_card_data_encode_to_the_same_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    same, with_card_data = 0, 0
    for vector in vectors():
        if vector.get("malformed"):
            continue
        data = unframed(vector)
        apdu = codec.decode(data, vector.get("after"))
        if apdu.dropped:
            with pytest.raises(ValueError, match="not kept"):
                codec.encode(apdu)
            with_card_data += 1
            continue
        again = codec.encode(apdu)
        assert again == data, vector["id"]
        if vector["transport"] == "serial":
            assert frame(again).hex() == vector["hex"], vector["id"]
        same += 1
    with capsys.disabled():
        print(f"\nZVT vectors: {same} byte for byte, {with_card_data} with card data left out")
    assert same >= 39
