"""The cards a test can present. All numbers are published test numbers; none belongs to anybody."""

from __future__ import annotations

from dataclasses import dataclass, replace

OK = 0x00
UNREADABLE = 0x64
NOT_FOR_THIS_CARD = 0x68
MAGSTRIPE, CHIP, CONTACTLESS = 0x01, 0x02, 0x04
ALL_TECHNOLOGIES = MAGSTRIPE | CHIP | CONTACTLESS
DEBIT_TYPES = (0x02, 0x05, 0x0D, 0x2E)  # girocard old and new, V PAY, Maestro


@dataclass(frozen=True, slots=True)
class Card:
    """`result` is what a payment with it ends in; `at_most_minor` the most that is approved.

    `aids` are applications seen on the contactless side; `chip_aids` are reported as the list of the
    chip instead, as some terminals do with debit cards. `uid` is sent left-padded to ten bytes.
    `technologies` are the bits of tag 1F60: how it can be presented."""

    name: str
    label: str
    uid: bytes
    pan: str = ""
    card_type: int = 0xFF
    aids: tuple[bytes, ...] = ()
    chip_aids: tuple[tuple[int, bytes], ...] = ()
    token: bytes = b""
    result: int = OK
    readable: bool = True
    at_most_minor: int | None = None
    changing_uid: bool = False
    technologies: int = CONTACTLESS

    @property
    def is_bank(self) -> bool:
        return bool(self.pan)

    @property
    def is_debit(self) -> bool:
        return self.card_type in DEBIT_TYPES

    def presented(self, count: int) -> Card:
        """This card at its `count`-th tap: phones show another random UID each time."""
        if not self.changing_uid:
            return self
        return replace(self, uid=b"\x08" + (0x1CA72F + count * 7919).to_bytes(3, "big"))


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


_VISA = Card(
    "visa", "Visa", _hex("08b3c880"), "4111111111111111", 0x0A,
    (_hex("a0000000031010"),), token=_hex("51c4f2d07a9e4b6cb0e2a9d377f10b01"),
    technologies=ALL_TECHNOLOGIES,
)  # fmt: skip
_MASTERCARD = Card(
    "mastercard", "Mastercard", _hex("081ca72f"), "5555555555554444", 0x06,
    (_hex("a0000000041010"),), token=_hex("8e0d3f7712ab4c5590d1c2b3a4f5e602"),
    technologies=ALL_TECHNOLOGIES,
)  # fmt: skip

# fmt: off
_ALL = (
    _VISA,
    _MASTERCARD,
    Card(
        "girocard",
        "girocard",
        _hex("08ff6914"),
        "6725904499999999999",
        0x05,
        chip_aids=((0x05, _hex("a0000003591010028001")), (0x2E, _hex("a0000000043060"))),
        token=_hex("3b77e1904d2f4a4b8c6d5e4f3a2b1c03"),
        technologies=ALL_TECHNOLOGIES,
    ),
    Card(
        "amex",
        "American Express",
        _hex("08a1b2c3"),
        "378282246310005",
        0x08,
        (_hex("a00000002501"),),
        token=_hex("c9b8a7f6e5d44c3b9281706f5e4d3c04"),
        technologies=ALL_TECHNOLOGIES,
    ),
    Card(
        "maestro", "Maestro", _hex("08b1b2b3"), "6759649826438453", 0x2E,
        (_hex("a0000000043060"),), token=_hex("71" * 16), technologies=ALL_TECHNOLOGIES,
    ),
    Card(
        "jcb", "JCB", _hex("08c1c2c3"), "3530111333300000", 0x0E,
        (_hex("a0000000651010"),), token=_hex("72" * 16), technologies=ALL_TECHNOLOGIES,
    ),
    Card(
        "diners", "Diners Club", _hex("08d1d2d3"), "30569309025904", 0x0C,
        (_hex("a0000001523010"),), token=_hex("73" * 16), technologies=ALL_TECHNOLOGIES,
    ),
    replace(
        _MASTERCARD, name="phone", token=_hex("f00dcafe55aa4b1e9a8b7c6d5e4f3a05"), changing_uid=True
    ),
    replace(
        _VISA, name="visa2", uid=_hex("08d4e5f6"), token=_hex("0a1b2c3d4e5f46a7b8c9dae1f2031406")
    ),
    replace(_VISA, name="decline", uid=_hex("08b3c79e"), token=_hex("dd" * 16), result=0x05),
    replace(_VISA, name="expired", uid=_hex("08e95d27"), token=_hex("ee" * 16), result=0x78),
    replace(_VISA, name="no_credit", uid=_hex("087fa4d8"), token=_hex("cc" * 16), result=0x71),
    replace(_VISA, name="pin", uid=_hex("08c61e9b"), token=_hex("bb" * 16), result=0xEC),
    replace(_VISA, name="pin_host", uid=_hex("089ad5f3"), token=_hex("aa" * 16), result=0x33),
    replace(_VISA, name="low", uid=_hex("08d28b6c"), token=_hex("99" * 16), at_most_minor=1500),
    Card("rfid", "RFID card", _hex("04a2b3c4d5e680"), result=NOT_FOR_THIS_CARD),
    Card("rfid4", "RFID card", _hex("9a3c51e7"), result=NOT_FOR_THIS_CARD),
    Card(
        "fuel",
        "fuel card",
        _hex("04112233445566"),
        aids=(_hex("a000000830000001"),),
        result=NOT_FOR_THIS_CARD,
    ),
    replace(
        _VISA, name="magstripe", uid=b"", aids=(), token=_hex("74" * 16), technologies=MAGSTRIPE
    ),
    replace(_VISA, name="chip", uid=b"", token=_hex("75" * 16), technologies=CHIP),
    Card("unreadable", "", b"", result=UNREADABLE, readable=False),
)
# fmt: on
CARDS = {card.name: card for card in _ALL}


def bcd_number(pan: str) -> bytes:
    """A card number as BMP 22 carries it: odd lengths end in a nibble F."""
    return bytes.fromhex(pan + "f" * (len(pan) % 2))


def masked(pan: str, first: int = 6) -> str:
    """The `first` and the last four digits; E stands for a hidden one."""
    hidden = len(pan) - first - 4
    return pan[:first] + "e" * hidden + pan[-4:] if hidden > 0 else pan
