"""What was agreed at Registration, and what the terminal's messages then look like: texts, prints,
message numbers, technologies, card data."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.terminal_ecr import OK, Bench, Told, frame, hexa, terminal

from hil.terminal import codec, sequence


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        bench.ecr.register("36")
        yield bench


def register_tags(bench: Bench, tags: str, config: str = "b6") -> Told:
    return bench.ecr.register(config, f"097806{len(tags) // 2:02x}{tags}")


# --- Texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "charset", "language"),
    [
        ("1401fe", 0xFE, 1),
        ("1401ff", 0xFF, 1),
        ("2706" + "140120" + "140101", 0x01, 1),  # the first of its list that the terminal knows
        ("2706" + "140101" + "1401fe" + "1401ff", 0xFF, 1),  # the one beside the list counts
        ("2808" + "15024445" + "15024652", 0xFF, 0),  # English is not offered: German is
        ("2804" + "15024553", 0xFF, 1),
    ],
)
def test_charset_and_language_of_the_registration(
    bench: Bench, tags: str, charset: int, language: int
) -> None:
    register_tags(bench, tags)
    state = bench.state()
    assert (state["charset"], state["language"]) == (charset, language)


@pytest.mark.parametrize(
    ("switch", "tags", "codec_name"),
    [
        ("agreed", "", "cp437"),
        ("agreed", "1401fe", "utf-8"),
        ("agreed", "140101", "latin-1"),
        ("latin-1", "", "latin-1"),  # whatever was agreed
        ("utf-8", "140101", "utf-8"),
    ],
)
def test_texts_come_in_the_charset(bench: Bench, switch: str, tags: str, codec_name: str) -> None:
    register_tags(bench, tags, "36")
    bench.ask("set", text_charset=switch, extended_error_utf8=True)
    bench.ecr.command("08300100")
    bench.tap_and_read("expired")
    told = bench.ecr.reserve()
    text = "Karte ungültig"
    assert text.encode(codec_name) in told.result().apdu
    assert text.encode() in bytes.fromhex(told.messages[-1])  # 1F17 all the same in UTF-8


# --- Prints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "config", "kind"),
    [
        ("", "b6", "06d1"),
        ("26040a0206d3", "b6", "06d3"),
        ("26040a0206d1", "b6", "06d1"),
        ("26080a0206d10a0206d3", "b6", "06d3"),
        ("26040a02040f", "b6", None),  # it names what it takes, and print commands are not in it
        ("26040a0206d3", "36", None),
        ("26040a0206d3", "b4", None),  # it takes no payment receipts
    ],
)
def test_print_commands_as_offered(bench: Bench, tags: str, config: str, kind: str | None) -> None:
    register_tags(bench, tags, config)
    bench.ask("tap", card="visa")
    kinds = set(bench.ecr.pay(500).kinds)
    assert kinds - {"040f", "060f"} == ({kind} if kind else set())


def test_lines_are_as_wide_as_the_printer(bench: Bench) -> None:
    register_tags(bench, "120116" + "0800")
    bench.ask("tap", card="visa")
    lines = [bytes.fromhex(m)[4:] for m in bench.ecr.pay(500).messages if m.startswith("06d1")]
    assert max(map(len, lines)) == 16
    assert bench.state()["printer_width"] == 16
    bench.ask("set", print_tags=True)
    bench.ask("tap", card="visa")
    tagged = [m for m in bench.ecr.pay(500).messages if m.startswith("06d1")]
    assert all(message.endswith("06041f070102") for message in tagged)


def test_a_signature_is_asked_for_only_where_offered(bench: Bench) -> None:
    bench.ask("set", signature=True)
    bench.ask("tap", card="visa")
    assert bench.ecr.pay(500).kinds == ["040f", "060f"]
    register_tags(bench, "26080a0206d00a0206d3", "36")
    bench.ask("tap", card="visa")
    assert bench.ecr.pay(500).kinds == ["06d0", "040f", "060f"]
    bench.ask("tap", card="visa")
    told = bench.ecr.pay(500, answers={"06d0": "846c00"})
    assert told.kinds == ["06d0", "040f", "061e"]
    assert bench.kinds() == ["payment", "payment", "payment", "auto_reversal"]


# --- Card data and tags ---------------------------------------------------------------------------


def test_tags_may_come_though_nobody_asked(bench: Bench) -> None:
    bench.ask("set", tlv_always=True)
    bench.ask("tap", card="visa")
    assert "1f2b" in bench.ecr.pay(500).messages[0]


def test_tracks_in_clear_only_by_switch(bench: Bench) -> None:
    track1 = b"B4111111111111111^".hex()
    for command in ("read", "pay"):
        bench.ask("set", clear_tracks=False)
        bench.ask("tap", card="visa")
        plain = bench.ecr.read_card() if command == "read" else bench.ecr.pay(500)
        assert "411111111111" not in plain.messages[0]
        bench.ask("set", clear_tracks=True)
        bench.ask("tap", card="visa")
        told = bench.ecr.read_card() if command == "read" else bench.ecr.pay(500)
        text = told.messages[0]
        assert "4111111111111111d2912201" in text  # track 2
        assert "014111111111111111d978" in text  # track 3
        assert track1 in text
        assert "0e2912" in text


def test_masks(bench: Bench) -> None:
    bench.ask("set", pan_mask="4")
    assert "22f1f0eeeeeeeeeeeeeee9999f" in bench.hold("girocard").apdu.hex()


@pytest.mark.parametrize(
    ("card", "how", "allowed", "seen"),
    [
        ("visa", None, "04", True),
        ("visa", "chip", "04", False),
        ("visa", "chip", "02", True),
        ("visa", "swipe", "07", True),
        ("rfid", None, "03", False),
        ("magstripe", None, "06", False),
        ("magstripe", None, "01", True),
    ],
)
def test_only_allowed_technologies_are_read(
    bench: Bench, card: str, how: str | None, allowed: str, seen: bool
) -> None:
    bench.ask("tap", card=card, how=how)
    bench.ask("set", read_limit_s=0.05)
    told = bench.ecr.command(f"06c00f001910fc0206081f1501d01f6001{allowed}", timeout_s=8)
    assert told.kinds == (["040f"] if seen else ["061e"])


def test_without_1f60_bmp_19_may_count(bench: Bench) -> None:
    bench.ask("set", strict_read_type=True, read_limit_s=0.05)
    bench.ask("tap", card="visa", how="chip", stay=True)
    assert bench.ecr.command("06c003001910", timeout_s=8).kinds == ["040f"]
    assert bench.ecr.command("06c00100", timeout_s=8).kinds == ["061e"]
    bench.ask("tap", card="visa", how="swipe")
    assert bench.ecr.command("06c00101", timeout_s=8).kinds == ["040f"]


def test_how_a_card_was_presented_is_told(bench: Bench) -> None:
    bench.ecr.register("36", "0978" + "0600")
    for how, told in (("swipe", "00"), ("chip", "01"), ("contactless", "02")):
        bench.ask("tap", card="visa", how=how)
        assert f"1f1201{told}" in bench.ecr.pay(500).messages[0]


def test_a_card_that_stays_is_told_by_the_status(bench: Bench) -> None:
    bench.ask("set", card_in_status=True)
    bench.ask("tap", card="visa", stay=True)
    assert bench.ecr.status() == 0xDC
    bench.ask("remove_card")
    assert bench.ecr.status() == 0


def test_a_read_without_end_has_one_by_switch(bench: Bench) -> None:
    bench.ask("set", read_limit_s=0.05)
    assert bench.ecr.command("06c00100").messages == ["061e016c"]


def test_checksums_can_look_like_control_bytes(bench: Bench) -> None:
    bench.ask("set", crc_looks_like_control=True)
    for _ in range(3):
        bench.ask("tap", card="visa")
        result = bench.ecr.pay(500).result()
        assert any(byte in b"\x02\x03\x06\x10\x15" for byte in frame(result.apdu)[-2:])


# --- 1F73 -----------------------------------------------------------------------------------------


class Numbered:
    """An ECR that gives every message its number."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.last = bench, 0

    def tagged(self, text: str, number: int) -> bytes:
        apdu = bytes.fromhex(text)
        data = apdu[3:] + hexa(f"06061f7303{number:06d}")
        return apdu[:2] + bytes([len(data)]) + data

    def command(self, text: str) -> list[bytes]:
        self.last = sequence.following(self.last)
        self.bench.ecr.send(self.tagged(text, self.last))
        answer = self.bench.ecr.receive()
        assert sequence.number_in(answer) == self.last
        return [answer]

    def listen(self) -> bytes:
        """The next message, answered under its own number."""
        message = self.bench.ecr.receive()
        self.last = sequence.following(self.last)
        assert sequence.number_in(message) == self.last, message.hex()
        self.bench.ecr.send(self.tagged("800000", self.last))
        return message


