"""What the ECR answers (PA00P015, 80 00 and 84 xx)."""

from __future__ import annotations

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build_answer

POSITIVE = Apdu("8000")
UNKNOWN_COMMAND = Apdu("8483")
# The goods are not out yet: the terminal tells its result again two seconds later.
AGAIN = Apdu("849c")
# The evidence cannot be stored. For 06 01, PA00P015 says that any 84 xx but 9C (ask again) and 9D (a part of
# the goods) makes the terminal reverse; for 06 22, 06 23 and 06 25 it says nothing else. 66 is "processing
# error". Whether the terminal did reverse has to be asked.
REFUSED = Apdu("8466")
ABORT = Apdu("06b0")


def partly(amount_minor: int) -> Apdu:
    """84 9D: goods for this amount only."""
    return build_answer("849d", {"amount_minor": amount_minor})
