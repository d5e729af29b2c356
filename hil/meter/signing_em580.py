"""The signing unit of a simulated Carlo Gavazzi EM580: it writes the whole OCMF file itself.

Traps: blanks behind some colons are signed; SA is spelled brainpoolP384r1; beginning with a file still
there discards it without a word (`discarded` counts); the clock is refused while a transaction runs and
for 2 s after power-up; a power loss ends the transaction, and the file says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hil.charger.rtu import ILLEGAL_VALUE, ModbusException
from hil.meter.signing_common import (
    BUSY,
    DEVICE_FAILURE,
    NS_PER_MS,
    NS_PER_S,
    Faults,
    Key,
    MeterClock,
    Registers,
    World,
    kwh,
)

SIGN_MS, CLOCK_DEAF_MS = 300, 2_000
FILE_WORDS = 2031
NOT_READY, RUNNING, READY, CORRUPTED = range(4)
_TYPES = {
    0: "NONE", 1: "DENIED", 2: "UNDEFINED", 10: "ISO14443", 11: "ISO15693", 20: "EMAID", 21: "EVCCID",
    30: "EVCOID", 40: "ISO7812", 50: "CARD_TXN_NR", 60: "CENTRAL", 61: "CENTRAL_1", 62: "CENTRAL_2",
    70: "LOCAL", 71: "LOCAL_1", 72: "LOCAL_2", 80: "PHONE_NUMBER", 90: "KEY_CODE",
}  # fmt: skip
_LEVELS = (
    "NONE", "HEARSAY", "TRUSTED", "VERIFIED", "CERTIFIED", "SECURE", "MISMATCH", "INVALID", "OUTDATED",
    "UNKNOWN",
)  # fmt: skip


class Em580Unit:
    """Memory: `key`, `page`, `state`, `begun` (the reading at begin), `file`, `discarded`."""

    def __init__(
        self, world: World, memory: dict[str, Any], curve: str = "brainpoolP384r1"
    ) -> None:
        self._world, self.memory, self.faults = world, memory, Faults()
        memory.setdefault("curve", curve)
        self._key = Key(memory["curve"], memory.get("key"))
        memory["key"] = self._key.number
        for name, value in (("page", 0), ("state", NOT_READY), ("begun", None), ("file", ""),
                            ("discarded", 0), ("truth", {}), ("idents", [])):  # fmt: skip
            memory.setdefault(name, value)
        self.clock = MeterClock()
        self._up_ns = world.now_ns() - NS_PER_S * 60
        self._due_ns: int | None = None
        self.commands: list[int] = []
        self._r = Registers((4,))
        kind = self._r.add(0x24FF)
        kind.words = [0 if self._key.curve == "brainpoolP256r1" else 1]
        self._r.add(0x2600, 46 if kind.words == [0] else 62).put(self._key.spki)
        self._tariff = self._r.add(0x6900, 126, writable=True)
        self._ident = self._r.add(0x7000, 27, writable=True)
        self._place = self._r.add(0x701B, 21, writable=True)
        self._zone = self._r.add(0x7031, 1, writable=True)
        self._utc = self._r.add(0x7032, 4, writable=True)
        self._r.add(0x7036, 1, writable=True)
        self._command = self._r.add(0x7040, 1, writable=True)
        self._charging = self._r.add(0x7045)
        self._sync = self._r.add(0x7060)
        self._status = self._r.add(0x7100, 4, writable=True)
        self._file = self._r.add(0x7110, FILE_WORDS)
        if memory["idents"]:
            self._restore()

    # --- registers ----------------------------------------------------------------------------

    def has(self, function: int, address: int) -> bool:
        return function in (4, 16) and self._r.at(address) is not None

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        self._advance()
        return self._r.read(address, count)

    def write(self, address: int, values: Sequence[int]) -> None:
        self._advance()
        block = self._r.at(address)
        if block in (self._utc, self._zone):
            self._clock_may_be_set()
        if block is self._status and (address != 0x7100 or list(values) != [NOT_READY]):
            raise ModbusException(ILLEGAL_VALUE)
        self._r.write(address, values)
        if block is self._utc:
            words = self._utc.words
            self.clock.set(
                sum(word << 16 * n for n, word in enumerate(words)), self._world.now_ns()
            )
        elif block is self._zone:
            minutes = self._zone.words[0]
            self.clock.offset_min = minutes - 0x10000 if minutes & 0x8000 else minutes
        elif block is self._status:
            self._acknowledged()
        elif block is self._command:
            self._obey(values[0])
        self._show()

    def _clock_may_be_set(self) -> None:
        if self.memory["begun"] is not None:
            raise ModbusException(DEVICE_FAILURE)
        if self._world.now_ns() - self._up_ns < CLOCK_DEAF_MS * NS_PER_MS:
            raise ModbusException(BUSY)

    def _show(self) -> None:
        memory = self.memory
        data = memory["file"].encode("ascii")
        self._charging.words = [int(memory["begun"] is not None)]
        self._sync.words = [int(self.clock.valid)]
        registers = (len(data) + 1) // 2 if memory["state"] == READY else 0
        page = memory["page"]
        self._status.words = [memory["state"], registers, page & 0xFFFF, page >> 16]
        self._file.put(data if memory["state"] == READY else b"")

    # --- life ---------------------------------------------------------------------------------

    def power_off(self) -> None:
        """A transaction that runs ends here; the file is made when the power is back."""
        self._advance()
        if self.memory["begun"] is not None and "end" not in self.memory["begun"]:
            self.memory["begun"]["end"] = self._reading("P")
        self.memory["idents"] = [self._ident.words, self._place.words, self._tariff.words]

    def power_on(self) -> None:
        self.clock, self._up_ns, self._due_ns = MeterClock(), self._world.now_ns(), None
        for block in (self._tariff, self._ident, self._place, self._zone, self._utc):
            block.clear()
        self._restore()

    def _restore(self) -> None:
        """Texts of a transaction are kept with it."""
        if self.memory["begun"] is not None:
            if self.memory["idents"]:
                self._ident.words, self._place.words, self._tariff.words = self.memory["idents"]
            self.memory["begun"].setdefault("end", self._reading("P"))
            self._write_file()
        self._show()

    def late_ms(self) -> int:
        return 0

    def told(self) -> dict[str, Any]:
        self._advance()
        return {
            "state": self.memory["state"], "open": self.memory["begun"] is not None,
            "page": self.memory["page"], "discarded": self.memory["discarded"],
            "truth": self.memory["truth"], "public_key": self._key.spki.hex(),
            "file": self.memory["file"], "clock_sets": self.clock.sets, "commands": self.commands,
        }  # fmt: skip

    # --- transactions -------------------------------------------------------------------------

    def _obey(self, letter: int) -> None:
        self.commands.append(letter)
        memory = self.memory
        if letter == 0x42:
            if memory["begun"] is not None:
                raise ModbusException(DEVICE_FAILURE)
            if memory["state"] == READY:
                memory["discarded"] += 1
            memory["file"], memory["page"] = "", memory["page"] + 1
            memory["begun"] = {"begin": self._reading("B")}
            memory["state"] = RUNNING
            memory["idents"] = [self._ident.words, self._place.words, self._tariff.words]
        elif letter == 0x45 and memory["begun"] is not None and self._due_ns is None:
            memory["begun"]["end"] = self._reading("E")
            wait_ms = SIGN_MS + self.faults.slow_ms
            self._due_ns = self._world.now_ns() + wait_ms * NS_PER_MS
        else:
            raise ModbusException(ILLEGAL_VALUE)

    def _acknowledged(self) -> None:
        if self.memory["state"] in (READY, CORRUPTED):
            self.memory["state"], self.memory["file"] = NOT_READY, ""

    def _advance(self) -> None:
        if self._due_ns is not None and self._world.now_ns() >= self._due_ns:
            self._due_ns = None
            self._write_file()
        self._show()

    def _reading(self, why: str) -> dict[str, Any]:
        now_ns = self._world.now_ns()
        wh = int(self._world.import_wh)
        return {"tm": self.clock.ocmf(now_ns), "tx": why, "wh": wh}

    def _write_file(self) -> None:
        memory = self.memory
        begun, memory["begun"] = memory["begun"], None
        if self.faults.refuses():
            memory["state"], memory["file"] = CORRUPTED, ""
            return
        payload = self._payload(begun["begin"], begun["end"])
        signature = self._key.sign(payload.encode("ascii")).hex()
        name = f"ECDSA-{self._key.curve}-SHA256"
        memory["file"] = f'OCMF|{payload}|{{"SA":"{name}","SD":"{signature}"}}'
        memory["state"] = READY
        memory["truth"][f"T{memory['page']}"] = [begun["begin"]["wh"], begun["end"]["wh"]]

    def _payload(self, begin: dict[str, Any], end: dict[str, Any]) -> str:
        words = self._ident.words
        identification = self._ident.raw[14:].split(b"\0", 1)[0].decode("ascii")
        kind = "EVSEID" if self._place.words[0] == 0 else "CBIDC"
        place = self._place.raw[2:].split(b"\0", 1)[0].decode("ascii")
        head = (
            f'{{"FV":"1.2","GI":"EM580","GS":"{self._world.serial}","PG":"T{self.memory["page"]}",'
            f'"MV":"Carlo Gavazzi","MM":"EM580","MS":"{self._world.serial}","MF":"1.4.0",'
            f'"IS":{"true" if words[0] else "false"},"IL":"{_LEVELS[words[1]]}","IF":[],'
            f'"IT":"{_TYPES[words[6]]}","ID":"{identification}","TT":"{self._tariff.text}",'
            f'"CT":"{kind}","CI":"{place}","RD":['
        )
        return head + ",".join(_one(reading) for reading in (begin, end)) + "]}"


def _one(reading: dict[str, Any]) -> str:
    """With the blanks that its firmware leaves."""
    return (
        f'{{"TM":"{reading["tm"]}","TX":"{reading["tx"]}","RV": {kwh(reading["wh"], 3)},'
        f'"RI":"1-0:1.8.0","RU":"kWh","RT":"AC","EF": "","ST":"G"}}'
    )
