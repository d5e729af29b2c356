"""Every command the driver sends: its bytes as the document has them, and any values there and back."""

from dataclasses import replace
from datetime import datetime
from inspect import getmembers, isfunction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ports import HoldRef
from agent.values import Money
from drivers.terminal.zvt import commands as c
from drivers.terminal.zvt.apdu import Apdu, walk
from drivers.terminal.zvt.codec import build, decode, encode
from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.primitives import charset_bytes
from drivers.terminal.zvt.profile import load_profile
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.tables import BMPS, BY_NAME, Card, Form

PASSWORD = "123456"
GENERIC, FEIG = load_profile("generic", {}), load_profile("feig_cvend", {})
EUR25, EUR12 = Money(2500, "EUR"), Money(1295, "EUR")
HELD = HoldRef("52523535", 231, trace=975, date="0405", time="225558")
LONG = HoldRef("52523535", 8, trace=10015008)
TALKATIVE = replace(
    GENERIC,
    print_blocks=True,
    print_columns=40,
    charset="utf-8",
    offers_charset=True,
    message_numbers=True,
)
EVERYTHING = c.Offer((16, 2), (20, 4), ("de", "en"), "c000", "f100", "00", "02")
BOOKS = replace(GENERIC, aid_in_booking=True, trace_in_reversal=True)

