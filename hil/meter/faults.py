"""What can be made to go wrong with a reply, beside what every device on a bench can do. Pure."""

from __future__ import annotations

from hil.charger.faults import REPLY_FAULTS as COMMON
from hil.charger.faults import Fault, Reply, spoil
from hil.charger.rtu import frame

# `word_swap`: the registers of the reply in pairs the wrong way round, as a meter whose word order was
# changed. `second_master`: another master's question to this meter, and the answer to that, come in front
# of the reply.
REPLY_FAULTS = (*COMMON, "word_swap", "second_master")
# Until they are cleared. `freeze`: values stand still. `jump_back`: the counter loses `wh`. `rollover`: it
# stands `wh` before its end. `missing_phase`: no voltage on `phase`. `serial`: another meter's number.
METER_FAULTS = ("nan", "freeze", "jump_back", "rollover", "missing_phase", "serial")
# Of meters that sign, until cleared. `slow_signature`: it takes `ms` more. `no_signature`: the next `count`
# commands fail, with `code` where the meter has codes.
SIGNING_FAULTS = ("slow_signature", "no_signature")


def let_out(fault: Fault | None, unit: int, pdu: bytes) -> Reply:
    """The reply `pdu` of `unit` as `fault` lets it out."""
    if fault is not None and fault.name == "word_swap":
        return Reply(frame(unit, _swapped(pdu)))
    if fault is not None and fault.name == "second_master":
        asked = frame(unit, bytes((4, 0, 0, 0, 2)))
        told = frame(unit, bytes((4, 4, 0x43, 0x66, 0x80, 0)))  # 230.5 V as float32
        return Reply(asked + told + frame(unit, pdu))
    return spoil(fault, unit, pdu)


def _swapped(pdu: bytes) -> bytes:
    """An odd register at the end stays; so does all that is no read."""
    if pdu[0] not in (3, 4):
        return pdu
    head, words = pdu[:2], pdu[2:]
    pairs = len(words) // 4 * 4
    turned = b"".join(words[n + 2 : n + 4] + words[n : n + 2] for n in range(0, pairs, 4))
    return head + turned + words[pairs:]
