"""The record key in the running station. It signs off the loop, one record after the other.

A key in a device may go away: a token is pulled, a TPM hangs. Then no new session begins, since its record
could not be signed before its capture; running sessions go on, and what they owe waits until the key is
back. Nothing is signed by another key instead, nothing is captured unsigned, and a restart finds the same
debts in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.station.clock import Clock
from agent.station.device_thread import DeviceThread
from agent.station.keeper import Log
from agent.trust import known_keys
from agent.trust.keys import KeyAway, KeyRefused, KeySource, PublicKey, Signer

T = TypeVar("T")

# TPMs take tens to hundreds of milliseconds for a signature, some seconds while they test themselves.
SIGN_TIMEOUT_S = 10.0
# Loading a module, finding the token, the PIN, the key, a first signature.
OPEN_TIMEOUT_S = 30.0
# A key that was pulled between two sessions is to be seen before the next driver taps.
CHECK_S = 60.0
# A token that is plugged in again should be used soon; the last goes on for as long as it takes.
AGAIN_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# Only to let go of the device tidily; a restart does without.
CLOSE_TIMEOUT_S = 2.0
# Signed with a key that was just opened, to see that it signs. No record begins like this.
PROBE = b"voltill: may this key sign?"
# Settings or installation have to change: trying again is no use.
FOR_GOOD = ("KEY-020", "KEY-021")


class Signing:
    """`trouble`: why the key cannot sign now, empty when it can; `changed` is called when that has changed.
    `book`: file of the public keys this station has signed with."""

    def __init__(self, source: KeySource, book: Path, clock: Clock, log: Log) -> None:
        self._source, self._book, self._clock, self._log = source, book, clock, log
        self.changed: Callable[[], None] = lambda: None
        self._thread = DeviceThread("record key") if source.leaves else None
        self._signer: Signer | None = None
        self._turn = asyncio.Lock()
        self._well, self._wake = asyncio.Event(), asyncio.Event()
        self._answered = threading.Event()
        self._answered.set()
        self._code = ""
        self._lost_ms = 0
        self._tries = 0
        self.public: PublicKey | None = None
        self.trouble = ""

    @property
    def watches(self) -> bool:
        """Whether `run` has anything to do: a key in a file is always there."""
        return self._source.leaves

    def status(self) -> dict[str, str | None]:
        kid = None if self.public is None else self.public.kid
        return {"kind": self._source.kind, "kid": kid, "trouble": self.trouble}

    async def start(self) -> None:
        """Open the key. Raises KeyRefused when it cannot be without a change of settings; a device that is
        away only makes `trouble`."""
        try:
            await self._open()
        except KeyRefused as refused:
            if not self.watches or refused.code in FOR_GOOD:
                raise
            self._lose(refused)

    async def use(self, work: Callable[[Signer], T]) -> T:
        """What `work` makes with the key, off the loop. Waits as long as the key is away."""
        while True:
            await self._well.wait()
            async with self._turn:
                signer = self._signer
                if signer is None:
                    continue
                try:
                    return await self._call(partial(work, signer), SIGN_TIMEOUT_S)
                except KeyRefused as refused:
                    if not self.watches:
                        raise
                    self._lose(refused)

    async def run(self) -> None:
        """Look after a key that can go away."""
        while True:
            if not self.trouble:
                await self._quiet()
                await self._look()
                continue
            await asyncio.sleep(AGAIN_S[min(self._tries, len(AGAIN_S) - 1)])
            self._tries += 1
            async with self._turn:
                try:
                    await self._open()
                except KeyRefused as refused:
                    self._lose(refused)

    async def close(self) -> None:
        """Let go of the device, if it lets us within its time."""
        signer, self._signer = self._signer, None
        self._well.clear()
        if signer is None or self._thread is None:
            return
        with contextlib.suppress(KeyAway):
            await self._call(signer.close, CLOSE_TIMEOUT_S)
        self._thread.shutdown()

    # --- inside -----------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """Until it is time to look, or the key was lost meanwhile."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _look(self) -> None:
        async with self._turn:
            signer = self._signer
            if signer is None or self.trouble:
                return
            try:
                await self._call(signer.check, SIGN_TIMEOUT_S)
            except KeyRefused as refused:
                self._lose(refused)
            else:
                self._tries = 0  # it has held for a while: the next loss is tried at once again

    async def _open(self) -> None:
        late = threading.Event()

        def opened() -> Signer:
            try:
                signer = self._source.open()
            except (RuntimeError, OSError, TypeError, ValueError) as error:
                # A library that meets a broken device says so in many ways; none may end the station.
                remedy = "check the device and its connection; it is tried again"
                raise KeyAway("KEY-027", f"{self._source.name}: {error!r}", remedy) from error
            try:
                signer.sign(PROBE)
            except BaseException:
                signer.close()
                raise
            if late.is_set():
                signer.close()
            return signer

        try:
            signer = await self._call(opened, OPEN_TIMEOUT_S)
        except BaseException:
            late.set()
            raise
        await self._note(signer.public)
        self._signer = signer
        if self.trouble:
            self.trouble, self._code = "", ""
            self._log("record_key_back", after_ms=self._clock.boot_ms() - self._lost_ms)
            self.changed()
        self._wake.clear()
        self._well.set()

    async def _note(self, public: PublicKey) -> None:
        """Another key than before is no fault, but never goes unsaid: whoever verifies needs both."""
        before = self.public or await asyncio.to_thread(known_keys.newest, self._book)
        self.public = public
        if before == public:
            return
        try:
            await asyncio.to_thread(known_keys.add, self._book, public)
        except OSError as error:  # only convenience: every record names its key
            self._log("record_key_not_noted", level="warning", id="KEY-034", why=str(error))
        if before is not None:
            self._log(
                "record_key_changed",
                level="warning",
                id="KEY-033",
                old=before.kid,
                new=public.kid,
                where=self._source.name,
            )

    async def _call(self, work: Callable[[], T], timeout_s: float) -> T:
        if self._thread is None:
            return await asyncio.to_thread(work)
        name = self._source.name
        remedy = "check the device and its connection; it is tried again"
        if not self._answered.is_set():
            raise KeyAway("KEY-028", f"{name} has not answered an earlier call yet", remedy)
        answered = threading.Event()

        def call() -> T:
            try:
                return work()
            finally:
                answered.set()

        answer = asyncio.get_running_loop().run_in_executor(self._thread, call)
        answer.add_done_callback(_heard)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(answer)
        except TimeoutError:
            self._answered = (
                answered  # it is still in there: nothing more is asked until it comes out
            )
            seen = f"{name} did not answer within {timeout_s:.0f} s"
            raise KeyAway("KEY-028", seen, remedy) from None

    def _lose(self, refused: KeyRefused) -> None:
        signer, self._signer = self._signer, None
        if signer is not None and self._thread is not None:
            # After what may still hang in there; nobody waits for it.
            asyncio.get_running_loop().run_in_executor(self._thread, signer.close)
        self._well.clear()
        if not self.trouble:
            self._lost_ms = self._clock.boot_ms()
        self.trouble = str(refused)
        if refused.code != self._code:
            self._code = refused.code
            self._log(
                "record_key_lost",
                level="error",
                id=refused.code,
                why=self.trouble,
                effect="no new sessions; records of running ones wait",
            )
            self.changed()
        self._wake.set()


def _heard(answer: asyncio.Future[T]) -> None:
    """What comes out of the device after its time is nobody's any more."""
    if not answer.cancelled():
        answer.exception()
