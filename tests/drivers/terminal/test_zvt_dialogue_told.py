"""What a terminal says on the way: its state, its receipts, its clock, and the files it asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.zvt_talk import ABORTED, ACK, END, HOLD, NO, OK, RESULT, Talk

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build, decode, encode, tag
from drivers.terminal.zvt.outcomes import Asked, Completed, Printed, Progress
from drivers.terminal.zvt.paper import FEEDS_MAX, LINES_MAX, Paper
from drivers.terminal.zvt.transfer import BLOCK_FRAME_BYTES, Files


def line(attribute: int, text: bytes, tail: str = "") -> str:
    return encode(Apdu("06d1", {"attribute": f"{attribute:02x}"}, raw=text)).hex() + tail


def d1(attribute: int, text: bytes, tail: bytes = b"") -> str:
    data = bytes([attribute]) + text + tail
    return f"06d1{len(data):02x}{data.hex()}"


def block(*entries: tuple[int | None, bytes | None], kind: str = "", charset: str = "") -> str:
    texts = []
    for attribute, text in entries:
        texts += [] if attribute is None else [tag("09", raw=bytes([attribute]))]
        texts += [] if text is None else [tag("07", raw=text)]
    tags = [tag("1f07", hex_value=kind)] if kind else []
    tags += [tag("14", hex_value=charset)] if charset else []
    return encode(build("06d3", {}, (*tags, tag("25", *texts)))).hex()


# --- 04 FF ----------------------------------------------------------------------------------------


def test_progress_and_its_texts() -> None:
    talk = Talk().pt(
        OK, "04ff010e", "04ff02d301", "04ff11ff02060d240b070941626765 6c65686e74".replace(" ", "")
    )
    assert talk.told == [
        Progress(0x0E),
        Progress(0xD3, 1),
        Progress(0xFF, 2, ("Abgelehnt",)),
    ]
    assert Talk().pt(OK, "04ff00").told == [Progress(0xFF)]


@pytest.mark.parametrize(
    ("charset", "raw"), [("cp437", "8181"), ("latin-1", "fcfc"), ("utf-8", "c3bcc3bc")]
)
def test_texts_come_in_the_terminals_character_set(charset: str, raw: str) -> None:
    size = len(raw) // 2
    message = f"04ff{size + 7:02x}0e06{size + 4:02x}24{size + 2:02x}07{size:02x}{raw}"
    message = message.replace(f"04ff{size + 7:02x}", f"04ff{size + 7:02x}")
    (told,) = Talk(charset=charset).pt(OK, message).told
    assert told == Progress(0x0E, None, ("üü",))


def test_texts_tell_no_card_number_and_steer_nothing() -> None:
    text = b"Karte 4111111111111111\n\x1b[2Jok"
    message = (
        f"04ff{len(text) + 7:02x}0e06{len(text) + 4:02x}24{len(text) + 2:02x}07{len(text):02x}"
    )
    (told,) = Talk().pt(OK, message + text.hex()).told
    assert isinstance(told, Progress)
    assert told.lines == ("Karte *", " [2Jok")


# --- receipts -------------------------------------------------------------------------------------


def test_lines_until_the_last_one() -> None:
    talk = Talk().pt(OK, d1(0x40, b"Kundenbeleg"), d1(0x02, b"Betrag"), d1(0xC0, b"Danke"))
    assert talk.answers == [OK] * 3
    assert talk.told == [Printed(None, ("Kundenbeleg", "  Betrag", "Danke"), True)]


def test_a_feed_and_what_never_ends() -> None:
    talk = Talk().pt(OK, d1(0x00, b"a"), d1(0xFF, b"\x02"), d1(0x80, b"b"), "06d100", END)
    assert talk.told == [Printed(None, ("a", "", "", "b", ""), False)]
    many = Talk().pt(OK, d1(0xFF, b"\xff"), d1(0xFF, b""), END)
    assert many.told == [Printed(None, ("",) * (FEEDS_MAX + 1), False)]


def test_lines_with_a_container_behind_them() -> None:
    """Card complete: 1F07 behind the text."""
    talk = Talk(charset="latin-1").pt(
        OK, d1(0x00, b"Stra\xdfe", b"\x06\x04\x1f\x07\x01\x02"), d1(0xC0, b"Ende")
    )
    assert talk.told == [Printed(2, ("Straße", "Ende"), True)]


def test_a_text_that_only_looks_as_if_there_were_one() -> None:
    assert decode(bytes.fromhex(d1(0x00, b"a\x06\x05b"))).raw == b"a\x06\x05b"
    assert decode(bytes.fromhex(d1(0x00, b"a\x06"))).raw == b"a\x06"


def test_blocks_and_their_kinds() -> None:
    talk = Talk().pt(
        OK,
        block((0x40, b"H\x84ndlerbeleg"), (0x03, b"12,95"), (0x80, None), kind="01"),
        block((None, b"Kundenbeleg"), kind="02"),
        block((0x40, "Grüße".encode()), (0xC0, None), charset="fe"),
        "06d300",
    )
    assert talk.told == [
        Printed(1, ("Händlerbeleg", "   12,95"), True),
        Printed(2, ("Kundenbeleg",), False),
        Printed(None, ("Grüße",), True),
    ]


def test_what_is_no_text_in_a_block() -> None:
    inner = tag("25", tag("1f07", hex_value="02"), tag("07", raw=b"a"), tag("09", raw=b""))
    talk = Talk().pt(OK, encode(build("06d3", {}, (inner,))).hex())
    assert talk.told == [Printed(2, ("a",), False)]


def test_a_block_after_lines_that_never_ended() -> None:
    talk = Talk().pt(OK, d1(0x00, b"a"), block((None, b"b"), (0x80, None), kind="03"), ABORTED)
    assert talk.told == [Printed(None, ("a",), False), Printed(3, ("b",), True)]


@pytest.mark.parametrize("message", [d1(0xC0, b"x"), block((None, b"x"), (0x80, None))])
def test_a_block_sent_twice_is_printed_once(message: str) -> None:
    """Our ACK was lost, or our answer's: it is acknowledged again, and neither printed nor answered again."""
    talk = Talk().pt(OK)
    talk.deaf = True
    talk.pt(message, message)
    assert talk.answers == [OK]
    talk._bytes(ACK)
    talk.deaf = False
    assert len(talk.told) == 1
    talk.pt(message)
    assert len(talk.told) == 2, "after that it is a second one"