@pytest.fixture
def numbered(bench: Bench) -> Numbered:
    told = register_tags(bench, "1f7303000000", "3e")
    assert told.messages[0].endswith("06061f7303000000")
    return Numbered(bench)


def test_every_message_carries_its_number(bench: Bench, numbered: Numbered) -> None:
    bench.ask("tap", card="visa")
    numbered.command("06010a04000000000500490978")
    kinds = [numbered.listen()[:2].hex() for _ in range(4)]
    assert kinds == ["04ff", "04ff", "040f", "060f"]
    numbered.command("050100")
    assert numbered.listen()[:2].hex() == "060f"
    assert bench.state()["message_numbers"] == {"active": True}


def test_a_command_under_its_old_number_is_answered_and_not_done_again(
    bench: Bench, numbered: Numbered
) -> None:
    bench.ask("tap", card="visa", stay=True)
    numbered.command("06010a04000000000500490978")
    while numbered.listen()[:2].hex() != "060f":
        pass
    again = numbered.tagged("06010a04000000000500490978", 1)
    bench.ecr.send(again)
    assert bench.ecr.receive() == numbered.tagged("800000", 1)
    assert bench.ecr.quiet(0.1)
    assert bench.kinds() == ["payment"]
    assert bench.state()["message_numbers"]["repeated_command"] == 1


