"""Whatever a terminal sends and wherever it puts it: no card number leaves the driver, only the last four."""

import json
import os
from collections.abc import Callable

import pytest
from support import zvt_outlets as outlets
from support.untraced import untraced
from support.zvt_card_frames import Case, cases

from agent.ports import Card, CardKind
from drivers.terminal.zvt import results
from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.decode import decode_or_error
from drivers.terminal.zvt.mask import mask_hex, mask_identifier, mask_text
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.tables import TLV_CARD

SEED = os.environ.get("ZVT_CARD_SEED", "1")
# Published test numbers of 13 to 19 digits.
PANS = [
    "4222222222222",
    "378282246310005",
    "4111111111111111",
    "5555555555554444",
    "6205500000000000004",
]
FRAMES, CHUNKS, TRACED = 100_000, 20, 20_000
NAMES = sorted(SEQUENCES)


def bcd(pan: str) -> bytes:
    return bytes.fromhex(pan + "f" * (len(pan) % 2))


def with_length(body: bytes) -> bytes:
    if len(body) < 255:
        return bytes([len(body)]) + body
    return b"\xff" + len(body).to_bytes(2, "little") + body


def texts(number: int, case: Case) -> list[str]:
    """All that is told of the message: read, in a dialogue, and now and then as a block of the line."""
    told = [*outlets.parsed(case.data, outlets.AFTER[number % len(outlets.AFTER)])]
    told += outlets.spoken(NAMES[number % len(NAMES)], case.data)
    if number % 8 == 0:
        told += outlets.framed(case.data)
    return told