def test_receipts_have_a_bound() -> None:
    paper = Paper()
    told = []
    for _ in range(2 * LINES_MAX + 1):
        told += paper.take(Apdu("06d1", {"attribute": "00"}, raw=b"x"))
    assert [len(p.lines) for p in (*told, *paper.rest())] == [LINES_MAX, LINES_MAX, 1]
    entries = [(None, b"x")] * (LINES_MAX + 1)
    long = Paper().take(decode(bytes.fromhex(block(*entries))))
    assert [len(p.lines) for p in long] == [LINES_MAX, 1]


@given(st.binary(max_size=60), st.sampled_from(["06d1", "06d3"]))
def test_any_receipt_is_taken(body: bytes, command: str) -> None:
    talk = Talk().pt(OK, f"{command}{len(body):02x}{body.hex()}")
    assert talk.answers == [OK]
    assert all(isinstance(told, Printed) for told in talk.pt(END).told)


def test_a_receipt_has_no_card_number() -> None:
    number = b"4111 1111 1111 1111"
    talk = Talk().pt(OK, d1(0xC0, number), block((None, number), (0x80, None)))
    assert [p.lines for p in talk.told if isinstance(p, Printed)] == [("*",), ("*",)]


def test_what_is_said_before_the_answer_is_not_told() -> None:
    assert Talk().pt(d1(0xC0, b"old"), "04ff010e").told == []