# Bytes of the document, of captures (the Feig ones), or put together by hand after the tables.
SENT: dict[str, tuple[Apdu, str]] = {
    "registration": (c.registration(PASSWORD, "EUR", FEIG), "060006 123456 de 0978"),
    "registration, all": (
        c.registration(PASSWORD, "EUR", TALKATIVE, EVERYTHING),
        "060044 123456 be 0978 0302 063a 10021602 11022004 120140 1401fe 1a021000 26040a0206d3"
        " 27031401fe 280815024445 1502454e 4002c000 1f0402f100 1f050100 1f7303000000",
    ),
    "log_off": (c.log_off(), "060200"),
    "status": (c.status(PASSWORD, GENERIC), "050105 123456 0304"),
    "status, cards": (
        c.status(PASSWORD, GENERIC, contactless=True),
        "05010b 123456 0304 06041f720101",
    ),
    "abort": (c.abort(), "06b000"),
    "baud": (c.baud(115_200), "0840 01 07"),
    "read_card": (c.read_card(5, GENERIC), "06c00f 05 1910 fc02 06081f1501d01f600107"),
    "card_poll": (
        c.card_poll(30, "EUR", GENERIC),
        "06e616 04000000000000 490978 1940 06081f5b011e1f600107",
    ),
    "card_poll_payment": (
        c.card_poll_payment(EUR25, 30, GENERIC, "01", "0231"),
        "06e61f 04000000002500 490978 1940 06111f1f0202311f5b011e1f6001071f6d0101",
    ),
    "activate_reader": (c.activate_reader(True), "085002faff"),
    "activate_reader, off": (c.activate_reader(False), "085002fa00"),
    "close_card_session": (c.close_card_session(), "06c500"),
    "payment": (c.payment(EUR25, "S1", GENERIC), "06010c 04000000002500 490978 1940"),
    "payment, vending": (
        c.payment(EUR25, "S1", FEIG, wait_s=30, waits_max=3, card_of_before=True, sync=""),
        "060121 04000000002500 490978 1942 011e 0203 060f1f1f00e90a1f620241431f63025331",
    ),
    "reserve": (c.reserve(EUR25, "S1", GENERIC), "06220c 04000000002500 490978 1940"),
    "reserve, Feig": (
        c.reserve(EUR25, "384HH2", FEIG),
        "06221e 04000000002500 490978 1940 0610e90e1f620241431f6306333834484832",
    ),
    "reserve, synchronous": (
        c.reserve(EUR25, "S1", GENERIC, card_of_before=True, sync="0231"),
        "062213 04000000002500 490978 1942 06051f1f020231",
    ),
    "extend": (
        c.extend(HELD, EUR12, "750071", "S1", GENERIC),
        "06221f 04000000001295 490978 1940 0b000975 3b3735303037310000 06041f060103",
    ),
    "extend, long trace": (
        c.extend(LONG, EUR12, None, "S1", GENERIC),
        "062219 04000000001295 490978 1940 060b1f2b04100150081f060103",
    ),
    "capture": (
        c.capture(HELD, Money(1205, "EUR"), FEIG),
        "06230f 870231 04000000001205 490978 1940",
    ),
    "capture, generic": (
        c.capture(HELD, Money(1205, "EUR"), GENERIC, aid="750071"),
        "06231a 870231 04000000001205 490978 0b000975 3b3735303037310000",
    ),
    "capture, Feig": (
        c.capture(replace(HELD, receipt=491), EUR12, FEIG, reference="MF2246"),
        "062321 870491 04000000001295 490978 1940 0610e90e1f620241431f63064d4632323436",
    ),
    "book_total": (
        c.book_total(HELD, EUR12, replace(GENERIC, trace_in_reversal=False, aid_in_booking=False)),
        "06240d 870231 04000000001295 490978",
    ),
    "book_total, card complete": (
        c.book_total(HELD, EUR12, BOOKS, aid="750071"),
        "062426 870231 04000000001295 490978 0b000975 3b3735303037310000 0c225558 0d0405 2952523535",
    ),
    "release": (c.release(HELD, "EUR", FEIG), "062508 870231 490978 1940"),
    "release, long trace": (
        c.release(LONG, "EUR", GENERIC),
        "06250f 870008 490978 06071f2b0410015008",
    ),
    "release, no trace": (
        c.release(replace(HELD, trace=None), "EUR", GENERIC),
        "062506 870231 490978",
    ),
    "release_foreign": (
        c.release_foreign(EUR25, 975, "750071"),
        "06261d 04000000002500 490978 0b000975 3b3735303037310000 06041f060102",
    ),
    "enquiry": (c.enquiry(), "062305 87ffff 0600"),
    "reversal": (c.reversal(PASSWORD, HELD, EUR25), "063010 123456 870231 04000000002500 490978"),
    "refund": (c.refund(PASSWORD, EUR25, GENERIC), "06310f 123456 04000000002500 490978 1940"),
    "refund, AID": (
        c.refund(PASSWORD, EUR25, GENERIC, "750071"),
        "063118 123456 04000000002500 490978 1940 3b3735303037310000",
    ),
    "repeat": (c.repeat(PASSWORD), "062005 123456 0303"),
    "repeat, printed": (
        c.repeat(PASSWORD, printed=True, receipt="01"),
        "06200b 123456 0301 06041f010101",
    ),
    "end_of_day": (c.end_of_day(PASSWORD), "065003123456"),
    "totals": (c.totals(PASSWORD), "061003123456"),
    "diagnosis": (c.diagnosis("04"), "067005 06031b0104"),
    "initialisation": (c.initialisation(PASSWORD), "069303123456"),
    "set_tid": (c.set_tid(PASSWORD, "52523535"), "061b08 123456 2952523535"),
    "set_tid, at the terminal": (c.set_tid(PASSWORD, None), "061b03 123456"),
    "reset": (c.reset(), "061800"),
    "print_setup": (c.print_setup(), "061a00"),
    "selftest": (c.selftest(), "067900"),
    "set_clock": (
        c.set_clock(PASSWORD, datetime(2026, 11, 21, 7, 37, 22)),
        "06910b 123456 aa261121 0c073722",
    ),
    "language": (c.language("en"), "08300101"),
    "change_configuration": (
        c.change_configuration([("ff40", bytes.fromhex("123456")), ("ff48", b"\x3c\x01")]),
        "08130f 060d e40b ff4003123456 ff48023c01",
    ),
    "write_file": (
        c.write_file(PASSWORD, {0x22: 300, 0x23: 70_000}),
        "08141d 123456 0618 2d0a 1d0122 1f00040000012c 2d0a 1d0123 1f000400011170",
    ),
    "feig_info": (c.feig_info(), "0fa102 0001"),
    "feig_reset": (c.feig_reset(PASSWORD), "0fa105 123456 0255"),
    "display": (c.display(["", "Hello"], 5), "06e00d f005 f1f0f0 f2f0f548656c6c6f"),
    "display, UTF-8": (c.display(["2 €"], 0, "utf-8"), "06e00a f000 f1f0f53220e282ac"),
    "display_key": (c.display_key(["OK?"], 30, beeps=2), "06e10a f01e f1f0f34f4b3f f902"),
}


