"""Messages to fields and back: what is no vector."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ports import CardKind
from drivers.terminal.zvt import codec, results
from drivers.terminal.zvt.apdu import Apdu, Tlv
from drivers.terminal.zvt.codec import build, decode, encode, tag
from drivers.terminal.zvt.decode import decode_or_error, decode_text, open_receipts, present
from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.primitives import Malformed, pack_bcd_int
from drivers.terminal.zvt.reader import TLV_DEPTH_MAX
from drivers.terminal.zvt.tables import BMPS, Form


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def status(data: str) -> Apdu:
    raw = h(data)
    return decode(h("040f") + bytes([len(raw)]) + raw)


# --- never anything but Malformed -----------------------------------------------------------------

COMMANDS = [bytes.fromhex(name) for name in (*MESSAGES, "8000", "849c", "1234")]
AFTER = st.sampled_from([None, "0501", "0fa1", "0600", "06c0"])


def lengths(data: bytes) -> bytes:
    if len(data) < 255:
        return bytes([len(data)]) + data
    return b"\xff" + len(data).to_bytes(2, "little") + data


pieces = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(list(BMPS)).map(lambda n: bytes([n])),
    st.sampled_from(
        [h("06"), h("0682ffff"), h("0681ff"), h("f0f0"), h("f1f9"), h("1f"), h("ff40")]
    ),
)
bodies = st.lists(pieces, max_size=12).map(b"".join)


@given(st.sampled_from(COMMANDS), bodies, AFTER)
def test_whatever_comes_is_read_or_malformed(
    command: bytes, body: bytes, after: str | None
) -> None:
    data = command + lengths(body)
    try:
        apdu = decode(data, after)
    except Malformed as error:
        assert 0 <= error.at <= len(data) + 1
        return
    shown = decode_or_error(data.hex(), after)
    assert shown["command"] == command.hex()
    if apdu.dropped or apdu.rest:
        with pytest.raises(ValueError, match="not kept"):
            encode(apdu)


@given(st.binary(max_size=40), AFTER)
def test_bytes_that_are_no_apdu(data: bytes, after: str | None) -> None:
    answer = decode_or_error(data.hex(), after)
    assert set(answer) in ({"error", "at"}, {"command", "name", "fields", "dropped"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 bytes are no APDU"),
        ("06", "1 bytes are no APDU"),
        ("06ff", "2 bytes are no APDU"),
        ("040fff10", "4 bytes are no APDU"),
        ("040fff0100", "the length says 6 bytes, there are 5"),
        ("040f012700", "the length says 4 bytes, there are 5"),
        ("nonsense", "no hex"),
        ("060", "no hex"),
        ("1002800000", "no whole frame"),
        ("100280000010 03f51f 00", "bytes behind the frame"),
        ("100280000010 03f51e", "no whole frame"),
        ("040f0304 0000", "amount_minor is cut off"),
        ("040f07 04 00000000a000", "amount_minor is not a BCD number"),
        ("040f04 3cf0f0fa", "text has a length that is no number"),
        ("040f03 3cf0f0", "text has a length that is no number"),
        ("040f01 3c", "text has a length that is no number"),
        ("040f05 3cf0f0f541", "text is cut off"),
        ("040f01 06", "a TLV length is missing"),
        ("040f02 0680", "a TLV length is reserved or cut off"),
        ("040f03 068201", "a TLV length is reserved or cut off"),
        ("040f03 0601 4c", "a TLV length is missing"),
        ("040f03 0601 1f", "a TLV tag that does not end"),
        ("040f08 0606 1f8080808001", "a TLV tag that does not end"),
        ("040f04 06024c05", "TLV tag 4c is cut off"),
        ("040f06 0604 60024305", "TLV tag 43 is cut off"),
        ("060f03 00 06 05", "tlv is cut off"),
    ],
)
def test_malformed_says_what_and_where(text: str, why: str) -> None:
    after = "0501" if text.startswith("060f") else None
    answer = decode_or_error(text, after)
    assert str(answer.get("error")).startswith(why), answer
    assert isinstance(answer["at"], int)


def test_tags_nested_too_deep() -> None:
    def nested(levels: int) -> bytes:
        data = h("4c0101")
        for _ in range(levels):
            data = b"\x60" + bytes([len(data)]) + data
        return h("040f") + bytes([len(data) + 2]) + b"\x06" + bytes([len(data)]) + data

    assert len(decode(nested(TLV_DEPTH_MAX)).find("4c")) == 1
    with pytest.raises(Malformed, match="too deep"):
        decode(nested(TLV_DEPTH_MAX + 1))


def test_an_unknown_container_that_holds_no_tags_is_skipped() -> None:
    apdu = status("0607 e0 02 ffff 4c 01 08")
    assert apdu.find("e0") == [Tlv("e0", h("ffff"))]
    assert apdu.tag_text("4c") == "08"
    with pytest.raises(Malformed):
        status("0607 e6 02 ffff 4c 01 08")


# --- odd values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", ["ffff", "a1b2"])
def test_a_receipt_that_is_no_number_is_told_as_it_is(digits: str) -> None:
    apdu = status(f"270087{digits}")
    assert apdu.text("receipt") == digits
    assert open_receipts(apdu) == []
    assert encode(apdu) == h(f"040f05270087{digits}")


@pytest.mark.parametrize("name", ["trace", "turnover", "card_sequence", "original_trace"])
def test_numbers_filled_with_f_are_unknown_not_wrong(name: str) -> None:
    bmp = next(b for b in BMPS.values() if b.name == name)
    raw = bytes([bmp.number]) + b"\xff" * bmp.size
    apdu = status(raw.hex())
    assert apdu.integer(name) is None
    assert apdu.text(name) == "ff" * bmp.size
    assert encode(build("040f", {name: "ff" * bmp.size})) == encode(apdu)


def test_a_currency_with_four_digits() -> None:
    assert status("490978").text("currency") == "978"
    apdu = status("499978")
    assert apdu.text("currency") == "9978"
    assert encode(build("040f", {"currency": "9978"})) == encode(apdu)


@pytest.mark.parametrize(
    ("data", "minutes", "tags"),
    [
        ("0a", None, []),
        ("0a01", 1, []),
        ("0a06", 6, []),
        ("0a0600", None, []),
        ("0a060600", 6, []),
        ("0a0605240307 0141", None, ["24"]),
        ("0a0606052403070141", 6, ["24"]),
        ("0a0606240407024142", None, ["24"]),
        ("0aff", "ff", []),
        ("0a068106240407024142", None, ["24"]),
        ("0a06820006240407024142", None, ["24"]),
    ],
)
def test_minutes_before_a_container(data: str, minutes: object, tags: list[str]) -> None:
    raw = h(data)
    apdu = decode(h("04ff") + bytes([len(raw)]) + raw)
    assert apdu.get("timeout_min") == minutes
    assert [t.tag for t in apdu.tlv] == tags


@pytest.mark.parametrize(
    ("data", "version", "code"),
    [
        ("dc", None, "dc"),
        ("f0", None, "f0"),  # end of day due, no version
        ("f00600", None, "f0"),
        ("f0f0f13100", "1", "00"),
        ("f0f0f131f0", "1", "f0"),
        ("f0f0f0f6", "", "f6"),
        ("00060 41f4401aa", None, "00"),
    ],
)
def test_status_with_and_without_a_version(data: str, version: str | None, code: str) -> None:
    raw = h(data.replace(" ", ""))
    apdu = decode(h("060f") + bytes([len(raw)]) + raw, "0501")
    assert apdu.get("sw_version") == version
    assert apdu.text("terminal_status") == code
    assert encode(apdu) == h("060f") + bytes([len(raw)]) + raw


def test_a_status_without_anything() -> None:
    assert decode(h("060f00"), "0501").get("terminal_status") is None


def test_an_unknown_bitmap_ends_the_reading() -> None:
    apdu = status("2700 ff 0102")
    assert apdu.integer("result") == 0
    assert apdu.rest == h("ff0102")
    with pytest.raises(ValueError, match="not kept"):
        encode(apdu)


def test_low_nibbles_count_and_high_ones_are_sent_as_f() -> None:
    assert status("8b00024100").text("card_name") == "A"
    assert status("8b00024100").items == status("8bf0f24100").items
    built = build("040f", {"text": "abc"})
    assert encode(built)[3:] == h("3cf0f0f3") + b"abc"


def test_error_texts_come_in_two_character_sets() -> None:
    for raw in ("Gesch\u00e4ft".encode("cp437"), "Gesch\u00e4ft".encode()):
        text = bytes([len(raw)]) + raw
        apdu = status("06" + bytes([len(text) + 2]).hex() + "1f17" + text.hex())
        assert apdu.tag_text("1f17") == "Gesch\u00e4ft"


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        ("", {}),
        ("24.4", {"temperature": "24.4"}),
        ("9.5", {"temperature": "9.5"}),
        ("3.1224.4", {"battery_voltage": "3.12", "temperature": "24.4"}),
        ("3.129.5", {"battery_voltage": "3.12", "temperature": "9.5"}),
        ("24.45", {"temperature": "24.45"}),
    ],
)
def test_feigs_system_information(tail: str, found: dict[str, str]) -> None:
    text = f"17FD1E3CGER-APP-v2.0.9   52523535{tail}".encode()
    data = h("060f") + bytes([len(text)]) + text
    apdu = decode(data, "0fa1")
    head = {"device_id": "17FD1E3C", "sw_version": "GER-APP-v2.0.9   ", "tid": "52523535"}
    assert apdu.parts == {**head, **found}
    assert encode(apdu) == data


def test_what_feig_cuts_off() -> None:
    assert decode(h("060f0331 3746".replace(" ", "")), "0fa1").text("device_id") == "17F"


def test_totals_that_are_cut_off_are_told_raw() -> None:
    fields = decode_or_error("040f0660f0f0f20102")["fields"]
    assert fields == {"totals": "0102"}


def test_a_card_that_does_not_pay() -> None:
    """06 E6 names it in its Abort."""
    apdu = decode(h("061e18 7a 0615 4c0400112233 1f45020578 e608 1f120102 1f4c0101"))
    assert apdu.text("error") == "7a"
    assert [t.tag for t in apdu.tlv] == ["4c", "1f45", "e6"]
    found = results.card(apdu, "EUR")
    assert found is not None
    assert (found.kind, found.token) == (CardKind.RFID, h("00112233"))
    assert results.card(decode(h("061e016c")), "EUR") is None


def test_a_request_that_names_no_file() -> None:
    fields = decode_or_error("040c0506032d011d")
    assert "error" in fields
    assert "file_id" not in present(decode(h("040c0406022d00")))


def test_negative_answers_keep_their_data() -> None:
    assert encode(decode(h("841e036f0978"))) == h("841e036f0978")
    assert decode(h("841e017d")).raw == h("7d")
    assert decode(h("841e017d")).name == "Negative Answer 1E"
    assert decode(h("848300")).name == "Unknown Command"
    assert decode(h("123400")).name == "Unknown Command"
    assert decode(h("8000010d")).raw == h("0d")


def test_extended_length_is_read_also_where_it_is_not_needed() -> None:
    assert decode(h("040fff02002700")) == decode(h("040f022700"))


@pytest.mark.parametrize("size", [254, 255, 256, 40_000])
def test_lengths_at_their_edges(size: int) -> None:
    apdu = Apdu("06d1", {"attribute": "00"}, raw=b"x" * (size - 1))
    data = encode(apdu)
    assert len(data) == size + (3 if size < 255 else 5)
    assert decode(data) == apdu


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most 65535"):
        encode(Apdu("06d1", raw=b"x" * 65_536))


@pytest.mark.parametrize("size", [0, 0x7F, 0x80, 0xFF, 0x100, 30_000])
def test_tlv_lengths_at_their_edges(size: int) -> None:
    apdu = Apdu("06d3", items=build("06d3", {}, (Tlv("07", b"x" * size),)).items)
    again = decode(encode(apdu))
    assert again == apdu
    assert again.values("07") == [b"x" * size]


def test_values_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack_bcd_int(10**12, 6)
    with pytest.raises(ValueError, match="does not fit"):
        pack_bcd_int(-1, 6)


# --- round trip -----------------------------------------------------------------------------------

tlvs = st.recursive(
    st.builds(
        Tlv, st.sampled_from(["07", "1f17", "4c", "1f8000", "ff40", "41"]), st.binary(max_size=200)
    ),
    lambda inner: st.builds(
        Tlv, st.sampled_from(["60", "e4", "24", "62"]), st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=6,
)
plain = [b for b in BMPS.values() if b.card is None and b.form is not Form.TLV]
strict = {"amount_minor"}


@st.composite
def messages(draw: st.DrawFn) -> Apdu:
    items = []
    for bmp in draw(st.lists(st.sampled_from(plain), max_size=6)):
        size = bmp.size if bmp.form is Form.FIXED else draw(st.integers(0, 99))
        value = draw(st.binary(min_size=size, max_size=size))
        if bmp.name in strict:
            value = bytes.fromhex(f"{draw(st.integers(0, 10**12 - 1)):012d}")
        items.append(codec.Item(bmp.number, value))
    if draw(st.booleans()):
        items.append(codec.Item(0x06, tuple(draw(st.lists(tlvs, max_size=4)))))
    return Apdu("040f", {}, tuple(items))


@given(messages())
def test_what_is_encoded_decodes_to_the_same(apdu: Apdu) -> None:
    data = encode(apdu)
    try:
        again = decode(data)
    except Malformed:
        pytest.fail(f"{data.hex()} is ours")
    assert encode(again) == data
    assert [i.number for i in again.items] == [i.number for i in apdu.items]


def test_parts_and_bitmaps_by_name() -> None:
    apdu = build("0600", {"password": "123456", "config_byte": "de", "currency": "978"})
    assert encode(apdu) == h("060006123456de0978")
    assert apdu.get("nothing of the kind") is None
    assert apdu.integer("password") is None
    assert apdu.text("password") == "123456"
    assert apdu.tag_text("4c") is None
    assert tag("4c", hex_value="08").show() == "08"
    twice = Apdu("040f", items=build("040f", {}, (Tlv("e4", ()), tag("e4", hex_value="07"))).items)
    assert twice.tag_text("e4") == "07", "the first that has a value"
    assert build("040f", {"amount_minor": 5}, ()).tlv == ()


def test_decoding_takes_colons_spaces_and_capitals() -> None:
    assert decode_text("06:0F:01 DC", "0501") == decode_text("060f01dc", "0501")
    assert decode_or_error("060F01DC", "0501")["fields"] == {"terminal_status": "dc"}
