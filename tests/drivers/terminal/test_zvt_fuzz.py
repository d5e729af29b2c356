"""What must hold whatever a terminal sends (tests/support/zvt_fuzz.py): with hypothesis, with the corpus of
`./dev fuzz`, and with a few thousand random scripts."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from fuzz import run as fuzz_run
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.untraced import untraced
from support.zvt_fuzz import NAMES, SAID, TARGETS, Talk
from support.zvt_peer import apdu as message
from support.zvt_talk import NO, OK, READ
from support.zvt_talk import Talk as Words

from drivers.terminal.zvt import frames, reader, tcp_link
from drivers.terminal.zvt.answers import POSITIVE
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.outcomes import Disputed
from drivers.terminal.zvt.phases import ANSWERS_MAX
from drivers.terminal.zvt.sequences import SEQUENCES

SCRIPTS = 3_000
# A failure explained in full takes longer than a test may.
BRIEF = [phase for phase in Phase if phase is not Phase.explain]


def scripts(name: str, count: int) -> list[bytes]:
    rng = random.Random(name)
    return [rng.randbytes(rng.choice((3, 10, 40, 120))) for _ in range(count)]


def nested(depth: int) -> bytes:
    """A tag within a tag within a tag."""
    text = b""
    for _ in range(depth):
        text = b"\x21" + bytes([len(text)]) + text
    return text


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_many_scripts(name: str) -> None:
    with untraced():
        for data in scripts(name, SCRIPTS):
            try:
                TARGETS[name](data)
            except Exception as error:
                raise AssertionError(f"./dev fuzz {name} --hex {data.hex()}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    inputs = list(fuzz_run.corpus(name))
    assert inputs
    for data in inputs:
        TARGETS[name](data)


def test_the_targets_of_the_command_are_these() -> None:
    assert set(fuzz_run.NAMES) == set(TARGETS)


# --- Dialogues, step by step ----------------------------------------------------------------------


class DialogueMachine(RuleBasedStateMachine):
    """Any words of the terminal, any times, any decisions."""

    name = ""

    @initialize(tcp=st.booleans(), answered=st.booleans())
    def begin(self, tcp: bool, answered: bool) -> None:
        self._tcp, self._answered = tcp, answered
        self._talk = self._begun()

    def _begun(self) -> Talk:
        talk = Talk(self.name, tcp=self._tcp)
        if self._answered:
            talk.feed(b"" if self._tcp else b"\x06")
            talk.say(SAID[0])
        return talk

    @property
    def talk(self) -> Talk:
        """The dialogue; the next one where it is over."""
        if self._talk.dialogue.over:
            self._talk.end()
            self._talk = self._begun()
        return self._talk

    @rule(apdu=st.sampled_from(SAID), heard=st.booleans())
    def say(self, apdu: bytes, heard: bool) -> None:
        if heard:
            self.acknowledge(wanted=True)
        self.talk.say(apdu)

    @rule(apdu=st.sampled_from(SAID), at=st.integers(2), byte=st.integers(0, 255))
    def say_spoiled(self, apdu: bytes, at: int, byte: int) -> None:
        place = 2 + at % (len(apdu) - 2)
        self.talk.say(apdu[:place] + bytes([byte]) + apdu[place + 1 :])

    @rule(control=st.binary(min_size=2, max_size=2), data=st.binary(max_size=30))
    def say_anything(self, control: bytes, data: bytes) -> None:
        self.talk.say(message(control.hex(), data))

    @rule(wanted=st.booleans())
    def acknowledge(self, wanted: bool) -> None:
        if not self.talk.tcp:
            self.talk.feed(b"\x06" if wanted else b"\x15")

    @rule(noise=st.binary(min_size=1, max_size=9))
    def disturb(self, noise: bytes) -> None:
        self.talk.feed(noise)

    @rule(ms=st.sampled_from((1, 100, 250, 1_500, 4_500, 6_000, 16_000, 200_000)))
    def wait(self, ms: int) -> None:
        self.talk.pass_time(ms)

    @rule(stored=st.booleans())
    def decide(self, stored: bool) -> None:
        self.talk.decide(stored)

    @rule()
    def abort(self) -> None:
        self.talk.abort()

    def teardown(self) -> None:
        if hasattr(self, "_talk"):
            self._talk.end()


@pytest.mark.parametrize("name", NAMES)
def test_a_dialogue_of_each_sequence(name: str) -> None:
    machine = type("OneSequence", (DialogueMachine,), {"name": name})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=15, stateful_step_count=20, deadline=None, phases=BRIEF),
    )


# --- What was found -------------------------------------------------------------------------------

UNREADABLE = "040fae870231"  # its length is wrong
TOTALS = "040f3b2700" + "60f0f5f3" + "00010005" + "01000000001000" * 7


@pytest.mark.parametrize("name", ["release", "end_of_day", "repeat"])
@pytest.mark.parametrize("left", [UNREADABLE, TOTALS])
def test_a_result_before_the_answer_is_not_confirmed(name: str, left: str) -> None:
    talk = Words(Apdu(SEQUENCES[name].command), name)
    assert talk.pt(left).answers == [NO]


def test_a_card_result_that_cannot_be_read_is_not_confirmed() -> None:
    talk = Words(READ, "read_card").pt(OK, UNREADABLE)
    assert talk.answers == [NO]
    assert isinstance(talk.outcome, Disputed)


def test_answers_do_not_pile_up_before_the_command_is_acknowledged() -> None:
    talk = Talk("status", tcp=False)
    for number in range(10 * ANSWERS_MAX):
        talk.say(message("04ff", bytes([number])))
    assert len(talk.dialogue._queue) == ANSWERS_MAX
    talk.end()


# --- Can it fail? ---------------------------------------------------------------------------------


class _Anything(bytes):
    """Equal to any checksum."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


def blocks_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "crc", lambda apdu: _Anything(b"\0\0"))


def every_bad_byte_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = frames.Link.receive

    def receive(self: frames.Link, data: bytes, now: int) -> list[Any]:
        events = original(self, data, now)
        if self._at is frames._At.DRAIN:
            self._output.append(frames.NAK)
        return events

    monkeypatch.setattr(frames.Link, "receive", receive)


def a_segment_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    original = tcp_link.StreamLink.receive

    def receive(self: tcp_link.StreamLink, data: bytes, now: int) -> list[Any]:
        events = original(self, data, now)
        self._buffer.clear()
        return events

    monkeypatch.setattr(tcp_link.StreamLink, "receive", receive)


def tags_go_as_deep_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TLV_DEPTH_MAX", 10_000)


def left_over_results_are_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dialogue, "_not_ours", lambda *_: POSITIVE)


def the_terminal_may_ask_for_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Dialogue.start

    def start(self: Dialogue, now: int) -> None:
        original(self, now)
        self._until = None

    monkeypatch.setattr(Dialogue, "start", start)


@pytest.mark.parametrize(
    ("plant", "name", "inputs"),
    [
        (blocks_are_not_checked, "framing", []),
        (every_bad_byte_is_refused, "framing", []),
        (a_segment_is_a_message, "stream", []),
        (tags_go_as_deep_as_they_like, "codec", [bytes([0, 1]) + nested(20)]),
        (left_over_results_are_confirmed, "dialogue", []),
        (the_terminal_may_ask_for_any_time, "dialogue", []),
    ],
)
def test_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None],
    name: str,
    inputs: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    with untraced():
        caught = [data for data in inputs or scripts(name, SCRIPTS) if _fails(name, data)]
    assert caught


def _fails(name: str, data: bytes) -> bool:
    return fuzz_run.failure(TARGETS[name], data) is not None