def test_receipts_before_the_result_and_after_it() -> None:
    """Feig prints first; others after the answer to 04 0F."""
    for words in ((d1(0xC0, b"x"), RESULT), (RESULT, d1(0xC0, b"x"))):
        talk = Talk().pt(OK, *words).decide(True).pt(END)
        assert isinstance(talk.outcome, Completed)
        assert talk.told == [Printed(None, ("x",), True)]


# --- the clock ------------------------------------------------------------------------------------


def test_the_terminal_tells_the_time() -> None:
    diagnosis = Talk(build("0670", {}), "diagnosis").pt(OK, "040108aa2611210c073722", END)
    assert diagnosis.answers == [OK, OK]
    assert diagnosis.told == [Asked("0401", {"date": "261121", "time": "073722"})]
    odd = Talk(build("0670", {}), "diagnosis").pt(OK, "040104aaffffff", "040100", END)
    assert odd.told == [Asked("0401", {}), Asked("0401", {})]


# --- files ----------------------------------------------------------------------------------------

WRITE = build("0814", {"password": "123456"})


def request(file_id: str, offset: int, longest: str = "") -> str:
    tags = [tag("1d", hex_value=file_id), tag("1e", hex_value=f"{offset:08x}")]
    tags += [tag("1a", hex_value=longest)] if longest else []
    return encode(build("040c", {}, (tag("2d", *tags),))).hex()


def writing(contents: dict[int, bytes], max_apdu: int) -> Talk:
    return Talk(WRITE, "write_file", files=Files(contents, max_apdu)).pt(OK)


@pytest.mark.parametrize(
    ("size", "max_apdu"), [(1, 255), (1_000, 255), (5_000, 1_024), (70_000, 65_535)]
)
def test_a_file_in_blocks(size: int, max_apdu: int) -> None:
    content = bytes(i * 7 % 251 for i in range(size))
    talk = writing({0x23: content}, max_apdu)
    got = b""
    while len(got) < size:
        talk.pt(request("23", len(got)))
        answer = bytes.fromhex(talk.said[-1])
        assert len(answer) <= max_apdu
        apdu = decode(answer)
        assert (apdu.tag_text("1d"), apdu.tag_text("1e")) == ("23", f"{len(got):08x}")
        (part,) = apdu.values("1c")
        assert part, "something came"
        got += part
    assert got == content
    assert isinstance(talk.pt(END).outcome, Completed)
    asked = [told.values for told in talk.told if isinstance(told, Asked)]
    assert sum(int(values["length"]) for values in asked) == size


def test_the_terminal_may_want_smaller_blocks() -> None:
    talk = writing({0x23: b"x" * 4_000}, 4_096)
    talk.pt(request("23", 0, "0100"))
    (part,) = decode(bytes.fromhex(talk.said[-1])).values("1c")
    assert len(part) == 256 - BLOCK_FRAME_BYTES
    tiny = writing({0x23: b"x" * 4_000}, 4_096).pt(request("23", 0, "01"))
    assert decode(bytes.fromhex(tiny.said[-1])).values("1c") == [b"x"]


@pytest.mark.parametrize(
    "asked",
    [request("24", 0), request("23", 5), request("23", 2**31), "040c00", "040c0506032d011d"],
)
def test_what_there_is_not(asked: str) -> None:
    talk = writing({0x23: b"hello"}, 1_024).pt(asked)
    assert talk.answers == [NO]
    assert talk.told == []
    assert Files({0x23: b"hello"}, 9).sizes == {0x23: 5}


def test_nothing_was_offered() -> None:
    assert Talk(WRITE, "write_file").pt(OK, request("23", 0)).answers == [NO]
    assert Talk(HOLD).pt(OK, request("23", 0)).answers == ["848300"]