def test_answers_under_other_numbers_do_not_count(bench: Bench, numbered: Numbered) -> None:
    numbered.command("050100")
    assert bench.ecr.receive()[:2] == hexa("060f")
    bench.ecr.send(numbered.tagged("800000", 9))
    bench.ecr.send(numbered.tagged("800000", numbered.last + 1))
    assert bench.state()["message_numbers"]["answer_with_other_number"] == 1
    bench.ecr.send(numbered.tagged("050100", 99))
    bench.ecr.receive()
    bench.ecr.receive()
    bench.ecr.send(OK)
    seen = bench.state()["message_numbers"]
    assert (seen["command_out_of_step"], seen["answer_without_number"]) == (1, 1)


def test_numbers_are_not_used_unless_both_want_them(bench: Bench) -> None:
    assert not register_tags(bench, "1f7303000001").messages[0].endswith("1f7303000001")
    bench.ask("set", sequence_numbers=False)
    assert "1f73" not in register_tags(bench, "1f7303000000").messages[0]
    assert bench.state()["message_numbers"]["active"] is False


def test_numbers_end_with_a_log_off_and_with_the_power(bench: Bench, numbered: Numbered) -> None:
    bench.ask("power_off")
    bench.ask("power_on")
    assert bench.ecr.command("0501051234560302").messages == ["060f0100"]
    register_tags(bench, "1f7303000000")
    numbered.last = 0
    numbered.command("060200")
    assert bench.ecr.command("0501051234560302").messages == ["060f0100"]


def test_numbers_wrap() -> None:
    assert [sequence.following(n) for n in (0, 1, 999_998, 999_999)] == [1, 2, 999_999, 1]


@pytest.mark.parametrize(
    ("apdu", "head", "stamped"),
    [
        ("800000", None, "80000806061f7303000007"),
        ("8000010d", None, "8000090d06061f7303000007"),
        ("04ff010a", None, "04ff090a06061f7303000007"),
        ("04ff020a06", None, "04ff0a0a0606061f7303000007"),  # T4 of six minutes, no container
        ("04ff050a06022400", None, "04ff0b0a060824001f7303000007"),
        ("061e0405870231", None, "061e0c0587023106061f7303000007"),
        ("061e036f0978", None, "061e0b6f097806061f7303000007"),
        ("060f01dc", 1, "060f09dc06061f7303000007"),
        ("040f0427000600", None, "040f0a270006061f7303000007"),
        ("040f0827000600 99010203", None, "040f0e270006061f7303000007 99010203"),
        ("06d10300410a", None, "06d10b00410a06061f7303000007"),
    ],
)
def test_a_number_goes_into_the_container(apdu: str, head: int | None, stamped: str) -> None:
    made = sequence.with_tag(bytes.fromhex(apdu), 7, head)
    assert made == bytes.fromhex(stamped)
    assert codec.split(made)[1][-9:].count(0x73) == 1 or "99010203" in apdu
    assert sequence.number_in(made) == 7