@pytest.mark.parametrize("name", SENT)
def test_the_bytes_of_a_command(name: str) -> None:
    apdu, expected = SENT[name]
    data = encode(apdu)
    assert data.hex() == expected.replace(" ", "")
    again = decode(data)
    assert encode(again) == data
    assert (again.parts, again.items) == (apdu.parts, apdu.items)


def test_there_is_a_builder_for_every_sequence_and_bytes_for_every_builder() -> None:
    tested = {name.split(",")[0] for name in SENT}
    assert tested == set(SEQUENCES)
    for name, (apdu, _) in SENT.items():
        assert apdu.command == SEQUENCES[name.split(",")[0]].command, name
    built = {n for n, f in getmembers(c, isfunction) if n in SEQUENCES}
    assert built == set(SEQUENCES)


def test_no_command_has_a_field_for_card_data() -> None:
    for message in MESSAGES.values():
        for name in message.fields:
            assert BY_NAME[name].card is None, (message.name, name)
    for card in Card:
        if card.value in BY_NAME:
            with pytest.raises(ValueError, match="has no field"):
                build("0601", {card.value: "4111"})


def test_fields_a_command_does_not_have_and_values_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="0625 has no field pump"):
        build("0625", {"pump": 1})
    with pytest.raises(ValueError, match="receipt has 2 bytes, not 3"):
        build("0625", {"receipt": "123456"})
    with pytest.raises(ValueError, match="expected one of"):
        c.baud(4_800)
    with pytest.raises(ValueError, match="expected one of"):
        c.language("xx")
    with pytest.raises(ValueError, match="cannot be extended"):
        c.extend(HoldRef("1", 2), EUR12, None, "", GENERIC)
    with pytest.raises(ValueError, match="codec can't encode"):
        build("06e0", {"line_1": "日"}, charset="latin-1")


def test_fields_stand_in_the_documents_order_however_they_are_given() -> None:
    values = {"payment_type": "40", "currency": "978", "amount_minor": 5, "receipt": "0231"}
    assert encode(build("0623", values)) == encode(build("0623", dict(reversed(values.items()))))


# --- any values -----------------------------------------------------------------------------------

