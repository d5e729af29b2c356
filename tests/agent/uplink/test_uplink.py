"""The uplink against a real mosquitto and a back end that shares no code with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws as judge
from joserfc.jwk import ECKey
from support.ack_backend import AckBackend, Signer
from support.ledger_rows import KEY, STATION, event, fill, record, stamp
from support.mosquitto import Mosquitto

from agent.ledger import AsyncLedger, Ledger
from agent.trust.chain import verify_records
from agent.trust.keys import KeySet
from agent.uplink import Uplink, UplinkConfig, UplinkTiming
from agent.uplink.drain import DrainTiming
from agent.uplink.pipe import mqtt

WAIT_S = 20.0
QUICK = UplinkTiming(
    backoff_first=20,
    backoff_max=100,
    stable=1,
    drain=DrainTiming(ack_timeout=5_000, probe_first=20, probe=300, probe_max=600),
)


class Rig:
    """One uplink with its ledger, its log, and waiting on what the log and status say."""

    def __init__(
        self, ledger: AsyncLedger, uplink: Uplink, logged: list[dict[str, Any]], pipes: list[Any]
    ) -> None:
        self.ledger, self.uplink, self.logged, self.pipes = ledger, uplink, logged, pipes

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.logged if line["event"] == name]

    async def until(self, what: Callable[[], Any]) -> Any:
        """`what` becomes true: looked at whenever the loop has done something for a while."""
        async with asyncio.timeout(WAIT_S):
            while not (found := what()):
                await asyncio.sleep(0.005)
            return found

    async def unacked(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while (await self.ledger.outbox_status()).unacked != count:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    url: str,
    trust: Path,
    *,
    records: int = 0,
    timing: UplinkTiming = QUICK,
    **options: Any,
) -> AsyncIterator[Rig]:
    path = folder / "ledger.db"
    if records:
        ledger = Ledger.open(path, STATION)
        fill(ledger, records)
        ledger.close()
    opened = await AsyncLedger.open(path, STATION)
    config = UplinkConfig(
        url=url, root="voltill", tenant="abc", station=STATION, trust=(trust,),
        timing=timing, version="0.1.0", **options,
    )  # fmt: skip
    logged: list[dict[str, Any]] = []
    pipes: list[Any] = []

    def open_pipe(*given: Any) -> Any:
        pipes.append(mqtt(config.pipe)(*given))
        return pipes[-1]

    def log(name: str, level: str = "info", **values: Any) -> None:
        logged.append({"event": name, "level": level, **values})

    uplink = Uplink(
        config,
        opened,
        boot_ms=lambda: time.monotonic_ns() // 1_000_000,
        now=stamp,
        log=log,
        rng=random.Random(1),
        open_pipe=open_pipe,
    )
    task = asyncio.create_task(uplink.run())
    try:
        yield Rig(opened, uplink, logged, pipes)
        assert not task.done(), "the uplink ended by itself"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await opened.close()


@pytest.fixture
def broker(tmp_path: Path):
    with Mosquitto(tmp_path) as running_broker:
        yield running_broker


@pytest.fixture
def backend(broker: Mosquitto, tmp_path: Path):
    with AckBackend(broker.url, STATION) as here:
        (tmp_path / "backend.pem").write_bytes(here.signer.pem())
        yield here


async def _threaded(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_records_arrive_in_order_byte_for_byte_and_a_signed_ack_marks_them(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path, protocol: str
) -> None:
    async def main() -> None:
        backend.say_online()
        trust = tmp_path / "backend.pem"
        async with running(tmp_path, broker.url, trust, records=7, protocol=protocol) as rig:
            await rig.unacked(0)
            # One more while running: alone, on the topic of its type.
            await rig.ledger.append(
                event("new", 1), evse="E1", terminal="t1", open=False,
                record=await asyncio.to_thread(record, rig.ledger._ledger, "new", "settlement"),
            )  # fmt: skip
            rig.uplink.wake()
            await rig.unacked(0)
            stored = [row.jws for row in await rig.ledger.records(1, 100)]
            assert [backend.records[seq] for seq in range(1, 9)] == stored
            assert backend.arrivals == list(range(1, 9))
            status = rig.uplink.status()
            assert (status["connected"], status["backend"], status["mode"]) == (
                True,
                "online",
                "flow",
            )
            assert (status["unacked"], status["acked_through"], status["trouble"]) == (0, 8, None)

        topics = [topic for topic, _, _ in backend.messages]
        assert topics == [
            f"voltill/v1/abc/{STATION}/rec/batch",
            f"voltill/v1/abc/{STATION}/rec/settlement",
        ]
        v5 = protocol == "5"
        assert [content for _, _, content in backend.messages] == (
            ["application/cloudevents-batch+json", "application/cloudevents+json"]
            if v5
            else [None, None]
        )
        single = json.loads(backend.messages[-1][1])
        assert {**single, "data": "", "time": ""} == {
            "specversion": "1.0", "id": f"{backend.chain}-8", "source": f"/abc/{STATION}",
            "type": "voltill.record.settlement", "time": "", "datacontenttype": "application/jose",
            "data": "",
        }  # fmt: skip
        key = ECKey.import_key(KEY.public.pem())
        for text in backend.records.values():
            assert judge.deserialize_compact(text, key, algorithms=["ES256"])
        assert verify_records(backend.records.values(), KeySet([KEY.public])).ok

    asyncio.run(main())


def test_a_puback_alone_marks_nothing_and_the_ack_that_comes_later_does(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        backend.auto = False
        backend.say_online()
        async with running(tmp_path, broker.url, tmp_path / "backend.pem", records=3) as rig:
            await _threaded(lambda: backend.wait(lambda: len(backend.records) == 3))
            # Every message had its PUBACK: mosquitto sends it before it hands the message on; and the
            # loop has taken it in once a later message of ours came back as a state.
            await rig.until(lambda: not rig.uplink._drain._flying)
            assert (await rig.ledger.outbox_status()).unacked == 3
            backend.ack()
            await rig.unacked(0)

    asyncio.run(main())


def test_acks_that_count_for_nothing_mark_nothing_and_raise_an_alarm(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        backend.auto = False
        backend.say_online()
        async with running(tmp_path, broker.url, tmp_path / "backend.pem", records=3) as rig:
            await _threaded(lambda: backend.wait(lambda: len(backend.records) == 3))
            stranger = Signer()
            wrong: list[Callable[[], None]] = [
                lambda: backend.ack(signer=stranger),
                lambda: backend.ack(station="DE*ABC*S2"),
                lambda: backend.ack(through_seq=-1),
                lambda: backend.ack(through_seq=True),
                lambda: backend.ack(hash="AB" * 32),
                lambda: backend.ack(holes=[0]),
                lambda: backend.ack(holes=[1.5]),
                lambda: backend.ack(refused=[{"seq": 1}]),
                lambda: backend.ack(refused="x"),
                lambda: backend.ack(time="yesterday"),
                lambda: backend.ack(time="2026-13-41T10:00:00Z"),
                lambda: backend.ack(time=None),
                lambda: backend.send_raw_ack(b"\xff\xfe"),
                lambda: backend.send_raw_ack(b"a.b.c"),
                lambda: backend.send_raw_ack(backend.records[1].encode()),  # a record is no ack
            ]
            for number, send in enumerate(wrong):
                send()
                told = await rig.until(lambda: rig.uplink.status()["alarms"].get("UPL-010"))
                assert (await rig.ledger.outbox_status()).unacked == 3, (number, told)
                rig.uplink._alarms.clear()
            backend.ack(chain="f" * 32)
            await rig.until(lambda: rig.events("ack_unknown_chain"))
            backend.ack(hash="ab" * 32)
            await rig.until(lambda: rig.events("ack_fork"))
            assert rig.events("ack_fork")[0]["id"] == "UPL-011"
            assert (await rig.ledger.outbox_status()).unacked == 3
            backend.ack()
            await rig.unacked(0)
            # The fork stays in the status: a person has to look at it.
            assert "UPL-011" in rig.uplink.status()["alarms"]

    asyncio.run(main())


def test_refused_records_are_parked_and_alarmed(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        backend.auto = False
        backend.say_online()
        async with running(tmp_path, broker.url, tmp_path / "backend.pem", records=3) as rig:
            await _threaded(lambda: backend.wait(lambda: len(backend.records) == 3))
            backend.ack(refused=[{"seq": 2, "code": "schema"}])
            await rig.unacked(0)
            await rig.until(lambda: rig.uplink.status()["parked"] == 1)
            assert "schema (record 2)" in rig.uplink.status()["alarms"]["UPL-012"]
            # A reason is logged once, not with every record it meets.
            backend.ack(refused=[{"seq": 1, "code": "schema"}, {"seq": 3, "code": "key"}])
            await rig.until(lambda: rig.uplink.status()["parked"] == 3)
            assert [line["id"] for line in rig.events("record_refused")] == ["UPL-012"] * 2
            # Once it knows better, it asks for them.
            backend.ack(holes=[1, 2])
            await rig.until(lambda: rig.uplink.status()["parked"] == 1)
            await _threaded(lambda: backend.wait(lambda: backend.arrivals[3:] == [1, 2]))

    asyncio.run(main())


def test_holes_are_filled_and_old_records_are_sent_again_when_asked_for(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        lost = {2, 3, 5}
        backend.lose = lambda seq: seq in lost and backend.arrivals.count(seq) == 1
        backend.say_online()
        async with running(tmp_path, broker.url, tmp_path / "backend.pem", records=6) as rig:
            await rig.unacked(0)
            assert sorted(backend.records) == [1, 2, 3, 4, 5, 6]
            assert backend.arrivals[:6] == [1, 2, 3, 4, 5, 6]
            # Much later the back end wants 1 and 4 again: its disk was restored.
            backend.auto = False
            seen = len(backend.arrivals)
            backend.ack(holes=[1, 4])
            await _threaded(lambda: backend.wait(lambda: len(backend.arrivals) >= seen + 2))
            assert backend.arrivals[seen:] == [1, 4]
            assert (await rig.ledger.outbox_status()).unacked == 2
            backend.ack()
            await rig.unacked(0)

    asyncio.run(main())


def test_without_the_back_ends_word_one_probe_an_interval_goes_out(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        backend.auto = False
        backend.say_online(False)
        async with running(tmp_path, broker.url, tmp_path / "backend.pem", records=9) as rig:
            await _threaded(lambda: backend.wait(lambda: len(backend.arrivals) >= 2))
            assert set(backend.arrivals) == {1}
            assert rig.uplink.status()["mode"] == "probe"
            backend.auto = True
            backend.say_online()
            await rig.unacked(0)
            assert sorted(backend.records) == list(range(1, 10))

    asyncio.run(main())


def test_a_broker_killed_again_and_again_during_the_drain_loses_nothing(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    """Nothing is persisted by this broker, so whatever it had confirmed and not handed on is gone."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    timing = UplinkTiming(
        backoff_first=20, backoff_max=100, stable=1,
        drain=DrainTiming(ack_timeout=1_000, probe_first=20, probe=100, probe_max=200),
    )  # fmt: skip

    async def main() -> None:
        trust = tmp_path / "backend.pem"
        async with running(tmp_path, broker.url, trust, records=600, timing=timing) as rig:
            for _ in range(3):
                have = len(backend.arrivals)
                await _threaded(
                    lambda have=have: backend.wait(
                        lambda: len(backend.arrivals) >= min(600, have + rng.randint(1, 80))
                    )
                )
                await _threaded(broker.kill)
                await _threaded(broker.start)
            backend.say_online()
            await rig.unacked(0)
            assert sorted(backend.records) == list(range(1, 601))
            stored = [row.jws for row in await rig.ledger.records(1, 1000)]
            assert [backend.records[seq] for seq in range(1, 601)] == stored
            lost, back = rig.events("uplink_down"), rig.events("uplink_up")
            assert len(back) >= 2, "the kills were not felt"
            assert all(line["after_ms"] >= 0 for line in back)
            # Said once per outage and kind, however many retries it took.
            assert len(lost) <= 2 * len(back)

    asyncio.run(main())


