"""What must hold whatever a terminal sends: one function for each part of the ZVT driver, which takes any
bytes and raises when its promise is broken. hypothesis, the corpus and `./dev fuzz` call them all alike.

The bytes are a script: times, pieces of the line, our own sends and decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from support.zvt_peer import apdu as message
from support.zvt_peer import frame

from drivers.terminal.zvt.apdu import Apdu, walk
from drivers.terminal.zvt.codec import decode, encode
from drivers.terminal.zvt.decode import decode_or_error
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.frames import (
    APDU_BYTES_MAX,
    NAK,
    SENDS_MAX,
    T1_MS,
    Delivered,
    Link,
    LinkEvent,
    Received,
    SendFailed,
)
from drivers.terminal.zvt.links import AnyLink
from drivers.terminal.zvt.outcomes import (
    DialogueEvent,
    Evidence,
    Results,
    is_booking,
    is_of_a_card,
    is_of_the_day,
)
from drivers.terminal.zvt.phases import ANSWERS_MAX, HELD_MAX
from drivers.terminal.zvt.primitives import Malformed
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.tcp_link import StreamLink

AFTER = (None, "0501", "0fa1", "0600", "0622", "0650", "06e1", "0814")
DEPTH_MAX = 10  # of what a message holds; its reader stops at eight
ROUNDS_MAX = 20_000  # of timers, until a dialogue that nobody talks to is over
POSITIVE = (b"\x80\x00", b"\x84\x00")


class Script:
    """Bytes as decisions; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        return found.ljust(count, b"\0")

    def rest(self, most: int) -> bytes:
        found = self._data[self._at : self._at + most]
        self._at += most
        return found


def check(fact: object, text: str) -> None:
    if not fact:
        raise AssertionError(text)


# --- Messages worth beginning with ----------------------------------------------------------------


