"""Where a ZVT dialogue stands, and how long it may stand there (PA00P015: T3, T4)."""

from __future__ import annotations

from enum import Enum, auto

from drivers.terminal.zvt.frames import SENDS_MAX, T2_MS

# T3 is 5 s. The terminal's link may need two more T2 to bring its answer, and a command that is given up
# before that would be an unknown outcome for a single lost byte.
ANSWER_MS = 5_000 + (SENDS_MAX - 1) * T2_MS
T4_MS = 180_000  # answer to Completion, restarted by every 04 FF and 04 0F
# No dialogue is longer, whatever the terminal asks for with 04 FF: nobody stands at a charger for longer,
# and the station counts a terminal that is busy for four minutes as stuck.
DIALOGUE_MS_MAX = 220_000
# End of day, initialisation, diagnosis: hosts take minutes, and to leave in the middle helps nobody. Only a
# terminal that goes on saying so with 04 FF gets that long; T4 bounds its silence.
CARE_MS_MAX = 900_000
# 08 14: some ten megabytes over TCP take minutes, at 115200 baud two hours.
FILE_MS_MAX = 7_200_000
REGISTER_MS = 60_000  # a terminal that has just booted may be busy for so long
# Evidence must be answered within the terminal's T3 of 5 s, some of which the line needs.
DECIDE_MS = 4_000
CARD_GRACE_MS = 2_000  # a card read ends by itself; this much later it is broken
LAST_ANSWER_MS = 2 * T2_MS  # our last answer, sent twice
ABORT_ANSWER_MS = 1_000  # a late answer to an abort that collided comes at once or never
ABORTS_MAX = 3
# Messages while evidence is being stored; a terminal that waits for its answer sends none.
HELD_MAX = 8
# Answers that wait for the link. A terminal waits for each of them; one that talks on without is out of step,
# and what is not answered it says again or gives up.
ANSWERS_MAX = 8


class At(Enum):
    """Where a dialogue stands."""

    SENDING = auto()
    ANSWER = auto()
    RUNNING = auto()
    DECIDING = auto()
    LAST_ANSWER = auto()  # our last answer is on its way
    ABORT_ANSWER = auto()  # all is said but the answer to our abort
    OVER = auto()


ENDED = (At.LAST_ANSWER, At.ABORT_ANSWER)
