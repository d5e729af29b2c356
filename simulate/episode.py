"""One seed from its plan to its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.station.queries import session_from_json
from agent.station.receipts import receipt_text
from hil.verify.gather import RECEIPT_COLUMNS
from simulate.causes import LATE_MS, open_questions
from simulate.doubt import IN_DOUBT, LISTED_AFTER_MS
from simulate.faults import Faults
from simulate.life import live_all
from simulate.loop import Spinning
from simulate.oracle import LISTED, Told, Verdict, judge
from simulate.place import Places
from simulate.plan import Plan
from simulate.seams import Board
from simulate.world import World

# Virtual time in which a world must be done: visits, then peace.
VISITS_S = 3_600.0
PEACE_S = 1_500.0
# What is tried again every minute has ended by then; what is tried every hour stands in the list.
PATIENCE_S = 400.0
# What is asked about every minute is told by then, or listed.
DOUBT_S = PATIENCE_S + (LISTED_AFTER_MS + LATE_MS) / 1000
LOOK_S = 2.0
QUIET_S = 4.0
RECENT_S = 60.0
ASK_S = 60.0
HOUR_S = 3_600.0
LONG_TROUBLE_S = 2.2 * HOUR_S  # the longest fault of simulate.make, and the first tries by the hour


@dataclass(slots=True)
class Result:
    seed: int
    verdict: Verdict
    lines: Sequence[tuple[int, str, str]] = ()
    steps: Counter[str] = field(default_factory=Counter)
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    power_cuts: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0


class Episode:
    def __init__(self, board: Board, places: Places, plan: Plan, verbose: bool = False) -> None:
        self.plan = plan
        place, kills = places.of(plan.variant), list(plan.kills)
        self.world = World(board, place, plan.seed, kills, plan.idle_poll_s)
        self.world.verbose = verbose
        self._look_again_s = 0.0
        self._calm_since_s: float | None = None
        self._unacked: int | None = None
        self._peace_s = 0.0

    def run(self) -> Result:
        world, plan = self.world, self.plan
        faults = Faults(world, plan.faults)
        try:
            try:
                verdict = self._verdict(faults)
            except Spinning:
                verdict = _failed("spins", "the agent does something over and over in one moment")
            finally:
                faults.stop()
            return Result(
                plan.seed,
                verdict,
                world.lines,
                world.fate.steps,
                world.fate.killed,
                Counter(faults.begun),
                world.starts,
                world.power_cuts,
                world.time.now_s - 1_000.0,
            )
        finally:
            world.close()

    def _verdict(self, faults: Faults) -> Verdict:
        world = self.world
        world.start()
        life = world.spawn(live_all(world, self.plan.visits))
        if not world.run_until(life.done, VISITS_S):
            return _failed("life_hangs", "the drivers did not come to an end")
        life.result()
        long = self.plan.variant.peace_h
        if long:
            world.run_until(lambda: False, LONG_TROUBLE_S)
        world.trace("world", "peace")
        faults.end_all()
        self._peace_s, world.peace_ms = world.time.now_s, world.time.ms
        if not world.run_until(self._peaceful, PEACE_S):
            return self._restless(faults)
        if long:
            world.run_until(lambda: False, long * HOUR_S)
        told = self._ask_all()
        if told is not None and open_questions(world, told.sessions):
            world.run_until(lambda: False, HOUR_S + LATE_MS / 1000)
            told = self._ask_all()
        if told is not None and len(told.records) > world.backend.stored:
            # One that was written between the last look and the questions is still on its way.
            self._calm_since_s, self._unacked = None, None
            world.run_until(self._peaceful, PEACE_S)
            told = self._ask_all()
        if told is None:
            return _failed("no_answer", "the agent does not answer on its control socket")
        return judge(world, told, faults.disturbed())

    def _peaceful(self) -> bool:
        """The agent runs, has nothing under way, and the back end has its records."""
        world, now = self.world, self.world.time.now_s
        for terminal in world.terminals:
            if (broken := terminal.broken()) is not None:
                raise RuntimeError("the simulated terminal broke") from broken
        if now < self._look_again_s:
            return False
        self._look_again_s = now + LOOK_S
        patient = now >= self._peace_s + PATIENCE_S
        states = world.states()
        doubtful = states & IN_DOUBT and now < self._peace_s + DOUBT_S
        if not world.ready or doubtful or not states <= (LISTED if patient else {"unresolved"}):
            self._calm_since_s, self._unacked = None, None
            return False
        if (world.draining() or world.untold()) and not patient:
            self._calm_since_s = None
            return False
        since_ms = world.time.ms - round(RECENT_S * 1000)
        if world.states() and any(world.troubles.during(since_ms, world.time.ms)) and not patient:
            return False  # a link that comes back may settle what is open
        self._look_at_outbox()
        if self._unacked != 0 or world.backend.ask_again():
            return False
        if self._calm_since_s is None:
            self._calm_since_s = now
        return now - self._calm_since_s >= QUIET_S

    def _look_at_outbox(self) -> None:
        """The answer is for the next look."""

        def heard(answer: dict[str, Any]) -> None:
            self._unacked = answer["result"]["unacked"] if answer.get("ok") else None

        if self.world.process is not None:
            self.world.process.ask(heard, "outbox")

    def _restless(self, faults: Faults) -> Verdict:
        told = self._ask_all()
        if told is None:
            return _failed("no_service", f"the agent does not run: {self.world.lines[-1]}")
        verdict = judge(self.world, told, faults.disturbed())
        uplink = told.status.get("uplink")
        verdict.violations.append(("no_peace", f"{self.world.states()}; uplink {uplink}"))
        return verdict

    def _ask_all(self) -> Told | None:
        status = self._ask("status")
        sessions = self._ask("sessions", limit=100)
        records = self._ask("records")
        if status is None or sessions is None or records is None:
            return None
        shown = [self._ask("session", id=s["id"]) for s in sessions]
        if any(s is None for s in shown):
            return None
        receipts = {s["id"]: self._receipt(s) for s in shown if s["cost_minor"] is not None}
        return Told(status, shown, records, receipts)

    def _receipt(self, shown: dict[str, Any]) -> str:
        """As `voltill sessions receipt` prints it."""
        session = session_from_json(shown["id"], shown["events"])
        return receipt_text(session, self.world.place.loaded.settings, RECEIPT_COLUMNS, None)

    def _ask(self, do: str, **request: Any) -> Any:
        answers: list[dict[str, Any]] = []
        process = self.world.process
        if process is None:
            return None
        process.ask(answers.append, do, **request)
        self.world.run_until(lambda: bool(answers), ASK_S)
        return answers[0].get("result") if answers and answers[0].get("ok") else None


def _failed(code: str, text: str) -> Verdict:
    return Verdict(violations=[(code, text)])