def test_birth_and_will_are_retained_and_carry_the_connection_counter(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        async with running(tmp_path, broker.url, tmp_path / "backend.pem") as rig:
            birth = (await _threaded(lambda: backend.wait(lambda: backend.states[:1])))[0]
            assert birth["online"] is True
            assert (birth["boot"], birth["conn"], birth["version"], birth["outbox"]) == (
                "boot-1", 1, "0.1.0", 0)  # fmt: skip
            # The socket dies without a DISCONNECT: the broker publishes the will of connection 1.
            rig.pipes[0]._socket.shutdown(socket.SHUT_RDWR)
            states = await _threaded(
                lambda: backend.wait(lambda: len(backend.states) >= 3 and backend.states)
            )
            assert {"online": False, "boot": "boot-1", "conn": 1} in states
            assert states[-1]["conn"] == 2 and states[-1]["online"] is True
        # Ended in order: the same topic says offline, once, by our own word.
        states = await _threaded(
            lambda: backend.wait(lambda: len(backend.states) >= 4 and backend.states)
        )
        assert states[3] == {"online": False, "boot": "boot-1", "conn": 2}
        # Retained: whoever comes later is told the same.
        with AckBackend(broker.url, STATION) as late:
            told = await _threaded(lambda: late.wait(lambda: late.states))
            assert told == [states[3]]

    asyncio.run(main())


def test_a_large_backlog_goes_out_in_batches_under_the_limit(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    async def main() -> None:
        ledger = Ledger.open(tmp_path / "ledger.db", STATION)
        for number in range(1, 151):
            name = f"s{number}"
            size = 9_000 if number % 10 == 0 else 900
            row = record(ledger, name, note="n" * size)
            ledger.append(event(name, 1), evse="E", terminal="t", open=False, record=row)
        ledger.close()
        backend.say_online()
        async with running(tmp_path, broker.url, tmp_path / "backend.pem") as rig:
            await rig.unacked(0)
        assert backend.arrivals == list(range(1, 151))
        sizes = [len(payload) for _, payload, _ in backend.messages]
        assert max(sizes) <= 96 * 1024
        assert len(sizes) <= 8, "the backlog went out in too many messages"

    asyncio.run(main())


# --- TLS ------------------------------------------------------------------------------------------


def test_tls_with_a_client_certificate_delivers(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, tls=True, require_certificate=True) as broker:
        certificate, key = broker.client(STATION)

        async def main() -> None:
            (tmp_path / "trust.pem").write_bytes(Signer().pem())
            async with running(
                tmp_path, broker.url, tmp_path / "trust.pem", records=30,
                ca=broker.ca, certificate=certificate, key=key,
            ) as rig:  # fmt: skip
                await rig.until(lambda: rig.uplink.status()["connected"])
                await rig.until(lambda: rig.uplink._drain._sent)

        asyncio.run(main())


def test_a_wrong_authority_or_a_missing_certificate_leaves_records_waiting(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "a", tls=True, require_certificate=True) as broker,
        Mosquitto(tmp_path / "b", tls=True) as other,
    ):
        (tmp_path / "trust.pem").write_bytes(Signer().pem())
        certificate, _ = broker.client(STATION)
        foreign = other.client(STATION)
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        cases = [
            ({"ca": other.ca}, "UPL-002", "certificate"),
            ({"ca": broker.ca}, "UPL-003", "uplink.certificate"),
            ({"ca": broker.ca, "certificate": foreign[0], "key": foreign[1]}, "UPL-003", "refuses"),
            ({"ca": broken}, "UPL-006", "cannot be used"),
            ({"ca": broker.ca, "certificate": certificate, "key": foreign[1]}, "UPL-006", "key"),
            ({"ca": tmp_path / "none.pem"}, "UPL-006", "No such file"),
        ]

        async def main() -> None:
            records = 2
            for options, code, words in cases:
                async with running(
                    tmp_path, broker.url, tmp_path / "trust.pem", records=records, **options
                ) as rig:
                    records = 0
                    await rig.until(lambda: rig.uplink.status()["connection"] >= 3)
                    lines = rig.events("uplink_down")
                    assert [line["id"] for line in lines] == [code], lines
                    assert words in lines[0]["text"], lines
                    status = rig.uplink.status()
                    assert status["connected"] is False
                    assert status["trouble"]["id"] == code
                    assert (await rig.ledger.outbox_status()).unacked == 2

        asyncio.run(main())


def test_an_unreachable_broker_is_told_once_and_its_return_with_the_time(
    broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "trust.pem").write_bytes(Signer().pem())
    broker.kill()

    async def main() -> None:
        async with running(tmp_path, broker.url, tmp_path / "trust.pem") as rig:
            await rig.until(lambda: rig.uplink.status()["connection"] >= 4)
            assert [line["id"] for line in rig.events("uplink_down")] == ["UPL-001"]
            await _threaded(broker.start)
            line = (await rig.until(lambda: rig.events("uplink_up")))[0]
            assert line["after_ms"] > 0
        (tmp_path / "trust.pem").write_text("not a key")
        async with running(tmp_path, broker.url, tmp_path / "trust.pem") as rig:
            line = (await rig.until(lambda: rig.events("uplink_down")))[0]
            assert line["id"] == "UPL-008"

    asyncio.run(main())


def test_a_broker_that_says_no_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "trust.pem").write_bytes(Signer().pem())
    with Mosquitto(tmp_path, config="allow_anonymous false") as broker:

        async def main() -> None:
            for protocol in ("5", "3.1.1"):
                async with running(
                    tmp_path, broker.url, tmp_path / "trust.pem", protocol=protocol
                ) as rig:
                    await rig.until(lambda: rig.uplink.status()["connection"] >= 3)
                    lines = rig.events("uplink_down")
                    assert [line["id"] for line in lines] == ["UPL-004"], lines
                    assert "does not let this station in" in lines[0]["text"]

        asyncio.run(main())


