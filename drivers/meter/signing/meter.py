"""A meter on an RTU bus that reads and signs. Implements `agent.ports.Meter` and `SigningMeter`.

Readings go on between the steps of a sequence. One sequence at a time; a cancelled one leaves the meter as
it is, and the next call begins by looking at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from agent.ports import DeviceUnavailable
from agent.values import Reading
from drivers.meter.modbus import BusError, ExceptionReply, Function, Request
from drivers.meter.modbus_meter import ModbusMeter
from drivers.meter.rtu import Answer, Priority, unavailable
from drivers.meter.signing.bsm_ws36a import BsmWs36a
from drivers.meter.signing.em580 import Em580
from drivers.meter.signing.label import Label, parse
from drivers.meter.signing.steps import (
    Pause,
    Read,
    Reply,
    SignedRecord,
    SigningState,
    SigningTrouble,
    Step,
    Steps,
    Write,
    nothing_there,
)
from drivers.meter.signing.wm3m4 import Wm3m4
from drivers.meter.timing import DeviceTiming

T = TypeVar("T")


class Unit(Protocol):
    """The signing part of a model; every method is a sequence. All raise SigningTrouble and BusError."""

    def state(self) -> Steps[SigningState]: ...

    def busy(self) -> Steps[bool]:
        """It is signing, so that any of its replies may be late."""

    def public_key(self) -> Steps[bytes | None]: ...

    def begin(self, label: Label, ours: bool) -> Steps[None]:
        """`ours`: what the meter has open without knowing whose it is began with this label."""

    def end(self, label: Label | None) -> Steps[None]: ...

    def fetch(self) -> Steps[SignedRecord]: ...

    def acknowledge(self, mark: str) -> Steps[None]: ...


UNITS: dict[str, Callable[[], Unit]] = {"em580": Em580, "wm3m4": Wm3m4, "bsm_ws36a": BsmWs36a}


class SigningModbusMeter(ModbusMeter):
    """`patience`: how late it may answer while it signs; None where it answers as always."""

    def attach(self, unit: Unit, patience: DeviceTiming | None) -> SigningModbusMeter:
        self._unit, self._patience = unit, patience
        self._one = asyncio.Lock()
        # Another process, or one of ours that was killed, may have ordered a signature just now.
        self._may_sign = patience is not None
        self._label: Label | None = None
        self._resumed = False  # what is open began with the label
        self._ordered = False  # a command that signs was sent
        self._fetched: SignedRecord | None = None
        return self

    @property
    def timing(self) -> DeviceTiming:
        """As its model and the options say; while it may be signing, as long as that takes."""
        if self._may_sign and self._patience is not None:
            return self._patience
        return super().timing

    # --- The port -----------------------------------------------------------------------------

    async def begin(self, text: str) -> None:
        """Begin a signed transaction; `text` as in label.py. Called again with the same text it finds the
        transaction that runs and sends no command. Raises SigningTrouble: MTR-030 another one is open,
        MTR-031 a record waits, MTR-034 the text; and DeviceUnavailable, after which it may have begun:
        call again."""
        label = parse(text, self._env.boot_ms())
        ours = self._resumed and self._label is not None and self._label.id == label.id
        self._ordered = False
        try:
            await self._do(self._unit.begin(label, ours))
        finally:
            if self._ordered:
                # Whatever became of it: what is open from here on began with this label.
                self._label, self._resumed = label, True
        self._label, self._resumed, self._fetched = label, True, None

    def resume(self, text: str) -> None:
        """After a restart: the transaction that runs, or may run, began with this text. Sends nothing.
        Raises SigningTrouble MTR-034."""
        self._label, self._resumed = parse(text, self._env.boot_ms()), True

    async def end(self) -> None:
        """End it and wait for the signature. Where it has already ended, nothing is sent. Raises
        SigningTrouble: MTR-035 the meter wants the text again (`resume`), MTR-036 none is open."""
        await self._do(self._unit.end(self._label))

    async def fetch(self) -> bytes:
        """The signed record, OCMF, in the meter's own bytes; Bauer's two are two lines. The same bytes
        however often it is called, until `acknowledge`. Raises SigningTrouble MTR-036; MTR-033 and MTR-037
        where the record is of no use, which can be acknowledged too, once that is stored."""
        try:
            self._fetched = await self._do(self._unit.fetch())
        except SigningTrouble as trouble:
            self._fetched = SignedRecord(b"", trouble.mark) if trouble.mark else None
            raise
        return self._fetched.data

    async def acknowledge(self) -> None:
        """The record that was fetched is durable: the meter may forget it. Only what this object has
        fetched is acknowledged, so after a restart `fetch` comes first."""
        if self._fetched is None:
            raise nothing_there(await self.signing_state())
        await self._do(self._unit.acknowledge(self._fetched.mark))
        self._fetched, self._label, self._resumed = None, None, False

    # --- For people ---------------------------------------------------------------------------

    async def signing_state(self) -> SigningState:
        """Raises DeviceUnavailable."""
        return await self._do(self._unit.state())

    async def public_key(self) -> bytes | None:
        """DER SubjectPublicKeyInfo, or None where it has no key. Raises DeviceUnavailable."""
        return await self._do(self._unit.public_key(), settled=False)

    async def signs(self) -> dict[str, str | None] | None:
        """`state`, `public_key` (hex of its SubjectPublicKeyInfo) and `why` one of them is missing."""
        told: dict[str, str | None] = {"state": None, "public_key": None, "why": ""}
        try:
            told["state"] = str(await self.signing_state())
            key = await self.public_key()
            told["public_key"] = None if key is None else key.hex()
        except DeviceUnavailable as error:
            told["why"] = str(error)
        return told

    # --- Steps on the bus ---------------------------------------------------------------------

    async def _read(self) -> Reading:
        if self._may_sign and not self._one.locked():
            async with self._one:
                try:
                    self._may_sign = await self._run(self._unit.busy())
                except ExceptionReply as error:
                    if not error.is_configuration:
                        raise
                    self._may_sign = False  # a variant without the signing part
        return await super()._read()

    async def _do(self, sequence: Steps[T], *, settled: bool = True) -> T:
        """`settled`: at its end the meter is known to have signed, unless it says otherwise."""
        async with self._one:
            try:
                found = await self._run(sequence)
            except BusError as error:
                raise unavailable(error, self._who) from error
            if settled and found is not SigningState.SIGNING:
                self._may_sign = False
            return found

    async def _run(self, sequence: Steps[T]) -> T:
        reply = Reply(self._env.boot_ms())
        try:
            step = next(sequence)
            while True:
                reply = await self._perform(step)
                step = sequence.send(reply)
        except StopIteration as end:
            found: T = end.value
            return found
        finally:
            sequence.close()

    async def _perform(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            if step.ms:
                await asyncio.sleep(step.ms / 1000)
            return Reply(self._env.boot_ms())
        self._may_sign = self._may_sign or (step.patient and self._patience is not None)
        self._ordered = self._ordered or (isinstance(step, Write) and step.signs)
        try:
            answer = await self._transact(step)
        except BusError as error:
            return Reply(self._env.boot_ms(), error=error)
        return Reply(answer.received_ms, answer.values)

    async def _transact(self, step: Read | Write) -> Answer:
        unit = self._spec.unit
        if isinstance(step, Read):
            request = Request(unit, Function(step.function), step.address, step.count)
            return await self._bus.transact(request, timing=self.timing)
        function = Function.WRITE_REGISTER if step.single else Function.WRITE_REGISTERS
        request = Request(unit, function, step.address, values=step.values)
        return await self._bus.transact(
            request, timing=self.timing, priority=Priority.COMMAND, repeatable=False
        )
