"""What belongs to each command: how it ends, what a result means in it, and the closed set of messages the
terminal may send on the way (PA00P015, chapter of each command). Everything else is answered 84 83 00.

The names are those of commands.py. Which of two sequences of one control field is meant decides the caller:
06 22 is a reservation or its extension, 06 23 a capture or the question for open holds, 06 E6 a look at a
card or a payment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drivers.terminal.zvt.outcomes import Ends, Results
from drivers.terminal.zvt.phases import (
    ANSWER_MS,
    CARD_GRACE_MS,
    CARE_MS_MAX,
    DIALOGUE_MS_MAX,
    FILE_MS_MAX,
    REGISTER_MS,
    T4_MS,
)

PROGRESS = frozenset({"04ff"})
STATUS = frozenset({"040f"})
END = frozenset({"060f", "061e"})
PRINT = frozenset({"06d1", "06d3"})
CLOCK = frozenset({"0401"})
DATA = frozenset({"040c"})

QUIET = PROGRESS | END
PRINTING = QUIET | PRINT
FULL = PRINTING | STATUS
# A host that has something to say to the terminal sets the clock, too.
HOSTED = FULL | CLOCK
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sequence:
    """`command`: control field of the command. `accepts`: control fields of the terminal's messages.
    `run_ms`: how long the terminal may be silent after its 80 00 00 (T4), and where that is the end, how
    long it may take (T3). `longest_ms`: the whole of it, whatever the terminal asks for. `money`: a result is
    handed out as evidence and waits for a decision. `abortable`: 06 B0 is allowed by the document
    while it runs."""

    command: str
    ends: Ends
    results: Results
    accepts: frozenset[str]
    run_ms: int = T4_MS
    money: bool = False
    abortable: bool = False
    longest_ms: int = DIALOGUE_MS_MAX


def _money(command: str, accepts: frozenset[str] = FULL, *, abortable: bool = False) -> Sequence:
    return Sequence(
        command, Ends.WITH_COMPLETION, Results.EVIDENCE, accepts, money=True, abortable=abortable
    )


def _answered(command: str) -> Sequence:
    return Sequence(command, Ends.WITH_ANSWER, Results.NONE, NOTHING, run_ms=ANSWER_MS)


def _completed(
    command: str, accepts: frozenset[str] = QUIET, longest_ms: int = DIALOGUE_MS_MAX
) -> Sequence:
    return Sequence(command, Ends.WITH_COMPLETION, Results.NONE, accepts, longest_ms=longest_ms)


SEQUENCES: Mapping[str, Sequence] = {
    # --- the link -------------------------------------------------------------------------------
    # A terminal that has just booted answers, or it does not.
    "registration": Sequence("0600", Ends.WITH_COMPLETION, Results.NONE, QUIET, run_ms=REGISTER_MS),
    "log_off": _answered("0602"),
    # The terminal runs its timed jobs in it: diagnosis, initialisation, end of day.
    "status": _completed("0501", HOSTED, CARE_MS_MAX),
    "abort": _answered("06b0"),
    "baud": _answered("0840"),
    # --- cards ----------------------------------------------------------------------------------
    # The caller adds the time the terminal was given for the card.
    "read_card": Sequence(
        "06c0", Ends.WITH_STATUS, Results.CARD, QUIET | STATUS, run_ms=CARD_GRACE_MS, abortable=True
    ),
    "card_poll": Sequence(
        "06e6", Ends.WITH_COMPLETION, Results.CARD, FULL, run_ms=CARD_GRACE_MS, abortable=True
    ),
    "card_poll_payment": _money("06e6", abortable=True),
    "activate_reader": _answered("0850"),
    "close_card_session": _answered("06c5"),
    # --- money ----------------------------------------------------------------------------------
    "payment": _money("0601"),
    "reserve": _money("0622"),
    "extend": _money("0622"),
    "capture": _money("0623"),
    "book_total": _money("0624"),
    "release": _money("0625"),
    "release_foreign": _money("0626"),
    "reversal": _money("0630"),
    "refund": _money("0631"),
    # Always ends with an Abort (B8), which is no failure.
    "enquiry": _completed("0623"),
    "repeat": Sequence("0620", Ends.WITH_COMPLETION, Results.REPORT, FULL),
    # --- the day --------------------------------------------------------------------------------
    "end_of_day": Sequence(
        "0650",
        Ends.WITH_COMPLETION,
        Results.DAY,
        HOSTED,
        money=True,
        longest_ms=CARE_MS_MAX,
    ),
    "totals": _completed("0610", FULL),
    # --- care -----------------------------------------------------------------------------------
    "diagnosis": _completed("0670", HOSTED, CARE_MS_MAX),
    "initialisation": _completed("0693", HOSTED, CARE_MS_MAX),
    "set_tid": _completed("061b", PRINTING),
    "reset": _completed("0618"),
    "print_setup": _completed("061a", PRINTING),
    "selftest": _completed("0679", PRINTING),
    "set_clock": _completed("0691"),
    "language": _completed("0830"),
    "change_configuration": _completed("0813", PRINTING),
    "write_file": _completed("0814", QUIET | DATA, FILE_MS_MAX),
    "feig_info": _completed("0fa1"),
    "feig_reset": _completed("0fa1"),
    # --- the display ----------------------------------------------------------------------------
    "display": _answered("06e0"),
    # The answer is the key: the caller adds the time the text is shown.
    "display_key": Sequence(
        "06e1", Ends.WITH_ANSWER, Results.NONE, NOTHING, ANSWER_MS, abortable=True
    ),
}