def look(seed: str, count: int, first: int = 0) -> list[str]:
    """What leaks, each with what it takes to see it again."""
    found = []
    for number, case in enumerate(cases(seed, count), first):
        told = texts(number, case)
        if case.told_in("\n\n".join(told)):
            where = next((t for t in told if case.told_in(t)), "between two outlets")
            found.append(f"seed {seed}, number {number}: {case} in {where}")
    return found


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_card_number_leaves(chunk: int) -> None:
    with untraced():
        found = look(f"{SEED} {chunk}", FRAMES // CHUNKS, chunk)
    assert not found, "\n".join(found[:5])


def test_no_card_number_leaves_where_lines_are_counted() -> None:
    assert not look("counted", 500)


def test_no_card_number_is_traced() -> None:
    """Of fields side by side a trace tells each by itself: only what stands together is looked for."""
    found = []
    with untraced():
        for number, case in enumerate(cases(f"{SEED} traced", TRACED)):
            for told in outlets.traced(case.data, outlets.AFTER[number % len(outlets.AFTER)]):
                if case.told_in(told, closely=True):
                    found.append(f"{case} in {told}")
    assert not found, "\n".join(found[:5])


@pytest.mark.parametrize(
    ("target", "leak"),
    [
        ("drivers.terminal.zvt.results.mask_text", lambda text: text),
        ("drivers.terminal.zvt.decode.mask_hex", lambda digits: digits),
        ("drivers.terminal.zvt.decode.mask_identifier", lambda digits: digits),
        ("drivers.terminal.zvt.apdu.Item.__repr__", lambda self: f"Item({self.value!r})"),
        (
            "drivers.terminal.zvt.primitives.Malformed.__str__",
            lambda self: self.why + "4111111111111111",
        ),
    ],
)
def test_a_leak_would_be_seen(
    target: str, leak: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, leak)
    if "Malformed" in target:
        case = Case("4111111111111111", b"\x04\x0f\x05\x22", whole=True)
        assert case.told_in("\n".join(texts(0, case)))
    else:
        assert look("leaks", 1000)


@pytest.mark.parametrize("pan", PANS)
@pytest.mark.parametrize("number", [0x22, 0x23, 0x24, 0x2D])
def test_card_fields_are_dropped_and_said_to_be(pan: str, number: int) -> None:
    value = bcd(pan)
    count = 3 if number == 0x24 else 2
    digits = bytes(0xF0 | int(d) for d in f"{len(value):0{count}d}")
    body = b"\x27\x00" + bytes([number]) + digits + value + b"\x0e\x25\x12\x3a\x01\x23"
    answer = decode_or_error((b"\x04\x0f" + with_length(body)).hex())
    kind = {0x22: "pan", 0x23: "track2", 0x24: "track3", 0x2D: "track1"}[number]
    assert answer["dropped"] == sorted([kind, "expiry", "cvv"])
    fields = answer["fields"]
    assert isinstance(fields, dict)
    assert set(fields) == {"result"} | ({"card_last4"} if kind == "pan" else set())
    assert fields.get("card_last4", pan[-4:]) == pan[-4:]


@pytest.mark.parametrize("tag", TLV_CARD)
def test_emv_card_data_is_dropped(tag: str) -> None:
    inner = bytes.fromhex(tag) + b"\x08" + bcd("4111111111111111")
    tlv = b"\xe4" + bytes([len(inner)]) + inner
    answer = decode_or_error((b"\x04\x0f" + with_length(b"\x06" + bytes([len(tlv)]) + tlv)).hex())
    assert answer["dropped"] == [TLV_CARD[tag].value]
    assert "4111" not in json.dumps(answer)


def test_masked_fields_are_no_card_data() -> None:
    answer = decode_or_error("040f0e22f0f8eeeeeeeeeeee47710e9999")
    assert answer["dropped"] == []
    assert answer["fields"] == {"card_last4": "4771"}
    hidden = decode_or_error("040f0b22f0f8411111eeeeeeee12")
    assert hidden["fields"] == {}, "two digits are not the last four"


def test_evidence_has_neither_token_nor_uid() -> None:
    data = bytes.fromhex(
        "040f222700870231061b1f14103f56a32065cc4dbe8330c37609f919964c0608b3c8804455"
    )
    evidence = results.evidence(decode(data), "EUR", "52523535")
    assert evidence is not None
    assert "3f56a3" not in repr(evidence)
    assert "08b3c8" not in repr(evidence)
    assert set(evidence.details) == set()


def test_a_token_is_not_in_the_cards_repr() -> None:
    assert "token" not in repr(Card(CardKind.BANK, b"secret"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111111111111111", "*"),
        ("Karte 4111 1111 1111 1111 ok", "Karte * ok"),
        ("5555-5555-5555-4444", "*"),
        ("4111\u00a01111\u00a01111\u00a01111", "*"),
        ("AS-Proc-Code= 00 076 06\rCapt.-Ref.= 0099", "AS-Proc-Code= 00 076 06\rCapt.-Ref.= 0099"),
        ("12.03.2024 14:05:33", "12.03.2024 14:05:33"),
        ("0123456789", "0123456789"),
        ("01234567890", "*"),
        ("###########1234", "###########1234"),
        ("4111-1111\x001111-1111", "*"),
        ("4111.1111.1111.1111", "*"),
        ("3782/822463/10005", "*"),
        ("4222_2222_2222_2", "*"),
        ("Datum 2024.03.12, Beleg 0231/0975", "Datum 2024.03.12, Beleg 0231/0975"),
        ("1.234.567,89 EUR", "1.234.567,89 EUR"),
        (bytes.fromhex("4111111111111111").decode("cp437"), "*"),
        ("Nr. 804011926\0\0\0\0\0\0", "Nr. 804011926\0\0\0\0\0\0"),
        ("RABATT\r\nBETRAG\t12,50", "RABATT\r\nBETRAG\t12,50"),
    ],
)
def test_texts(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_identifiers_stay_unless_they_are_card_numbers() -> None:
    for identifier in (
        "a0000003591010028001",
        "000000000000081ca72f",
        "3f56a32065cc4dbe8330c37609f91996",
        "04112233445566",
    ):
        assert mask_identifier(identifier) == identifier
    assert mask_identifier("00004111111111111111") == "*"
    assert mask_identifier("4111111111111111ffff") == "*ffff"
    assert mask_identifier(b"4111111111111111".hex()) == "*"
    assert mask_identifier(b"%B4111111111111111^X".hex()) == "*"
    assert mask_identifier("41111111111111112512") == "*"
    assert mask_identifier("41111111111111119912") == "*"
    assert mask_identifier("00000041111111111111112512") == "*", "filled from the left"
    assert mask_identifier("4111111111111112") == "4111111111111112"
    assert mask_hex("aa4111111111111112bb") == "aa*bb"
