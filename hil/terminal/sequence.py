"""Message numbers (tag 1F73, PA00P015): duplicates can be told from new messages.

The ECR offers 000000 in its Registration. Where that comes back in the Completion every later command
and answer carries a number: a new message one more than the last one of either side, an answer the
number of what it answers, a repeat its old one."""

from __future__ import annotations

from collections import Counter

from hil.terminal import codec

TAG = 0x1F73
MARK = bytes.fromhex("1f7303")
LAST = 999_999
REGISTRATION = bytes.fromhex("0600")  # agrees on numbers anew


def number_in(apdu: bytes) -> int | None:
    """The number a message of the ECR carries, wherever its container stands."""
    at = apdu.rfind(MARK)
    digits = apdu[at + len(MARK) : at + len(MARK) + 3]
    if at < 0 or len(digits) < 3 or not digits.hex().isdigit():
        return None
    return int(digits.hex())


def without_number(data: bytes) -> bytes:
    """A command's data without the container that holds nothing but its number."""
    own = bytes([codec.TLV, 6]) + MARK
    return data[:-8] if data[-8:-3] == own else data


def following(number: int) -> int:
    return number % LAST + 1


class Numbers:
    """`seen` counts what a good ECR never does."""

    def __init__(self) -> None:
        self.active = False
        self.seen: Counter[str] = Counter()
        self._last = 0
        self._command: int | None = None
        self._answer = b""

    def agree(self) -> None:
        self.active = True
        self._last, self._command = 0, None

    def reset(self) -> None:
        self.active = False
        self._command = None

    def repeated(self, apdu: bytes) -> bytes | None:
        """A command arrived. The stored answer where it is the last one again; None for a new one."""
        if apdu[:2] == REGISTRATION:
            self.reset()
        if not self.active:
            return None
        number = number_in(apdu)
        if number is None:
            self.seen["command_without_number"] += 1
            self._command = None
            return None
        if number == self._command and self._answer:
            self.seen["repeated_command"] += 1
            return self._answer
        if number != following(self._last):
            self.seen["command_out_of_step"] += 1
        self._last = self._command = number
        self._answer = b""
        return None

    def belongs(self, answer: bytes) -> bool:
        """Is this the answer to our last message? One without a number is counted and taken."""
        if not self.active:
            return True
        number = number_in(answer)
        if number is None:
            self.seen["answer_without_number"] += 1
            return True
        if number != self._last:
            self.seen["answer_with_other_number"] += 1
            return False
        return True

    def stamped(self, apdu: bytes, head: int | None) -> bytes:
        """Our message or answer with its number. `head`: bytes of data before the fields."""
        if not self.active:
            return apdu
        if apdu[0] not in (0x80, 0x84):
            self._last = following(self._last)
            return with_tag(apdu, self._last, head)
        if self._command is None:
            return apdu
        self._answer = with_tag(apdu, self._command, head)
        return self._answer


def with_tag(apdu: bytes, number: int, head: int | None) -> bytes:
    """The message with tag 1F73 in its container; in a new one where it has none."""
    control, data = codec.split(apdu)
    added = codec.tlv(TAG, codec.bcd(number, 3))
    at = _head(control, data) if head is None else head
    try:
        for field in codec.walk(data, at):
            if field.number == codec.TLV:
                inner = codec.container(field.value, added)
                return codec.apdu(control, data[: field.start] + inner + data[field.end :])
            at = field.end
    except codec.UnknownBmp:
        pass  # nobody can read what follows: our container stands before it
    return codec.apdu(control, data[:at] + codec.container(added) + data[at:])


def _head(control: int, data: bytes) -> int:
    """How many bytes of a message of ours stand before its fields."""
    if control == 0x04FF:  # a code, and T4 where there is one
        has_t4 = len(data) > 1 and not (data[1] == codec.TLV and len(data) > 2)
        return min(len(data), 2 if has_t4 else 1)
    if control == 0x061E:
        return min(len(data), 3 if data[:1] == b"\x6f" else 1)
    if control == 0x06D1 or control >> 8 in (0x80, 0x84):
        return len(data)
    return 0