def test_a_broker_that_takes_no_records_is_not_hammered(tmp_path: Path) -> None:
    """MQTT 5 says so in the PUBACK; paho alone would count the record as published."""
    rules = tmp_path / "rules"
    rules.write_text("topic read #\ntopic write voltill/v1/abc/+/state/agent\n")
    rules.chmod(0o600)
    (tmp_path / "trust.pem").write_bytes(Signer().pem())
    with Mosquitto(tmp_path, config=f"acl_file {rules}") as broker:

        async def main() -> None:
            async with running(tmp_path, broker.url, tmp_path / "trust.pem", records=2) as rig:
                line = (await rig.until(lambda: rig.events("publish_refused")))[0]
                assert (line["id"], "Not authorized" in line["text"]) == ("UPL-014", True)
                assert rig.uplink.status()["mode"] == "probe"
                assert (await rig.ledger.outbox_status()).unacked == 2

        asyncio.run(main())


def test_the_watchdog_makes_a_new_connection_when_nothing_is_acknowledged(
    broker: Mosquitto, backend: AckBackend, tmp_path: Path
) -> None:
    timing = UplinkTiming(
        backoff_first=20, backoff_max=50, stable=1, watchdog=300, drain=QUICK.drain
    )

    async def main() -> None:
        backend.auto = False
        backend.say_online()
        trust = tmp_path / "backend.pem"
        async with running(tmp_path, broker.url, trust, records=1, timing=timing) as rig:
            await rig.until(lambda: len(rig.events("uplink_up")) >= 2)
            assert rig.events("uplink_down")[0]["id"] == "UPL-015"

    asyncio.run(main())


def test_a_configuration_that_cannot_work_is_refused_at_once() -> None:
    good = {"url": "mqtts://h", "root": "voltill", "tenant": "abc", "station": STATION, "trust": ()}
    assert UplinkConfig(**good).pipe.port == 8883
    assert UplinkConfig(**{**good, "url": "mqtt://h"}).pipe.port == 1883
    assert (
        UplinkConfig(**{**good, "root": "a/b"}).topics.acks == f"a/b/v1/abc/{STATION}/ack/records"
    )
    for change in (
        {"url": "http://h"}, {"url": "mqtt://"}, {"protocol": "4"}, {"certificate": Path("x")},
        {"station": "a/b"}, {"station": "a+"}, {"tenant": "#"}, {"tenant": ""}, {"root": "$SYS"},
        {"root": "a/"}, {"station": "a b"},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            UplinkConfig(**{**good, **change})