profiles = st.builds(
    replace,
    st.sampled_from([GENERIC, FEIG]),
    print_blocks=st.booleans(),
    print_columns=st.integers(16, 64),
    charset=st.sampled_from(["cp437", "latin-1", "utf-8"]),
    offers_charset=st.booleans(),
    message_numbers=st.booleans(),
    trace_in_reversal=st.booleans(),
    release_payment_type=st.booleans(),
    aid_in_booking=st.booleans(),
    reference_tag=st.sampled_from(["", "AC"]),
)
amounts = st.integers(0, 10**12 - 1).map(lambda minor: Money(minor, "EUR"))
digits = st.text("0123456789", min_size=4, max_size=4)
refs = st.builds(
    HoldRef,
    terminal_id=st.sampled_from(["", "52523535"]),
    receipt=st.integers(0, 9_999),
    trace=st.none() | st.integers(0, 99_999_999),
    date=st.none() | digits,
    time=st.none() | st.just("225558"),
)
aids = st.none() | st.text("0123456789", max_size=8)
references = st.text("ABCDEFGHIJ0123456789", max_size=20)
passwords = st.text("0123456789", min_size=6, max_size=6)
texts = st.lists(st.text(max_size=50), max_size=10)
syncs = st.none() | st.just("") | digits
sizes = st.tuples(st.integers(0, 99), st.integers(0, 99))
offers = st.builds(
    c.Offer,
    st.none() | sizes,
    st.none() | sizes,
    st.lists(st.sampled_from(["de", "fr"]), max_size=3).map(tuple),
    st.sampled_from(["", "c000"]),
    st.sampled_from(["", "f100"]),
    st.sampled_from(["", "00"]),
    st.sampled_from(["", "02"]),
)
charsets = st.sampled_from(["cp437", "latin-1", "utf-8"])
seconds = st.integers(0, 255)
BUILT: list[st.SearchStrategy[Apdu]] = [
    st.builds(c.registration, passwords, st.sampled_from(["EUR", "CHF"]), profiles, offers),
    st.builds(c.status, passwords, profiles, contactless=st.booleans()),
    st.builds(c.read_card, seconds, profiles),
    st.builds(c.card_poll, st.integers(0, 999), st.just("EUR"), profiles, st.sampled_from(["", "01"])),
    st.builds(c.card_poll_payment, amounts, seconds, profiles, st.just(""), syncs),
    st.builds(
        c.payment, amounts, references, profiles, wait_s=st.none() | seconds,
        waits_max=st.none() | seconds, card_of_before=st.booleans(), sync=syncs,
    ),
    st.builds(c.reserve, amounts, references, profiles, card_of_before=st.booleans(), sync=syncs),
    st.builds(c.extend, refs.filter(lambda r: r.trace is not None), amounts, aids, references, profiles),
    st.builds(c.capture, refs, amounts, profiles, aid=aids, reference=references),
    st.builds(c.book_total, refs, amounts, profiles, aid=aids, reference=references),
    st.builds(c.release, refs, st.just("EUR"), profiles),
    st.builds(c.release_foreign, amounts, st.integers(0, 99_999_999), st.text("0123456789", max_size=8)),
    st.builds(c.reversal, passwords, refs, amounts),
    st.builds(c.refund, passwords, amounts, profiles, aids),
    st.builds(c.repeat, passwords, printed=st.booleans(), receipt=st.sampled_from(["", "01"])),
    st.builds(c.end_of_day, passwords),
    st.builds(c.totals, passwords),
    st.builds(c.initialisation, passwords),
    st.builds(c.diagnosis, st.sampled_from(["01", "02", "05"])),
    st.builds(c.set_tid, passwords, st.none() | st.just("52523535")),
    st.builds(c.set_clock, passwords, st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1))),
    st.builds(
        c.change_configuration,
        st.lists(st.tuples(st.sampled_from(["ff40", "ff41", "ff48"]), st.binary(max_size=300)), max_size=4),
    ),
    st.builds(
        c.write_file, passwords, st.dictionaries(st.integers(0, 255), st.integers(0, 2**32 - 1), max_size=20)
    ),
    st.builds(c.feig_reset, passwords),
    st.builds(c.display, texts, st.integers(0, 999), charsets),
    st.builds(c.display_key, texts, st.integers(0, 999), charsets, st.none() | seconds),
]  # fmt: skip


@given(st.one_of(BUILT))
def test_any_command_comes_back_as_it_was(apdu: Apdu) -> None:
    data = encode(apdu)
    again = decode(data, charset=apdu.charset)
    assert encode(again) == data
    assert again.parts == apdu.parts
    assert again.items == apdu.items or any(t.tag.startswith("ff") for t in walk(apdu.tlv))
    assert again.dropped == ()
    for item in apdu.items:
        name = BMPS[item.number].name
        assert again.get(name) == apdu.get(name)


@given(st.data())
def test_any_value_of_any_field_comes_back(data: st.DataObject) -> None:
    """What the codec shows of a field packs to the same bytes."""
    bmp = data.draw(
        st.sampled_from([b for b in BMPS.values() if b.form is not Form.TLV and not b.card])
    )
    charset = data.draw(charsets)
    size = bmp.size if bmp.form is Form.FIXED else data.draw(st.integers(0, 99))
    raw = data.draw(st.binary(min_size=size, max_size=size))
    try:
        apdu = decode(_status(bmp.number, bmp.form, raw), charset=charset)
    except ValueError:
        assert bmp.name == "amount_minor", "only amounts are refused"
        return
    assert encode(apdu) == _status(bmp.number, bmp.form, raw)
    shown = apdu.get(bmp.name)
    assert shown is not None
    if bmp.name in ("aid", "card_name"):
        raw = raw.split(b"\0", 1)[0].ljust(bmp.size, b"\0")  # a zero ends it
    if bmp.pack is charset_bytes and charset == "utf-8":
        return  # a byte may be no character
    again = build("040f", {bmp.name: shown}, charset=charset)
    assert encode(again) == _status(bmp.number, bmp.form, raw)


def _status(number: int, form: Form, raw: bytes) -> bytes:
    count = {Form.FIXED: 0, Form.LL: 2, Form.LLL: 3}[form]
    head = bytes(0xF0 | int(d) for d in f"{len(raw):0{count}d}") if count else b""
    body = bytes([number]) + head + raw
    return bytes.fromhex("040f") + bytes([len(body)]) + body
