"""The signing unit of a simulated Iskra WM3M4: a JSON template in, the same with both readings out, and a
signature beside it.

Traps: without time it refuses with 128; a power loss in a transaction takes time and template, and the end
is refused until both are there again; the numbers of the signature are padded with zero bytes; a `|` in the
template is taken, and makes the record unreadable; a new begin discards the old record (`discarded`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hil.charger.rtu import ILLEGAL_VALUE, ModbusException
from hil.meter.signing_common import (
    NS_PER_MS,
    Faults,
    Key,
    MeterClock,
    Registers,
    World,
    kwh,
)

SIGN_MS = 400
IDLE, ACTIVE, AFTER_POWER_FAILURE = range(3)
NOT_INITIALISED, RESTING, IN_PROGRESS, OK = 0, 1, 2, 15
INVALID_TIME, INVALID_COMMAND, INVALID_STATE, MESSAGE_FORMAT, MESSAGE_SIZE = 128, 130, 131, 252, 253
TEMPLATE_BYTES = DATA_BYTES = 1024


class Wm3m4Unit:
    """Memory: `key`, `page`, `state`, `begin` (reading), `data`, `signature`, `discarded`."""

    def __init__(self, world: World, memory: dict[str, Any]) -> None:
        self._world, self.memory, self.faults = world, memory, Faults()
        self._key = Key("secp256r1", memory.get("key"))
        memory["key"] = self._key.number
        for name, value in (("page", 0), ("state", IDLE), ("begin", None), ("data", ""),
                            ("signature", ""), ("discarded", 0), ("taken", True), ("truth", {})):  # fmt: skip
            memory.setdefault(name, value)
        self.clock = MeterClock()
        self._pending: tuple[int, str, str] | None = None  # (due, data, signature) of an end
        self._status_now = NOT_INITIALISED
        self.commands: list[int] = []
        self._r = Registers((3,))
        self._state = self._r.add(7000)
        self._command = self._r.add(7051, 1, writable=True)
        self._status = self._r.add(7052)
        self._time = self._r.add(7053, 3, writable=True)  # zone, then seconds high and low
        self._length = self._r.add(7056, 1, writable=True)
        self._lengths = self._r.add(7057, 2)
        self._r.add(7059, 1, writable=True)
        self._r.add(7062, 7, writable=True)
        self._sync = self._r.add(7071, 1, writable=True)
        self._template = self._r.add(7100, TEMPLATE_BYTES // 2, writable=True)
        self._data = self._r.add(7612, DATA_BYTES // 2)
        self._r.add(8124, 32).put(self._key.point)
        self._signature = self._r.add(8188, 80)
        if memory["state"] == ACTIVE:
            memory["state"] = AFTER_POWER_FAILURE
        self._show()

    # --- registers ----------------------------------------------------------------------------

    def has(self, function: int, address: int) -> bool:
        return function in (3, 16) and self._r.at(address) is not None

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        self._advance()
        return self._r.read(address, count)

    def write(self, address: int, values: Sequence[int]) -> None:
        self._advance()
        block = self._r.write(address, values)
        if self._template.text.startswith('{"stored":'):
            self.memory["taken"] = True
        if block is self._sync:
            if values[0] not in (0, 2):
                raise ModbusException(ILLEGAL_VALUE)
            minutes, high, low = self._time.words
            self.clock.offset_min = minutes - 0x10000 if minutes & 0x8000 else minutes
            self.clock.set(high << 16 | low, self._world.now_ns())
        elif block is self._command:
            self.commands.append(values[0])
            self._obey(values[0])
        self._show()

    def _show(self) -> None:
        memory = self.memory
        self._state.words, self._status.words = [memory["state"]], [self._status_now]
        data, signature = memory["data"].encode("ascii"), bytes.fromhex(memory["signature"])
        self._lengths.words = [len(data), len(signature)]
        self._data.put(data)
        self._signature.put(signature)

    # --- life ---------------------------------------------------------------------------------

    def power_off(self) -> None:
        self._advance()

    def power_on(self) -> None:
        """Time, texts and a signature under way are gone; the readings and the last record are not."""
        self.clock, self._pending, self._status_now = MeterClock(), None, NOT_INITIALISED
        for block in (self._time, self._length, self._sync, self._template):
            block.clear()
        if self.memory["state"] == ACTIVE:
            self.memory["state"] = AFTER_POWER_FAILURE
        self._show()

    def late_ms(self) -> int:
        return 0

    def told(self) -> dict[str, Any]:
        self._advance()
        return {
            "state": self.memory["state"], "open": self.memory["state"] != IDLE,
            "status": self._status_now, "page": self.memory["page"],
            "discarded": self.memory["discarded"], "truth": self.memory["truth"],
            "public_key": self._key.spki.hex(), "data": self.memory["data"],
            "signature": self.memory["signature"], "clock_sets": self.clock.sets,
            "commands": self.commands, "template": self._template.text,
        }  # fmt: skip

    # --- transactions -------------------------------------------------------------------------

    def _obey(self, command: int) -> None:
        if command not in (0x4200, 0x7200):
            self._status_now = INVALID_COMMAND
            return
        refused = self._refusal(command)
        if refused:
            self._status_now = refused
            return
        memory = self.memory
        now_ns = self._world.now_ns()
        due_ns = now_ns + (SIGN_MS + self.faults.slow_ms) * NS_PER_MS
        self._status_now = IN_PROGRESS
        status = "S" if self._sync.words[0] == 2 else "I"
        reading = {"tm": self.clock.ocmf(now_ns, status), "wh": int(self._world.import_wh)}
        if command == 0x4200:
            if memory["data"] and not self._marked():
                memory["discarded"] += 1
            memory["data"] = memory["signature"] = ""
            memory["page"] += 1
            memory["begin"], memory["state"] = reading, ACTIVE
            self._pending = (due_ns, "", "")
        else:
            data = self._filled(memory["begin"], reading)
            signature = padded(self._key.sign(data.encode("ascii")))
            self._pending = (due_ns, data, signature.hex())
            memory["end"] = reading

    def _marked(self) -> bool:
        """The agent said that the last record was stored, before it wrote the next template."""
        return bool(self.memory["taken"])

    def _refusal(self, command: int) -> int:
        """0 where it may begin or end."""
        if (command == 0x4200) != (self.memory["state"] == IDLE) or self._pending is not None:
            return INVALID_STATE
        if self.faults.refuses():
            return self.faults.code or INVALID_TIME
        if not self.clock.valid:
            return INVALID_TIME
        if not 0 < self._length.words[0] <= TEMPLATE_BYTES:
            return MESSAGE_SIZE
        try:
            if json.loads(self._template_text())["RD"] != []:
                return MESSAGE_FORMAT
        except (ValueError, KeyError, TypeError):
            return MESSAGE_FORMAT
        return 0

    def _template_text(self) -> str:
        return self._template.raw[: self._length.words[0]].decode("latin-1")

    def _filled(self, begin: dict[str, Any], end: dict[str, Any]) -> str:
        """The template with what the meter alone knows, in the template's own order."""
        fields = json.loads(self._template_text())
        fields |= {"PG": f"T{self.memory['page']}", "MV": "Iskra", "MM": "WM3M4C",
                   "MS": self._world.serial, "MF": "2.05", "RD": []}  # fmt: skip
        fields["GS"] = fields.get("GS") or self._world.serial
        text = json.dumps(fields, separators=(",", ":"))
        readings = ",".join(
            f'{{"TM":"{reading["tm"]}","TX":"{why}","RV":{kwh(reading["wh"], 2)},"RI":"1-b:1.8.0",'
            f'"RU":"kWh","RT":"AC","EF":"","ST":"G"}}'
            for reading, why in ((begin, "B"), (end, "E"))
        )
        return text.replace('"RD":[]', f'"RD":[{readings}]')

    def _advance(self) -> None:
        if self._pending is None or self._world.now_ns() < self._pending[0]:
            self._show()
            return
        _, data, signature = self._pending
        self._pending, self._status_now = None, OK
        memory = self.memory
        if data:
            memory["data"], memory["signature"], memory["state"] = data, signature, IDLE
            memory["taken"] = False
            memory["truth"][f"T{memory['page']}"] = [memory["begin"]["wh"], memory["end"]["wh"]]
        self._show()


def padded(der: bytes) -> bytes:
    """The same numbers with a zero byte more than DER allows before each."""
    numbers = decode_dss_signature(der)
    body = b""
    for number in numbers:
        raw = b"\0" + number.to_bytes(33, "big")
        body += bytes((2, len(raw))) + raw
    return bytes((0x30, len(body))) + body
