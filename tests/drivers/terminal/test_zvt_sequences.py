"""Each command with each message a terminal has: what is taken, what is answered 84 83 00."""

import pytest
from support.zvt_talk import ABORTED, END, OK, PROGRESS, UNKNOWN, Talk

from drivers.terminal.zvt.codec import build
from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.outcomes import Aborted, Completed, Ends, Results
from drivers.terminal.zvt.sequences import SEQUENCES

NO = "846600"
# Every message that goes from the terminal to the ECR in PA00P015, with a body that is one.
SAID = {
    "0401": "040108aa2611210c073722",
    "040c": "040c0d060b2d091d01231e040000fde8",
    "040d": "040d020600",
    "040e": "040e020600",
    "040f": "040f022705",
    "04ff": PROGRESS,
    "060f": END,
    "061e": ABORTED,
    "06d0": "06d00141",
    "06d1": "06d1020041",
    "06d3": "06d300",
    "06d8": "06d800",
    "06d9": "06d900",
    "06da": "06da00",
    "06db": "06db00",
    "06dd": "06dd00",
    "06e4": "06e400",
    # and what nobody has: a command of ours, and one of nobody's
    "0601": "060100",
    "1234": "123400",
}
Q = "04ff 060f 061e"  # 04 FF and the two ends
P = f"{Q} 06d1 06d3"  # and print-outs
F = f"{P} 040f"  # and results
# The document, chapter of each command.
TAKEN = {
    "registration": ("0600", Q),
    "log_off": ("0602", ""),
    "status": ("0501", f"{F} 0401"),
    "abort": ("06b0", ""),
    "baud": ("0840", ""),
    "read_card": ("06c0", f"{Q} 040f"),
    "card_poll": ("06e6", F),
    "card_poll_payment": ("06e6", F),
    "activate_reader": ("0850", ""),
    "close_card_session": ("06c5", ""),
    "payment": ("0601", F),
    "reserve": ("0622", F),
    "extend": ("0622", F),
    "capture": ("0623", F),
    "book_total": ("0624", F),
    "release": ("0625", F),
    "release_foreign": ("0626", F),
    "reversal": ("0630", F),
    "refund": ("0631", F),
    "enquiry": ("0623", Q),
    "repeat": ("0620", F),
    "end_of_day": ("0650", f"{F} 0401"),
    "totals": ("0610", F),
    "diagnosis": ("0670", f"{F} 0401"),
    "initialisation": ("0693", f"{F} 0401"),
    "set_tid": ("061b", P),
    "reset": ("0618", Q),
    "print_setup": ("061a", P),
    "selftest": ("0679", P),
    "set_clock": ("0691", Q),
    "language": ("0830", Q),
    "change_configuration": ("0813", P),
    "write_file": ("0814", f"{Q} 040c"),
    "feig_info": ("0fa1", Q),
    "feig_reset": ("0fa1", Q),
    "display": ("06e0", ""),
    "display_key": ("06e1", ""),
}


def talk(name: str) -> Talk:
    return Talk(build(TAKEN[name][0], {}), name)


def test_the_table_is_whole() -> None:
    assert set(SEQUENCES) == set(TAKEN)
    of_terminal = {c for c in MESSAGES if c[:2] == "04" or c in SAID}
    assert of_terminal | {"1234"} == set(SAID)
    for name, sequence in SEQUENCES.items():
        assert (sequence.command, sequence.accepts) == (
            TAKEN[name][0],
            frozenset(TAKEN[name][1].split()),
        ), name


@pytest.mark.parametrize("name", TAKEN)
def test_each_message_within_each_command(name: str) -> None:
    """A 04 0F here is one of a failure: those of a success have tests of their own."""
    taken = TAKEN[name][1].split()
    answered_at_once = SEQUENCES[name].ends is Ends.WITH_ANSWER
    for command, message in SAID.items():
        conversation = talk(name)
        if not answered_at_once:
            conversation.pt(OK)
        conversation.pt(message)
        (answer,) = conversation.answers
        if command in taken or command in ("060f", "061e"):
            assert answer == (NO if command == "040c" else OK), (name, command)
        else:
            assert answer == UNKNOWN, (name, command)
            assert not conversation.dialogue.over, (name, command)


@pytest.mark.parametrize("name", TAKEN)
def test_each_message_before_the_answer(name: str) -> None:
    """It belongs to something else: no word of it is taken for ours, but an Abort is an end."""
    for command, message in SAID.items():
        if command == "061e":
            continue
        conversation = talk(name).pt(message)
        known = command in (*TAKEN[name][1].split(), "060f")
        assert conversation.answers == [OK if known else UNKNOWN], (name, command)
        assert conversation.events == []
        conversation.pt(OK)
        if SEQUENCES[name].ends is Ends.WITH_ANSWER:
            assert isinstance(conversation.outcome, Completed)
        else:
            assert not conversation.dialogue.over


@pytest.mark.parametrize("name", TAKEN)
def test_how_each_ends(name: str) -> None:
    sequence = SEQUENCES[name]
    if sequence.ends is Ends.WITH_ANSWER:
        assert isinstance(talk(name).pt(OK).outcome, Completed)
        assert isinstance(talk(name).pt(ABORTED).outcome, Aborted)
    elif sequence.ends is Ends.WITH_STATUS:
        assert isinstance(talk(name).pt(OK, END).outcome, Aborted)
        assert isinstance(talk(name).pt(OK, "040f022700").outcome, Completed)
    else:
        assert isinstance(talk(name).pt(OK, END).outcome, Completed)
    ended = talk(name).pt(OK, ABORTED).outcome
    assert isinstance(ended, Completed if sequence.ends is Ends.WITH_ANSWER else Aborted)


def test_what_moves_money_and_what_may_be_aborted() -> None:
    money = {n for n, s in SEQUENCES.items() if s.money}
    assert money == {
        "payment", "reserve", "extend", "capture", "book_total", "release", "release_foreign",
        "reversal", "refund", "card_poll_payment", "end_of_day",
    }  # fmt: skip
    assert {
        n for n, s in SEQUENCES.items() if s.results in (Results.EVIDENCE, Results.DAY)
    } == money
    abortable = {n for n, s in SEQUENCES.items() if s.abortable}
    assert abortable == {"read_card", "card_poll", "card_poll_payment", "display_key"}


@pytest.mark.parametrize("name", [n for n, s in SEQUENCES.items() if s.results is Results.EVIDENCE])
def test_a_result_is_evidence_in_every_money_command(name: str) -> None:
    conversation = talk(name).pt(OK, "040f05270087 0231".replace(" ", ""))
    assert conversation.answers == []
    conversation.decide(True)
    assert conversation.answers == [OK]
    assert isinstance(conversation.pt(END).outcome, Completed)
