"""The facade: one thread, group commit, bounded waiting."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.ledger_rows import STATION, event, record

from agent.ledger import AsyncLedger, Ledger, LedgerError, LedgerOverloaded
from agent.ledger import facade as facade_module


def test_appends_that_wait_together_share_a_sync_and_stay_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    real = Ledger.append_many

    def counted(self: Ledger, steps):  # type: ignore[no-untyped-def]
        groups.append(len(steps))
        return real(self, steps)

    monkeypatch.setattr(Ledger, "append_many", counted)

    async def main() -> None:
        ledger = await AsyncLedger.open(tmp_path / "l.db", STATION)
        waiting = [
            ledger.append(event("s", n), evse=None, terminal="t", open=True) for n in range(1, 31)
        ]
        await asyncio.gather(*waiting)
        assert [row.n for row in await ledger.events("s")] == list(range(1, 31))
        assert ledger.pending == 0
        await ledger.close()

    asyncio.run(main())
    assert sum(groups) == 30
    assert len(groups) <= 3


def test_one_refusal_reaches_its_caller_only(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = await AsyncLedger.open(tmp_path / "l.db", STATION)

        def put(n: int):  # type: ignore[no-untyped-def]
            return ledger.append(event("s", n), evse=None, terminal="t", open=True)

        outcomes = await asyncio.gather(put(1), put(7), put(2), return_exceptions=True)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], LedgerError)
        assert outcomes[2] is None
        await ledger.close()

    asyncio.run(main())


def test_a_cancelled_caller_does_not_take_the_step_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = await AsyncLedger.open(tmp_path / "l.db", STATION)
        task = asyncio.create_task(ledger.append(event("s", 1), evse=None, terminal="t", open=True))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [row.n for row in await ledger.events("s")] == [1]
        await ledger.close()

    asyncio.run(main())


def test_a_hanging_disk_is_told_and_not_queued_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade_module, "MAX_PENDING", 3)

    async def main() -> None:
        thread = ThreadPoolExecutor(1)
        ledger = await AsyncLedger.open(tmp_path / "l.db", STATION, executor=thread)
        stuck = threading.Event()
        thread.submit(stuck.wait, 30)
        calls = [asyncio.create_task(ledger.head()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(LedgerOverloaded, match="LED-013"):
            await ledger.head()
        stuck.set()
        await asyncio.gather(*calls)
        await ledger.head()
        await ledger.close()
        thread.shutdown()

    asyncio.run(main())


def test_everything_the_ledger_can_do_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = await AsyncLedger.open(tmp_path / "l.db", STATION, new_chain=lambda: "c" * 32)
        row = record(ledger._ledger, "s")
        await ledger.append(
            event("s", 1), evse="E", terminal="t", open=True, record=row, card_mac=b"m"
        )
        assert (await ledger.head()).hash == row.hash
        assert (await ledger.head()).chain == "c" * 32
        assert await ledger.records(1, 5) == [row] == await ledger.unacked(5)
        assert await ledger.record_of("s") == [row]
        assert [s.id for s in await ledger.sessions(open_only=True)] == ["s"]
        assert (await ledger.session("s")) is not None
        assert await ledger.card_mac("s") == b"m"
        await ledger.forget_card("s")
        await ledger.meta_set("a", "b")
        assert await ledger.meta_get("a") == "b"
        assert (await ledger.apply_ack(row.chain, 1, row.hash)).newly_acked == 1
        assert (await ledger.outbox_status()).unacked == 0
        assert await ledger.checkpoint() == 0
        assert (ledger.station, ledger.path) == (STATION, tmp_path / "l.db")
        await ledger.close()
        with pytest.raises(LedgerError, match="LED-002"):
            await AsyncLedger.open(tmp_path / "none" / "l.db", STATION)

    asyncio.run(main())
