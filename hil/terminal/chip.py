"""06 C6: commands that the ECR sends straight to the card (PA00P015, Send APDUs).

How they stand in the container is assumed, as no public source shows it: every primitive tag is one command,
and its answer comes back under the same tag in the Completion. The card is a poor one: it selects its own
applications, tells its UID, and knows nothing else."""

from __future__ import annotations

from hil.terminal import codec
from hil.terminal.bank import ABORTED
from hil.terminal.cards import Card
from hil.terminal.dialogue import Talk
from hil.terminal.payment import PROTOCOL_ERROR
from hil.terminal.till import Till

NO_CARD = 0x65
UNSUPPORTED = 0x83
DONE, NOT_FOUND, UNKNOWN_INSTRUCTION = b"\x90\x00", b"\x6a\x82", b"\x6d\x00"
SELECT_BY_NAME = b"\x00\xa4\x04\x00"
GET_UID = b"\xff\xca\x00\x00"


class Chip:
    def __init__(self, talk: Talk, till: Till) -> None:
        self._talk = talk
        self._desk = talk.desk
        self._till = till

    async def send_apdus(self, data: bytes) -> None:
        """For the card that was read just before, or stays in the field."""
        talk = self._talk
        if not self._desk.switches.card_apdus:
            await talk.negative(UNSUPPORTED)
            return
        told = codec.objects(self._desk.fields(data).get(codec.TLV, b""))
        if not told:
            await talk.negative(PROTOCOL_ERROR)
            return
        await talk.positive()
        before = self._till.card_before
        card = before.card if before is not None else self._desk.field.present()
        if card is None:
            await talk.abort(NO_CARD)
            return
        if not card.readable:
            await talk.abort(ABORTED)
            return
        answers = [codec.tlv(tag, answer(card, command)) for tag, command in told]
        await talk.complete("card_apdus", codec.container(*answers))


def answer(card: Card, command: bytes) -> bytes:
    """Data and status word, as ISO/IEC 7816-4 has them."""
    if command.startswith(GET_UID):
        return card.uid + DONE
    if not command.startswith(SELECT_BY_NAME) or len(command) < 5:
        return UNKNOWN_INSTRUCTION
    name = command[5 : 5 + command[4]]
    mine = [*card.aids, *(aid for _, aid in card.chip_aids)]
    if name not in mine:
        return NOT_FOUND
    return codec.tlv(0x6F, codec.tlv(0x84, name)) + DONE