def _said(words: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(message(word[:4], bytes.fromhex(word[4:])) for word in words)


BOOKED = "040f" + "2700" + "04000000005000" + "490978" + "870231" + "0b000975" + "2952523535"
SAID = _said(
    (
        "8000",
        "8000" + "0d",
        "849c",
        "8483",
        "841e6f0978",
        "8466",
        "8400",
        BOOKED,
        BOOKED.replace("870231", "870232"),
        BOOKED + "880000011922f0f8558821eeeeee1234" + "060c4c0a000000000000081ca72f",
        "040f870231",
        "040f276c",
        "040f",
        "040f2700060c4c0a000000000000081ca72f",
        "040f2700" + "60f0f5f3" + "00010005" + "01000000001000" * 7,
        "04ff0e",
        "04ff0a02",
        "04ff0e9906022400",
        "060f",
        "060f2700",
        "060f276c",
        "060f19102952523535490978",
        "060ff0f0f2414100",
        "061e6c",
        "061e",
        "061eb887ffff",
        "061eb8870231",
        "06d14068656c6c6f",
        "06d1ff",
        "06d306091f07010225030701" + "41",
        "0401aa2611210c120000",
        "040c06072d051d01101e0100",
        "040d",
        "06d0",
        "06e4",
        "0622",
    )
)


# --- Framing --------------------------------------------------------------------------------------


class _LineProbe:
    """A link, and what the line knows of it."""

    def __init__(self) -> None:
        self.link, self.now = Link(), 0
        self.heard = bytearray()  # the end of what came in
        self.sends: dict[bytes, int] = {}
        self.nak_at = -(10**9)
        self.fed_since_nak = False

    def feed(self, data: bytes) -> None:
        for byte in data:
            self.heard.append(byte)
            self.fed_since_nak = True
            for event in self.link.receive(bytes([byte]), self.now):
                self.event(event)
            del self.heard[: -3 * APDU_BYTES_MAX]
        self.flush()

    def event(self, event: LinkEvent) -> None:
        if isinstance(event, Received):
            # The block as another implementation makes it, checksum and all.
            check(self.heard.endswith(frame(event.apdu)), "a block nobody sent, or a bad one")
        elif isinstance(event, SendFailed):
            check(not self.link.busy, "given up and still busy")

    def pass_time(self, ms: int) -> None:
        until = self.now + ms
        while (due := self.link.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            for event in self.link.on_time(self.now):
                self.event(event)
            self.flush()
            again = self.link.next_deadline()
            check(again is None or again > self.now, "a timer that does not move")
        self.now = until

    def flush(self) -> None:
        out = self.link.take_output()
        if bytes([NAK]) == out:
            check(self.fed_since_nak, "a NAK for nothing")
            check(self.now - self.nak_at >= T1_MS, "two NAKs within one silence")
            self.nak_at, self.fed_since_nak = self.now, False
        check(len(self.link._body) <= APDU_BYTES_MAX + 1, "a body without end")
        check(self.link.take_output() == b"", "bytes that come again")

    def send(self, apdu: bytes, *, begin: bool) -> None:
        if begin:
            self.link.begin(apdu, self.now)
        elif not self.link.busy:
            self.link.send(apdu, self.now)
        self.flush()


def framing(data: bytes) -> None:
    """No exception, one NAK in a silence, only whole blocks with a good checksum, bounded memory."""
    script, probe = Script(data), _LineProbe()
    while script.left:
        word = script.byte()
        if word < 0x60:
            probe.feed(script.rest(word % 24 + 1))
        elif word < 0x90:
            probe.feed(frame(SAID[script.byte() % len(SAID)]))
        elif word < 0xA0:
            block = frame(SAID[script.byte() % len(SAID)])
            at = script.byte() % len(block)
            probe.feed(block[:at] + script.rest(1) + block[at + word % 2 :])
        elif word < 0xB0:
            probe.feed(b"\x06" if word % 2 else b"\x15")
        elif word < 0xE0:
            probe.pass_time((1, 10, 150, 199, 200, 201, 4999, 5001)[word % 8])
        elif word < 0xF0:
            probe.send(SAID[script.byte() % len(SAID)], begin=bool(word % 2))
        else:
            probe.link.withdraw()
    probe.pass_time(SENDS_MAX * 5_000 + 1_000)
    check(not probe.link.busy, "a block that is never given up")
    check(probe.link.next_deadline() is None, "a timer for nothing")
    check(not probe.link.receiving, "in the middle of a block for ever")


# --- The stream of TCP ----------------------------------------------------------------------------


def stream(data: bytes) -> None:
    """However the bytes are cut up: the same messages, and no more memory than one of them takes."""
    script = Script(data)
    cuts = list(script.take(8))
    text = b"".join(SAID[b % len(SAID)] for b in script.take(script.byte() % 6)) + script.rest(4096)
    whole, cut = StreamLink(), StreamLink()
    wanted = _heard(whole, [text])
    pieces, at = [], 0
    while at < len(text):
        size = 1 + cuts[len(pieces) % len(cuts)] % 32
        pieces.append(text[at : at + size])
        at += size
    found = _heard(cut, pieces)
    check(wanted == found, "another cut, other messages")
    told = b"".join(event for event in found if event)
    check(text.startswith(told), "messages that nobody sent")
    check(whole.receiving or len(told) == len(text), "bytes that are lost in between")
    for link in (whole, cut):
        link.begin(SAID[0], 1)
        check(link.take_output() == SAID[0] and not link.receiving, "a command after garbage")


def _heard(link: StreamLink, pieces: list[bytes]) -> list[bytes]:
    """The messages; an empty one for a failure of the link."""
    found = []
    for piece in pieces:
        for event in link.receive(piece, 0):
            check(not isinstance(event, Delivered), "nothing was sent")
            found.append(event.apdu if isinstance(event, Received) else b"")
        check(len(link._buffer) <= APDU_BYTES_MAX, "a buffer without end")
    return found


# --- The codec ------------------------------------------------------------------------------------


def codec(data: bytes) -> None:
    """Any bytes are read or Malformed; what is read and was not dropped encodes to what reads the same."""
    script = Script(data)
    after = AFTER[script.byte() % len(AFTER)]
    shape = script.byte()
    text = script.rest(70_000)
    if shape % 4 == 0:
        text = message(SAID[shape % len(SAID)][:2].hex(), text)
    elif shape % 4 == 1:
        text = message("040f", b"\x06" + bytes([min(len(text), 0x7F)]) + text)
    try:
        apdu = decode(text, after)
    except Malformed as error:
        check(0 <= error.at <= len(text), f"wrong at {error.at} of {len(text)} bytes")
        return
    check(len(walk(apdu.tlv)) <= len(text), "more tags than bytes")
    _check_depth(apdu)
    # The text of a 06 D1 may end in what looks like the container behind it, so its bytes are not to be had
    # back for sure; it is never sent.
    if apdu.dropped or apdu.rest or apdu.command == "06d1":
        return
    again = encode(apdu)
    check(len(again) <= len(text) + 2, "longer than it came")
    check(decode(again, after) == apdu, "what was encoded reads otherwise")


def _check_depth(apdu: Apdu) -> None:
    level, depth = list(apdu.tlv), 0
    while level:
        depth += 1
        level = [child for tag in level if isinstance(tag.value, tuple) for child in tag.value]
    check(depth <= DEPTH_MAX, f"tags {depth} deep")


def tool(data: bytes) -> None:
    """`voltill zvt decode`: JSON for anything, also for what is no message."""
    script = Script(data)
    after = AFTER[script.byte() % len(AFTER)]
    way = script.byte()
    raw = script.rest(5000)
    if way % 4 == 0:
        text = raw.decode("latin-1")
    elif way % 4 == 1:
        text = frame(raw).hex(" ")
    elif way % 4 == 2:
        text = message(SAID[way % len(SAID)][:2].hex(), raw).hex(":")
    else:
        text = raw.hex()
    answer = decode_or_error(text, after)
    json.dumps(answer)
    check(set(answer) in ({"command", "name", "fields", "dropped"}, {"error", "at"}), "its keys")


# --- Dialogues ------------------------------------------------------------------------------------

NAMES = sorted(SEQUENCES)


class Talk:
    """One dialogue, with the line in the hands of a script."""

    def __init__(self, name: str, *, tcp: bool) -> None:
        self.sequence = SEQUENCES[name]
        self.tcp, self.now = tcp, 0
        self.link: AnyLink = StreamLink() if tcp else Link()
        self.dialogue = Dialogue(self.link, Apdu(self.sequence.command), self.sequence)
        self.allowed = 0  # positive answers that messages other than bookings may get
        self.offered = self.decided = 0
        self.ended = 0
        send = self.link.send
        self.said: list[bytes] = []

        def heard(apdu: bytes, now: int) -> None:
            self.said.append(apdu)
            send(apdu, now)

        self.link.send = heard  # type: ignore[method-assign]
        self.dialogue.start(0)
        self.said.clear()
        self.flush()

    def flush(self) -> None:
        self.link.take_output()
        positive = sum(1 for apdu in self.said if apdu[:2] in POSITIVE)
        if not self.decided:
            check(positive <= self.allowed, "a booking is confirmed that nobody has decided on")
        check(len(self.dialogue._queue) <= ANSWERS_MAX, "answers pile up")
        check(len(self.dialogue._held) <= HELD_MAX + 1, "messages pile up")

    def take(self, events: list[DialogueEvent]) -> None:
        for event in events:
            if isinstance(event, Evidence):
                self.offered += 1
                check(self.sequence.money, "evidence where no money moves")
                check(self.offered <= self.decided + 1 + self.undecided, "evidence upon evidence")
            elif type(event).__name__ not in ("Progress", "Printed", "Asked"):
                self.ended += 1
                check(self.dialogue.over, "an end that is none")
                check(self.ended == 1, "two ends")

    undecided = 0  # times that evidence was refused or asked for later

    def link_events(self, events: list[LinkEvent]) -> None:
        for event in events:
            if isinstance(event, Received) and event.apdu[0] < 0x80:
                self.allowed += not self.moves_money(event.apdu)
            self.take(self.dialogue.on_link(event, self.now))

    def moves_money(self, data: bytes) -> bool:
        """Whether a positive answer to it needs a decision."""
        if data[:2] != b"\x04\x0f":
            return False
        try:
            apdu = decode(data, self.sequence.command)
        except Malformed:
            return True
        results = self.sequence.results
        if results is Results.REPORT or (results is Results.CARD and is_of_a_card(apdu)):
            return False
        return is_booking(apdu) or (results is Results.DAY and is_of_the_day(apdu))

    def feed(self, data: bytes) -> None:
        self.link_events(self.link.receive(data, self.now))
        self.flush()

    def pass_time(self, ms: int) -> None:
        until, rounds = self.now + ms, 0
        while True:
            times = (self.link.next_deadline(), self.dialogue.next_deadline())
            due = min((t for t in times if t is not None), default=None)
            if due is None or due > until:
                break
            rounds += 1
            check(rounds < ROUNDS_MAX, "timers without end")
            self.now = max(self.now, due)
            self.link_events(self.link.on_time(self.now))
            self.take(self.dialogue.on_time(self.now))
            self.flush()
            if self.dialogue.over:
                break
        self.now = until

    def decide(self, stored: bool) -> None:
        waits = self.offered > self.decided + self.undecided
        if waits and stored:
            self.decided += 1
        elif waits:
            self.undecided += 1
        self.take(self.dialogue.decide(stored, self.now))
        self.flush()

    def abort(self) -> None:
        self.dialogue.abort(self.now)
        self.flush()

    def end(self) -> None:
        """Nobody says anything any more."""
        longest = self.sequence.longest_ms
        self.pass_time(longest + 60_000)
        check(self.dialogue.over, f"not over after {longest} ms and a minute")
        check(self.ended == 1, "over without an end")

    def say(self, apdu: bytes) -> None:
        self.feed(apdu if self.tcp else frame(apdu))


def dialogue(data: bytes) -> None:
    """Whatever is said, and whenever: it ends in time and once, never confirms a booking that was not
    decided on, and keeps no more than it must."""
    script = Script(data)
    first = script.byte()
    talk = Talk(NAMES[script.byte() % len(NAMES)], tcp=bool(first & 1))
    if first & 2:
        talk.feed(b"\x06" if not talk.tcp else b"")
        talk.say(SAID[0])
    while script.left and not talk.dialogue.over:
        _step(talk, script, script.byte())
    talk.end()


def _step(talk: Talk, script: Script, word: int) -> None:
    if word < 0x80:
        if not talk.tcp and word < 0x60:
            talk.feed(b"\x06")
        talk.say(SAID[word % len(SAID)])
    elif word < 0x90:
        said = bytearray(SAID[script.byte() % len(SAID)])
        said[2 + script.byte() % (len(said) - 2)] = script.byte()
        talk.say(bytes(said))
    elif word < 0xA0:
        talk.say(message("040f", script.rest(script.byte() % 40)))
    elif word < 0xA8:
        talk.say(message(script.take(2).hex(), script.rest(script.byte() % 40)))
    elif word < 0xB0:
        talk.feed(script.rest(word % 8 + 1))
    elif word < 0xB8:
        talk.feed(b"\x15" if word % 2 else b"\x06")
    elif word < 0xD0:
        talk.pass_time((1, 100, 250, 1_500, 4_500, 6_000, 16_000, 200_000)[word % 8])
    elif word < 0xE0:
        talk.decide(bool(word % 2))
    elif word < 0xF0:
        talk.abort()
    elif word == 0xFF:
        talk.take(talk.dialogue.lost("hung up"))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "framing": framing,
    "stream": stream,
    "codec": codec,
    "tool": tool,
    "dialogue": dialogue,
}
