"""Whatever a terminal sends and wherever it puts it: no card number leaves the driver, only the last four."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ports import Card, CardKind, HoldRef
from agent.values import Money
from drivers.terminal.zvt import results
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.decode import decode_or_error
from drivers.terminal.zvt.frames import Received, frame
from drivers.terminal.zvt.mask import mask_hex, mask_identifier, mask_text
from drivers.terminal.zvt.primitives import Malformed
from drivers.terminal.zvt.tables import BMPS, TLV_CARD, Form

# Published test numbers of 13 to 19 digits.
PANS = [
    "4222222222222",
    "378282246310005",
    "4111111111111111",
    "5555555555554444",
    "6205500000000000004",
]
SHOWN_MAX = 10
pans = st.sampled_from(PANS)


def bcd(pan: str) -> bytes:
    return bytes.fromhex(pan + "f" * (len(pan) % 2))


def grouped(pan: str) -> bytes:
    return " ".join(pan[i : i + 4] for i in range(0, len(pan), 4)).encode()


def zero_filled(pan: str) -> bytes:
    return bytes.fromhex(pan.rjust(20, "0"))


codings = st.sampled_from(
    [bcd, zero_filled, str.encode, grouped, lambda p: p.replace("", "-")[1:-1].encode()]
)


def leaks(pan: str, text: str) -> list[str]:
    """Pieces of more than ten digits of `pan` in `text`, also with separators between the digits."""
    plain = re.sub(r"(?<=[0-9])[ \-\u00a0]{1,2}(?=[0-9])", "", text)
    size = SHOWN_MAX + 1
    pieces = {pan[i : i + size] for i in range(len(pan) - size + 1)}
    return [piece for piece in pieces if piece in plain or piece in text]


def outlets(data: bytes) -> Iterator[str]:
    """Everything that can be printed, logged or stored about a message."""
    yield repr(Received(data))
    for after in (None, "0501", "0fa1"):
        yield json.dumps(decode_or_error(data.hex(), after))
        yield json.dumps(decode_or_error(frame(data).hex(), after))
        try:
            apdu = decode(data, after)
        except Malformed as error:
            yield f"{error!r} {error}"
            continue
        yield repr(apdu) + repr(apdu.items) + repr(apdu.tlv)
        yield from port_values(apdu)


def port_values(apdu: Apdu) -> Iterator[str]:
    ref = HoldRef("52523535", 231)
    held = Money(10**9, "EUR")
    for evidence in (
        results.evidence(apdu, "EUR", None),
        results.evidence(apdu, "EUR", "52523535", ref),
        results.evidence(apdu, "EUR", None, ref, held),
    ):
        yield repr(evidence)
    yield results.error_text(apdu)
    yield repr(results.card(apdu, "EUR"))
    try:
        yield repr(results.identity(apdu, None))
    except results.DeviceUnavailable as error:
        yield str(error)


def with_length(body: bytes) -> bytes:
    if len(body) < 255:
        return bytes([len(body)]) + body
    return b"\xff" + len(body).to_bytes(2, "little") + body


@st.composite
def bitmap(draw: st.DrawFn, pan: str) -> bytes:
    """One bitmap that holds the number, as far as it is long enough for one."""
    bmp = BMPS[draw(st.sampled_from([n for n in BMPS if n != 0x06]))]
    value = draw(codings)(pan)
    if bmp.form is Form.FIXED:
        value = value[: bmp.size].ljust(bmp.size, b"\0")
        return bytes([bmp.number]) + value
    digits = f"{len(value):0{2 if bmp.form is Form.LL else 3}d}"
    return bytes([bmp.number]) + bytes(0xF0 | int(d) for d in digits) + value


TAGS = (
    "07 08 1d 41 43 44 42 4c 45 46 5a 57 56 c1 5f24 9f6b 9f20 1f0b 1f0e 1f14 1f17 1f2b "
    "1f40 1f41 1f42 1f44 1f45 1f62 1f63 1f8001"
)
COMMANDS = ["040f", "04ff", "060f", "061e", "06d1", "06d3"]
COMMANDS += ["0600", "841e", "8000", "1234", "040c", "0fa1"]


@st.composite
def tags(draw: st.DrawFn, pan: str) -> bytes:
    name = bytes.fromhex(draw(st.sampled_from(TAGS.split())))
    value = draw(codings)(pan)
    tag = name + bytes([len(value)]) + value
    if draw(st.booleans()):
        tag = (
            bytes.fromhex(draw(st.sampled_from(["60", "62", "e4", "24", "e0"])))
            + bytes([len(tag)])
            + tag
        )
    return b"\x06" + bytes([len(tag)]) + tag


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes]:
    pan = draw(pans)
    parts = draw(st.lists(st.one_of(bitmap(pan), tags(pan)), max_size=4))
    head = draw(
        st.sampled_from(
            [
                b"",
                b"\x27\x00\x87\x02\x31",
                b"\x00",
                b"\xf0\xf1\xf6" + pan.encode().ljust(16)[:16] + b"\x00",
                pan.encode(),
            ]
        )
    )
    tail = draw(st.sampled_from([b"", b"\xc0" + bcd(pan), pan.encode()]))
    command = bytes.fromhex(draw(st.sampled_from(COMMANDS)))
    return pan, command + with_length(head + b"".join(parts) + tail)


@given(messages())
def test_no_card_number_leaves(case: tuple[str, bytes]) -> None:
    pan, data = case
    for text in outlets(data):
        assert not leaks(pan, text), text


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
    assert mask_identifier("4111111111111112") == "4111111111111112"
    assert mask_hex("aa4111111111111112bb") == "aa*bb"
