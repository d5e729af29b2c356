"""The signing unit of a simulated Bauer BSM-WS36A: a signed snapshot on request, as SunSpec registers and
as OCMF text.

Traps: while it signs every reply is late; the clock is invalid after power-up and the records then carry
EF and ST E; texts and clock are gone after a power loss, finished snapshots are not; a snapshot replaces
the one before (`discarded`); each write of the clock wears it (`clock_sets`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hil.charger.rtu import ILLEGAL_VALUE, ModbusException
from hil.meter.signing_common import NS_PER_MS, Block, Faults, Key, MeterClock, Registers, World

SIGN_MS, LATE_MS = 600, 150
VALID, INVALID, UPDATING, FAILED = range(4)
FIRST_PAGE = 402
RESOLUTION_WH = 10
# Status register, status of the OCMF text (the text follows), XT in the record, letter of the record.
_KINDS = {
    "current": (40524, 41794, 0, "C"), "turn_on": (40778, 42294, 1, "B"), "turn_off": (41032, 42794, 2, "E"),
    "start": (41286, 43294, 3, "B"), "end": (41540, 43794, 4, "E"),
}  # fmt: skip
TEXT_WORDS = 496


class BsmWs36aUnit:
    """Memory: `key`, `page`, `texts` (kind to OCMF text), `discarded`, `truth` (page to Wh)."""

    def __init__(self, world: World, memory: dict[str, Any]) -> None:
        self._world, self.memory, self.faults = world, memory, Faults()
        self._key = Key("secp256r1", memory.get("key"))
        memory["key"] = self._key.number
        for name, value in (("page", FIRST_PAGE), ("texts", {}), ("discarded", 0), ("stored", True),
                            ("truth", {})):  # fmt: skip
            memory.setdefault(name, value)
        memory["texts"].pop(memory.pop("signing", ""), None)  # killed while it signed
        self.clock = MeterClock()
        self._signing: tuple[int, str, str] | None = None  # (due, kind, text)
        self.commands: list[str] = []
        self._r = Registers((3,))
        self._epoch = self._r.add(40260, 3, writable=True)
        self._sets = self._r.add(40263, 2)
        self._meta = [self._r.add(at, many, writable=True) for at, many in
                      ((40279, 70), (40349, 50), (40399, 50))]  # fmt: skip
        self._r.add(40450).words = [len(self._key.spki)]
        self._r.add(40451, 48).put(self._key.spki)
        self._status: dict[str, Block] = {}
        self._ocmf: dict[str, tuple[Block, Block]] = {}
        for kind, (status, ocmf, _, _) in _KINDS.items():
            self._status[kind] = self._r.add(status, 1, writable=True)
            # Type and status of the text are read as one block; the text lies behind them.
            self._ocmf[kind] = (self._r.add(ocmf - 1, 2), self._r.add(ocmf + 1, TEXT_WORDS))
        self._show()

    # --- registers ----------------------------------------------------------------------------

    def has(self, function: int, address: int) -> bool:
        return function in (3, 16) and self._r.at(address) is not None

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        self._advance()
        if self._epoch.has(address) and self.clock.valid:
            local_s = self.clock.utc_s(self._world.now_ns()) + 60 * self.clock.offset_min
            self._epoch.words[:2] = [local_s >> 16 & 0xFFFF, local_s & 0xFFFF]
        return self._r.read(address, count)

    def write(self, address: int, values: Sequence[int]) -> None:
        self._advance()
        kind = next((kind for kind, block in self._status.items() if block.has(address)), None)
        if kind is not None:
            if list(values) != [UPDATING] or self._signing is not None:
                raise ModbusException(ILLEGAL_VALUE)
            self._take(kind)
        elif self._epoch.has(address):
            if len(values) != 3:
                raise ModbusException(ILLEGAL_VALUE)  # a torn clock is refused
            self._r.write(address, values)
            minutes = values[2] - 0x10000 if values[2] & 0x8000 else values[2]
            self.clock.offset_min = minutes
            self.clock.set((values[0] << 16 | values[1]) - 60 * minutes, self._world.now_ns())
        else:
            self._r.write(address, values)
        self._show()

    def _show(self) -> None:
        self._sets.words = [0, self.clock.sets]
        for kind, block in self._status.items():
            text = self.memory["texts"].get(kind)
            status = INVALID if text is None else (VALID if text else FAILED)
            if self._signing is not None and self._signing[1] == kind:
                status = UPDATING
            block.words = [status]
            head, body = self._ocmf[kind]
            head.words = [_KINDS[kind][2], VALID if text else INVALID]
            body.put((text or "").encode("latin-1"))

    # --- life ---------------------------------------------------------------------------------

    def power_off(self) -> None:
        self._advance()
        self.memory["texts"].pop(self.memory.pop("signing", ""), None)

    def power_on(self) -> None:
        sets = self.clock.sets
        self.clock, self._signing = MeterClock(sets=sets), None
        for block in (self._epoch, *self._meta):
            block.clear()
        self._show()

    def late_ms(self) -> int:
        """Also for what is only read."""
        return LATE_MS + self.faults.slow_ms if self._signing is not None else 0

    def told(self) -> dict[str, Any]:
        self._advance()
        texts = self.memory["texts"]
        return {
            "signing": self._signing is not None, "stored": self.memory["stored"],
            "page": self.memory["page"], "discarded": self.memory["discarded"],
            "truth": self.memory["truth"], "public_key": self._key.spki.hex(), "texts": texts,
            "clock_sets": self.clock.sets, "commands": self.commands, "meta1": self._meta[0].text,
        }  # fmt: skip

    # --- snapshots ----------------------------------------------------------------------------

    def _take(self, kind: str) -> None:
        self.commands.append(kind)
        memory = self.memory
        memory["signing"] = kind
        if kind == "start" and not memory["stored"]:
            memory["discarded"] += 1
            memory["stored"] = True
        due_ns = self._world.now_ns() + (SIGN_MS + self.faults.slow_ms) * NS_PER_MS
        if self.faults.refuses():
            self._signing = (due_ns, kind, "")
            return
        memory["page"] += 1
        self._signing = (due_ns, kind, self._signed(kind))

    def _advance(self) -> None:
        # A pair that was acknowledged carries the agent's mark, until the next text is written.
        if self._meta[0].text.startswith("stored "):
            self.memory["stored"] = True
        if self._signing is not None and self._world.now_ns() >= self._signing[0]:
            _, kind, text = self._signing
            self._signing = None
            self.memory.pop("signing", None)
            self.memory["texts"][kind] = text
            if kind == "end":
                self.memory["stored"] = False
        self._show()

    def _signed(self, kind: str) -> str:
        now_ns, world = self._world.now_ns(), self._world
        wh = int(world.import_wh) // RESOLUTION_WH * RESOLUTION_WH
        page = f"T{self.memory['page']}"
        self.memory["truth"][page] = wh
        valid, (_, _, number, letter) = self.clock.valid, _KINDS[kind]
        texts = "".join(
            f',"X{n}":"{block.text}"' for n, block in enumerate(self._meta[1:], 2) if block.text
        )
        since = wh - self.memory.setdefault("turn_on_wh", wh)
        payload = (
            f'{{"FV":"1.0","GI":"BAUER Electronic BSM-WS36A-H01-1311-0000","GS":"{world.serial}",'
            f'"GV":"1.9:32CA:AFF4, f1d3d06","PG":"{page}","MV":"BAUER Electronic",'
            f'"MM":"BSM-WS36A-H01-1311-0000","MS":"{world.serial}","IS":true,"IT":"UNDEFINED",'
            f'"ID":"{self._meta[0].text}"{texts},"RD":[{{"TM":"{self.clock.ocmf(now_ns)}",'
            f'"TX":"{letter}","RV":{since},"RI":"1-0:1.8.0*198","RU":"Wh","XV":{wh},'
            f'"XI":"1-0:1.8.0*255","XU":"Wh","XT":{number},"RT":"AC",'
            f'"EF":"{"" if valid else "t"}","ST":"{"G" if valid else "E"}"}}]}}'
        )
        signature = self._key.sign(payload.encode("latin-1")).hex()
        return f'OCMF|{payload}|{{"SA":"ECDSA-secp256r1-SHA256","SD":"{signature}"}}'
