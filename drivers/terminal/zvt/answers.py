"""What the ECR says again and again, ready made."""

from __future__ import annotations

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import encode

POSITIVE = encode(Apdu("8000"))
UNKNOWN_COMMAND = encode(Apdu("8483"))
# The evidence cannot be stored. For 06 01, PA00P015 says that any 84 xx but 9C (ask again) and 9D (a part of
# the goods) makes the terminal reverse; for 06 22, 06 23 and 06 25 it says nothing else. 66 is "processing
# error". Whether the terminal did reverse has to be asked.
REFUSED = encode(Apdu("8466"))
ABORT = encode(Apdu("06b0"))
