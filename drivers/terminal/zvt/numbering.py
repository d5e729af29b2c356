"""Message numbers (tag 1F73, PA00P015): a message that was sent twice can be told from two equal ones.

The ECR offers 000000 in its registration. Where that comes back in the completion, every later command and
answer of either side carries a number: a new message one more than the last one of either, an answer that of
the message it answers, a repeat the one it had. After 999999 comes 000001.

A terminal that agreed and sends none all the same is believed: what it means does not depend on it."""

from __future__ import annotations

from dataclasses import replace

from drivers.terminal.zvt.apdu import Apdu, Item, Tlv
from drivers.terminal.zvt.codec import tag
from drivers.terminal.zvt.tables import BY_NAME

TAG = "1f73"
LAST = 999_999
REGISTRATION, LOG_OFF = "0600", "0602"
NUMBER_BYTES = 3


class Numbering:
    """The numbers of one registration. Outlives the dialogues, as the registration does."""

    def __init__(self) -> None:
        self.active = False
        self._last = 0
        self._asked: set[int] = set()  # numbers of ours that the terminal may answer
        self._heard: int | None = None  # of the terminal's last message that was new

    def command(self, apdu: Apdu) -> Apdu:
        """Our command as it goes out."""
        self.forget()
        self._asked.clear()
        if apdu.command == REGISTRATION:
            self.active = False
        return self.within(apdu)

    def within(self, apdu: Apdu) -> Apdu:
        """A command that goes out while another one runs: an abort."""
        if not self.active:
            return apdu
        self._last = _following(self._last)
        self._asked.add(self._last)
        return with_tag(apdu, self._last)

    def forget(self) -> None:
        """The terminal's next message is a new one, whatever its number: after 84 9C it tells its result
        again because it was asked to."""
        self._heard = None

    def answer(self, apdu: Apdu, to: Apdu) -> Apdu:
        """Our answer to a message of the terminal."""
        told = number_of(to)
        return with_tag(apdu, told) if self.active and told is not None else apdu

    def is_answer(self, apdu: Apdu) -> bool:
        """Whether an answer of the terminal may belong to a command of this dialogue. One with another
        number is left over from before."""
        told = number_of(apdu)
        return not self.active or told is None or told in self._asked

    def is_repeat(self, apdu: Apdu) -> bool:
        """Whether a message of the terminal was heard before. Remembers a new one."""
        told = number_of(apdu)
        if not self.active or told is None:
            return False
        if told == self._heard:
            return True
        self._heard = self._last = told
        return False

    def ended(self, command: str, completion: Apdu) -> None:
        """A registration or log-off went through: from now on with numbers, or without."""
        if command == REGISTRATION:
            self.active = number_of(completion) == 0
            self._last = 0
        elif command == LOG_OFF:
            self.active = False


def _following(number: int) -> int:
    return number % LAST + 1


def number_of(apdu: Apdu) -> int | None:
    """The number a message carries, None for one without and for what is no number."""
    told = [t.value for t in apdu.tlv if t.tag == TAG and isinstance(t.value, bytes)]
    digits = told[-1].hex() if told else ""
    return int(digits) if len(digits) == 2 * NUMBER_BYTES and digits.isdecimal() else None


def with_tag(apdu: Apdu, number: int) -> Apdu:
    """`apdu` with its number: in its container, or in one of its own behind everything."""
    added = tag(TAG, hex_value=f"{number:06d}")
    items = list(apdu.items)
    for at, item in enumerate(items):
        if isinstance(item.value, tuple):
            items[at] = Item(item.number, (*item.value, added))
            return replace(apdu, items=tuple(items))
    container: tuple[Tlv, ...] = (added,)
    return replace(apdu, items=(*items, Item(BY_NAME["tlv"].number, container)))
