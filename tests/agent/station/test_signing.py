"""Signing off the loop, in order, with a timeout; with real threads, as a hung library needs them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.key_devices import PIN, TOKEN, SoftToken, SoftTpm
from support.key_faults import Device
from support.tree import ROOT

from agent.station import signing as signing_module
from agent.station.device_thread import DeviceThread
from agent.station.signing import PROBE, Signing
from agent.trust.keys import KeyAway, KeyFile, KeyRefused, KeySource, RecordKey, Signer
from agent.trust.pkcs11 import Pkcs11Key
from agent.trust.tpm import TpmKey
from agent.values import Quality, Stamp

SOON_S = 20.0  # a busy machine; what is waited for comes at once


class Clock:
    def boot_ms(self) -> int:
        return round(time.monotonic() * 1000)

    def stamp(self) -> Stamp:
        return Stamp(0, self.boot_ms(), "boot", Quality.TRUSTED)


class Made:
    def __init__(self, source: KeySource, folder: Path) -> None:
        self.lines: list[tuple[str, str]] = []
        self.signing = Signing(source, folder / "record-keys.pem", Clock(), self._log)

    def _log(self, event: str, **values: Any) -> None:
        self.lines.append((event, values.get("id", "")))

    async def until(self, wanted: Callable[[], object]) -> None:
        async with asyncio.timeout(SOON_S):
            while not wanted():
                await asyncio.sleep(0.005)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_module, "SIGN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(signing_module, "OPEN_TIMEOUT_S", 5.0)
    monkeypatch.setattr(signing_module, "CHECK_S", 0.05)
    monkeypatch.setattr(signing_module, "AGAIN_S", (0.0, 0.05))


def sign(data: bytes) -> Callable[[Signer], bytes]:
    return lambda key: key.sign(data)


def test_the_device_is_used_by_one_thread_that_is_not_the_loops(tmp_path: Path) -> None:
    async def main() -> None:
        device = Device()
        made = Made(device, tmp_path)
        await made.signing.start()
        datas = [str(n).encode() for n in range(50)]
        await asyncio.gather(*(made.signing.use(sign(data)) for data in datas))
        assert device.signed == [PROBE, *datas], "in the order they were asked for"
        assert len(device.threads) == 1 and threading.get_ident() not in device.threads
        await made.signing.close()

    asyncio.run(main())


class CountingThread(DeviceThread):
    calls = 0

    def submit(self, *given: Any, **more: Any) -> Any:
        self.calls += 1
        return super().submit(*given, **more)


def test_a_library_that_hangs_holds_nothing_up(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = CountingThread("record key")
    monkeypatch.setattr(signing_module, "DeviceThread", lambda name: thread)

    async def main() -> None:
        device = Device()
        assert device.key is not None
        made = Made(device, tmp_path)
        await made.signing.start()
        running = asyncio.create_task(made.signing.run())
        device.held = held = threading.Event()
        waiting = asyncio.create_task(made.signing.use(sign(b"owed")))
        await made.until(lambda: made.signing.trouble)
        assert made.signing.trouble.startswith("KEY-028")
        for _ in range(5):  # the loop goes on
            await asyncio.sleep(0.05)
        assert thread.calls == 3, "opened, signed, to be closed: nothing more is thrown at it"
        assert not waiting.done()
        device.held = None
        held.set()
        signature = await asyncio.wait_for(waiting, SOON_S)
        assert device.key.public.verify(signature, b"owed")
        assert made.signing.trouble == ""
        assert made.lines == [("record_key_lost", "KEY-028"), ("record_key_back", "")]
        running.cancel()
        await made.signing.close()

    asyncio.run(main())


def test_a_start_does_not_wait_for_ever(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_module, "OPEN_TIMEOUT_S", 0.1)

    async def main() -> None:
        device = Device(held=threading.Event())
        assert device.held is not None
        made = Made(device, tmp_path)
        await made.signing.start()
        assert made.signing.trouble.startswith("KEY-028")
        device.held.set()
        device.held = None
        running = asyncio.create_task(made.signing.run())
        await asyncio.wait_for(made.signing.use(sign(b"x")), SOON_S)
        running.cancel()
        await made.signing.close()

    asyncio.run(main())


HANGS = """
import asyncio, sys, threading
sys.path[:0] = [{tests!r}]
from pathlib import Path
from support.key_faults import Device
from agent.station import signing
signing.SIGN_TIMEOUT_S = signing.CLOSE_TIMEOUT_S = 0.1

class Clock:
    def boot_ms(self): return 0

async def main():
    device = Device()
    made = signing.Signing(device, Path({book!r}), Clock(), lambda *_, **__: None)
    await made.start()
    device.held = threading.Event()
    owed = asyncio.create_task(made.use(lambda key: key.sign(b"x")))
    while not made.trouble:
        await asyncio.sleep(0.01)
    owed.cancel()
    await made.close()
    print("ended")

