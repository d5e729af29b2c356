"""What the control pilot's letters mean for a charging session. Pure.

Source: IEC 61851-1 annex A as in table 9-1 of Phoenix Contact's manual 106377_en_04. A no car, B car
present, C car wants energy, D the same with ventilation, E fault of the supply or the pilot, F station not
available; 1 the station offers nothing, 2 it does (PWM on).
"""

from __future__ import annotations

import re

from agent.ports import EvseState

_STATUS = re.compile(r"[A-D][12]|[EF]0?")


class Pilot:
    """Turns a stream of pilot states into the port's states. It remembers what the letters alone do not
    say: whether this car has charged, and whether we ended it."""

    def __init__(self, debounce_ms: int) -> None:
        self._debounce_ms = debounce_ms
        self._state = EvseState.UNKNOWN
        self._no_car_since_ms: int | None = None
        self._released = False
        self._charged = False
        self._ended = False

    # --- What we did --------------------------------------------------------------------------

    def release(self) -> None:
        """The release has been written."""
        self._released, self._ended = True, False

    def withdraw(self) -> None:
        """The release has been taken back. What ran is ended by that."""
        self._ended = self._ended or self._released or self._charged
        self._released = False

    def end(self) -> None:
        """The charge is meant to be over."""
        self._ended = True

    # --- What we see --------------------------------------------------------------------------

    @staticmethod
    def known(text: str) -> bool:
        return _STATUS.fullmatch(text) is not None

    def lose(self) -> None:
        """No answer: what comes next does not follow on what was before."""
        self._no_car_since_ms = None
        self._state = EvseState.UNKNOWN

    def see(self, text: str, now_ms: int) -> EvseState:
        """The state after this status, such as "B1", was read at `now_ms`."""
        if not self.known(text):
            self.lose()
            return self._state
        letter = text[0]
        if letter == "A":
            if self._no_car_since_ms is None:
                self._no_car_since_ms = now_ms
            elif now_ms - self._no_car_since_ms >= self._debounce_ms:
                self._charged = self._ended = False
                self._state = EvseState.UNPLUGGED
            return self._state
        self._no_car_since_ms = None
        self._state = self._with_car(letter, text[1:])
        return self._state

    def _with_car(self, letter: str, offer: str) -> EvseState:
        if letter in "EF":
            return EvseState.FAULT
        if letter in "CD" and offer == "2":
            self._charged = True
            return EvseState.CHARGING
        if letter == "B" and offer == "2":
            return EvseState.SUSPENDED if self._charged else EvseState.READY
        # The station offers nothing. In C1 and D1 the car has not let go yet: the contactor may only
        # just be opening, so that is never the end of a charge, whatever we asked for.
        if letter == "B" and self._ended:
            return EvseState.FINISHED
        return EvseState.SUSPENDED if self._charged else EvseState.PLUGGED
