"""The simulated broker and back end: hil's intake and database on the world's clock, and the pipe to them.

The broker forgets everything with a connection. A back end may be gone, slow, refusing, forgetful or lying;
`heal` makes it an honest one that asks for what it lost."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from agent.uplink.pipe import Limits, PipeConfig, PipeDown, PipeEvents, Will
from agent.uplink.trouble import Trouble
from hil.backend.database import Coverage, Database
from hil.backend.intake import Intake
from hil.backend.jose import ACK_TYP, payload_of, sign
from hil.backend.keyring import Keyring
from simulate.cable import Owner
from simulate.loop import SharedLoop, Time

HOP_S = 0.03
STATE_EVERY_S = 30.0
GONE = Trouble("UPL-001", "the broker does not answer; check network and port")
CUT = Trouble("UPL-007", "the connection to the broker was lost: reset")
EPOCH = datetime(2026, 11, 20, 12, tzinfo=UTC)
MAX_BYTES = 90 * 1024
RECORDS_MAX = 1_000  # far more than one world writes


@dataclass(frozen=True, slots=True)
class Names:
    root: str
    tenant: str
    station: str


class Backend:
    def __init__(
        self, time: Time, loop: SharedLoop, key: ec.EllipticCurvePrivateKey, station_pem: Path,
        names: Names, seed: int,
    ) -> None:  # fmt: skip
        self._time, self._loop, self._key = time, loop, key
        self._names, self._random = names, random.Random(seed)
        self._other_key = ec.generate_private_key(ec.SECP256R1())
        keyring = Keyring([], [station_pem])
        self.intake = Intake(
            Database(Path(":memory:")), keyring, key, names.root, names.tenant, self.now
        )
        self.pipe: SimPipe | None = None
        self.reachable = True
        # A broker that accepts connections later: whoever waits for it, and whether it makes them wait.
        self._at_door: SimPipe | None = None
        self._door_shut = False
        self.ack_delay_s = 0.0
        self.refuses = self.lies = False
        self.publishes_lost_permille = 0
        # What an honest word of ours ever covered: (chain, seq), to ask for it after a loss.
        self.ever: set[tuple[str, int]] = set()
        self.turned_away: set[tuple[str, int]] = set()
        self.state_topic = f"{names.root}/v1/{names.tenant}/backend/state"
        loop.call_later(STATE_EVERY_S, self._renew)

    def now(self) -> str:
        when = EPOCH + timedelta(seconds=self._time.now_s)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def close(self) -> None:
        self.intake.database.close()

    # --- the broker's side ------------------------------------------------------------------------

    def open_pipe(
        self, owner: Owner, config: PipeConfig, events: PipeEvents, will: Will, _: tuple[str, ...]
    ) -> SimPipe:
        self.pipe = SimPipe(self, owner, events)
        return self.pipe

    def shut_door(self) -> None:
        """The connection breaks, and the next one waits for `open_door`."""
        self._door_shut = True
        self.drop()

    def open_door(self) -> None:
        self._door_shut = False
        pipe, self._at_door = self._at_door, None
        if pipe is not None:
            pipe.connect()

    def waits(self, pipe: SimPipe) -> bool:
        if self._door_shut:
            self._at_door = pipe
        return self._door_shut

    def drop(self) -> None:
        """The connection breaks."""
        if self.pipe is not None:
            self.pipe.cut(CUT)

    def arrived(
        self, pipe: SimPipe, mid: int, topic: str, payload: bytes, kind: str | None
    ) -> None:
        if pipe is not self.pipe or not self.reachable:
            return
        if self._random.randrange(1000) < self.publishes_lost_permille:
            pipe.puback(mid)  # a broker that drops what it has confirmed
            return
        pipe.puback(mid)
        if self.refuses and "/rec/" in topic:
            self._turn_away(payload)
            return
        for coverage in self.intake.take(topic, payload, kind):
            self._loop.call_later(HOP_S + self.ack_delay_s, self._acknowledge, coverage)

    def _turn_away(self, payload: bytes) -> None:
        """Say of each record that it is not wanted as it is."""
        body = json.loads(payload)
        refused: dict[str, list[dict[str, Any]]] = {}
        for event in body if isinstance(body, list) else [body]:
            record = payload_of(event["data"])
            self.turned_away.add((record["chain"], record["seq"]))
            refused.setdefault(record["chain"], []).append({"seq": record["seq"], "code": "policy"})
        for chain, numbers in refused.items():
            coverage = self.intake.database.coverage(self._names.station, chain)
            coverage.refused += numbers
            self._loop.call_later(HOP_S, self._say, coverage)

    # --- the back end's side ----------------------------------------------------------------------

    def _acknowledge(self, coverage: Coverage) -> None:
        """What is known when it is said, which may be late."""
        fresh = self.intake.database.coverage(coverage.station, coverage.chain)
        self.ever |= {(fresh.chain, seq) for seq in range(1, fresh.through_seq + 1)}
        if self.lies:
            self._lie(fresh)
        else:
            self._say(fresh)

    def _say(self, coverage: Coverage) -> None:
        self._send(*self.intake.ack(coverage))

    def _send(self, topic: str, payload: bytes) -> None:
        if self.pipe is not None and self.reachable:
            self.pipe.message(topic, payload)

    def _lie(self, coverage: Coverage) -> None:
        """Words that must count for nothing: another key, another history, more than there is."""
        topic, _ = self.intake.ack(coverage)
        body = {
            "station": coverage.station,
            "chain": coverage.chain,
            "through_seq": coverage.through_seq + self._random.choice((0, 3, 1000)),
            "hash": self._random.randbytes(32).hex(),
            "holes": [],
            "refused": [],
            "time": self.now(),
        }
        key = self._key
        if self._random.randrange(2):
            key, body["hash"] = self._other_key, coverage.hash
            body["through_seq"] = coverage.through_seq + 5
        self._send(topic, sign(body, key, ACK_TYP).encode("ascii"))

    def _renew(self) -> None:
        self.greet()
        self._loop.call_later(STATE_EVERY_S, self._renew)

    def greet(self) -> None:
        """Retained: sent to whoever subscribes; also what a broker repeats at any time."""
        if self.pipe is not None and self.reachable:
            told = json.dumps({"online": True, "time": self.now()}).encode()
            self.pipe.hand_message(self.state_topic, told)

    def forget(self) -> None:
        """Restored from a backup of a moment ago: the newest records of each chain are gone."""
        database = self.intake.database
        for coverage in database.chains():
            kept = self._random.randrange(coverage.through_seq + 1)
            where = (coverage.station, coverage.chain, kept)
            database._db.execute("DELETE FROM record WHERE station=? AND chain=? AND seq>?", where)
            database._db.execute("DELETE FROM head WHERE station=? AND chain=?", where[:2])
            if kept:
                database._extend(coverage.station, coverage.chain)
        database.commit()

    def heal(self) -> None:
        self.open_door()
        self.reachable, self.ack_delay_s = True, 0.0
        self.refuses = self.lies = False
        self.publishes_lost_permille = 0

    @property
    def stored(self) -> int:
        """How many records it has."""
        return len(self.intake.database.records(self._names.station, 1, RECORDS_MAX))

    def ask_again(self) -> int:
        """Name everything that is missing although it was there or was offered once; how much."""
        station, database = self._names.station, self.intake.database
        missing: dict[str, list[int]] = {}
        for chain, seq in sorted(self.ever | self.turned_away):
            if database._row(station, chain, seq) is None:
                missing.setdefault(chain, []).append(seq)
        for chain, numbers in missing.items():
            coverage = database.coverage(station, chain)
            coverage.holes = numbers
            coverage.refused = []
            self._say(coverage)
        return sum(map(len, missing.values()))


class SimPipe:
    """As agent.uplink.pipe.Pipe."""

    def __init__(self, backend: Backend, owner: Owner, events: PipeEvents) -> None:
        self._backend, self._owner, self._events = backend, owner, events
        self._live = self._closed = False
        self._mid = 0

    async def open(self) -> None:
        self._world(self.connect)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, content_type: str | None = None
    ) -> int:
        if not self._live:
            raise PipeDown("the MQTT connection is not up")
        self._mid += 1
        if self._owner.step("mqtt_send"):
            self._world(self._backend.arrived, self, self._mid, topic, payload, content_type)
        return self._mid

    def close(self) -> None:
        self._live, self._closed = False, True

    def _world(self, what: Callable[..., None], *given: Any) -> None:
        backend = self._backend
        backend._loop.call_later(HOP_S, what, *given)

    # --- the world's side -------------------------------------------------------------------------

    def connect(self) -> None:
        if self is not self._backend.pipe or self._backend.waits(self):
            return
        if not self._backend.reachable:
            self._hand(self._events.down, GONE)
            return
        self._hand(self._up)
        self._world(self._backend.greet)

    def _up(self) -> None:
        if not self._closed:
            self._live = True
            self._events.up(Limits(16, MAX_BYTES))

    def puback(self, mid: int) -> None:
        self._backend._loop.call_later(HOP_S, self._hand, self._events.acked, mid, None)

    def message(self, topic: str, payload: bytes) -> None:
        self._backend._loop.call_later(HOP_S, self.hand_message, topic, payload)

    def hand_message(self, topic: str, payload: bytes) -> None:
        self._hand(self._events.message, topic, payload)

    def cut(self, trouble: Trouble) -> None:
        self._hand(self._down, trouble)

    def _down(self, trouble: Trouble) -> None:
        if self._live:
            self._live = False
            self._events.down(trouble)

    def _hand(self, what: Callable[..., None], *given: Any) -> None:
        if not self._closed and self._owner.step("mqtt_receive"):
            self._owner.loop.call_soon(what, *given)