asyncio.run(main())
"""


def test_a_process_ends_although_a_call_hangs(tmp_path: Path) -> None:
    text = HANGS.format(tests=str(ROOT / "tests"), book=str(tmp_path / "book"))
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=True,
    )
    assert done.stdout == "ended\n" and done.stderr == ""


def test_a_key_that_opens_but_never_signs_is_not_tried_in_a_circle(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_module, "CHECK_S", 60.0)
    monkeypatch.setattr(signing_module, "AGAIN_S", (0.0, 0.05, 60.0))

    async def main() -> None:
        device = Device()
        made = Made(device, tmp_path)
        await made.signing.start()
        running = asyncio.create_task(made.signing.run())

        def never(key: Signer) -> bytes:
            raise KeyAway("KEY-027", "broken", "look")

        owed = asyncio.create_task(made.signing.use(never))
        await asyncio.sleep(0.5)
        assert device.opened == 3, "at the start, at once, after a moment; then it waits"
        owed.cancel()
        running.cancel()
        await made.signing.close()

    asyncio.run(main())


def test_work_that_fails_for_its_own_reason_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        made = Made(Device(), tmp_path)
        await made.signing.start()
        with pytest.raises(ZeroDivisionError):
            await made.signing.use(lambda key: 1 // 0)
        assert made.signing.trouble == ""
        await made.signing.close()

    asyncio.run(main())


def test_a_key_file_needs_no_looking_after(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "key.pem"
        RecordKey.generate().save(path)
        before = set(threading.enumerate())
        made = Made(KeyFile(path), tmp_path)
        await made.signing.start()
        assert not made.signing.watches

        def broken(key: Signer) -> bytes:
            raise KeyRefused("KEY-006", "an old library", "install another")

        with pytest.raises(KeyRefused, match="KEY-006"):
            await made.signing.use(broken)
        assert await made.signing.use(sign(b"x")) == RecordKey.load(path).sign(b"x")
        await made.signing.close()
        fresh = set(threading.enumerate()) - before
        assert [t for t in fresh if t.name == "record key"] == []

    asyncio.run(main())


def test_the_thread_hands_on_what_was_raised_and_skips_what_was_cancelled() -> None:
    thread = DeviceThread("t")
    first, second = threading.Event(), []
    thread.submit(first.wait)
    given_up = thread.submit(second.append, 1)
    assert given_up.cancel()
    failed = thread.submit(int, "x")
    first.set()
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result(SOON_S)
    assert second == []
    thread.shutdown()


# --- with real devices --------------------------------------------------------------------------------


def test_a_real_token_that_hangs_and_is_pulled(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = SoftToken(tmp_path, monkeypatch)
    source = Pkcs11Key(token.module, "record", token=TOKEN, slot=None, pin=lambda: PIN)
    public = source.create()

    troubles: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
        made = Made(source, tmp_path)
        await made.signing.start()
        running = asyncio.create_task(made.signing.run())
        token.misbehave("hang")
        owed = asyncio.create_task(made.signing.use(sign(b"owed")))
        await made.until(lambda: made.signing.trouble)
        token.misbehave("removed")
        await made.until(lambda: made.signing.trouble.startswith("KEY-027"))
        assert not owed.done()
        token.misbehave("")
        assert public.verify(await asyncio.wait_for(owed, SOON_S), b"owed")
        token.pull()
        await made.until(lambda: made.signing.trouble)
        token.plug()
        await made.until(lambda: not made.signing.trouble)
        assert public.verify(await asyncio.wait_for(made.signing.use(sign(b"x")), SOON_S), b"x")
        running.cancel()
        await made.signing.close()
        gc.collect()

    try:
        asyncio.run(main())
    finally:
        token.end()
    assert troubles == [], "what comes out late is told nobody"
    assert set(token.logins) == {PIN}


def test_a_real_tpm_that_hangs(tmp_path: Path, quick: None) -> None:
    tpm = SoftTpm(tmp_path / "tpm")
    source = TpmKey(tpm.tcti, handle=None, file=tmp_path / "key.tpm", pin=None)
    public = source.create()

    async def main() -> None:
        made = Made(source, tmp_path)
        await made.signing.start()
        running = asyncio.create_task(made.signing.run())
        tpm.freeze()
        owed = asyncio.create_task(made.signing.use(sign(b"owed")))
        await made.until(lambda: made.signing.trouble.startswith("KEY-028"))
        tpm.thaw()
        assert public.verify(await asyncio.wait_for(owed, SOON_S), b"owed")
        tpm.stop()
        await made.until(lambda: made.signing.trouble.startswith("KEY-029"))
        tpm.start()
        assert public.verify(await asyncio.wait_for(made.signing.use(sign(b"x")), SOON_S), b"x")
        running.cancel()
        await made.signing.close()

    try:
        asyncio.run(main())
        assert tpm.tool("getcap", "handles-transient").strip() == "", "let go of at the end"
    finally:
        tpm.stop()
