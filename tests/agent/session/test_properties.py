"""Random sessions: mostly events that lead on, some that the state also knows, some it does not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from support.session_events import DATA, PRICE, RESULT, stamp

from agent.session import FINAL, OWED, E, Effect, Event, S, Session, energy_allowed, fold, step
from agent.session.acts import usage_at
from agent.session.raises import owed_now
from agent.session.table import TABLE

# Every state knows the word of a person on what was set aside; with it most sessions would end early.
KNOWN: dict[S, list[E]] = {
    s: sorted({r.event for r in TABLE if r.source is s} - {E.CLOSED_UNREAD}) for s in S
}
ALL = sorted(E)
# Without these a random session ends at the terminal, and nothing behind it is ever tried.
ONWARD: dict[S, tuple[E, ...]] = {
    S.NEW: (E.TAPPED,),
    S.AUTHORIZING: (E.APPROVED,),
    S.APPROVED: (E.HELD,),
    S.HOLD_UNCLEAR: (E.HOLD_FOUND,),
    S.HELD: (E.BOUND, E.PLUGGED, E.PLUGGED),
    S.BEGINNING: (E.BEGAN,),
    S.STARTING: (E.ENERGY_FLOWS, E.PROGRESS),
    S.CHARGING: (E.PROGRESS, E.RAISE, E.RAISE_APPROVED, E.SUSPENDED, E.STOP, E.RESTARTED),
    S.SUSPENDED: (E.ENERGY_FLOWS, E.PROGRESS, E.UNPLUGGED),
    S.STOPPING: (E.PROGRESS, E.RAISED, E.RAISE_UNCLEAR, E.STOPPED),
    S.ENDING: (E.ENDED,),
    S.RAISE_OPEN: (E.RAISE_UNCLEAR, E.RAISE_FOUND, E.VANISHED),
    S.RECORDING: (E.RECORDED,),
    S.CAPTURING: (E.EVIDENCE, E.UNCLEAR, E.NOT_SENT, E.SETTLED),
    S.CAPTURE_DUE: (E.RETRY_DUE,),
    S.CAPTURE_UNCLEAR: (E.STILL_OPEN, E.VANISHED),
    S.RELEASING: (E.EVIDENCE, E.UNCLEAR, E.NOT_SENT, E.SETTLED),
    S.RELEASE_DUE: (E.RETRY_DUE,),
    S.RELEASE_UNCLEAR: (E.STILL_OPEN, E.VANISHED),
    S.SETTLED: (E.RESTARTED, E.RECORDED),
    S.UNRESOLVED: (E.RECORDED, E.STILL_OPEN, E.CONFIRMED, E.FREE),
    S.CLOSED: (E.RESTARTED,),
}
MONEY = {Effect.AUTHORIZE, Effect.CAPTURE, Effect.RELEASE}
HELD_MINOR = (5000, 5000, 5000, 2000, 1, 0, None)
COST_MINOR = (480, 5000, 7000, 1, 0)
REASONS = ("declined", "unknown_hold", "try_later")


@dataclass(frozen=True)
class Dice:
    """One throw: how far to stray (0 to 5 lead on, 6 to 8 the state knows, 9 anything), which event,
    with what in it, how much time passes before it, and whether there is a power cut."""

    stray: int
    pick: int
    value: int
    elapsed_ms: int
    reboot: bool


def read_dice(n: int) -> Dice:
    """All five from one number: hypothesis draws one number much faster than five."""
    n, stray = divmod(n, 10)
    n, pick = divmod(n, 41)
    n, switch = divmod(n, 20)
    n, elapsed_ms = divmod(n, 100_000)
    return Dice(stray, pick, n, elapsed_ms, switch == 19)


VALUES = 2**16  # enough for every choice a value makes
dice = st.integers(0, 10 * 41 * 20 * 100_000 * VALUES - 1).map(read_dice)
throws = st.lists(dice, min_size=30, max_size=60)
thorough = settings(max_examples=150)


@dataclass
class Run:
    """What became of a session, with every event taken and the session after it."""

    session: Session = field(default_factory=lambda: Session("S1"))
    taken: list[tuple[Event, Session, Effect | None]] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    boot: int = 1
    boot_ms: int = 0
    register_wh: int = 104_000
    seq: int = 0

    def event(self, throw: Dice) -> Event:
        state = self.session.state
        names: Sequence[E] = ALL
        if throw.stray < 9 and KNOWN[state]:
            names = ONWARD[state] if throw.stray < 6 else KNOWN[state]
        name = names[throw.pick % len(names)]
        self.boot_ms += throw.elapsed_ms
        if throw.reboot:
            self.boot, self.boot_ms = self.boot + 1, throw.elapsed_ms
        return Event(name, stamp(self.boot_ms, f"boot-{self.boot}"), self.data(name, throw.value))

    def data(self, name: E, value: int) -> dict[str, object]:
        data = dict(DATA[name])
        if name is E.TAPPED:
            data |= {"plugged": value % 3 == 0, "evse": None if value % 5 == 0 else "E1"}
            data |= {"accept_partial": value % 7 != 0, "least_capture_minor": (0, 0, 2)[value % 3]}
        elif name in (E.RAISE_APPROVED, E.RAISE_FOUND):
            whole = (self.session.held_minor or 0) + self.session.raise_minor
            data["total_minor"] = (whole, whole, whole - 1, 1)[value % 4]
            if name is E.RAISE_APPROVED and value % 5 == 0:
                data["total_minor"] = None
        elif name is E.RAISE_FAILED:
            data["again"] = value % 2 == 0
        elif name in (E.APPROVED, E.HOLD_FOUND):
            data["approved_minor"] = HELD_MINOR[value % len(HELD_MINOR)]
        elif name in (E.BEGAN, E.PROGRESS):
            self.register_wh += value % 500
            # A meter may also jump back; the session must not follow it.
            data["energy_wh"] = self.register_wh - (600 if value % 11 == 0 else 0)
        elif name is E.ENDED:
            begin_wh = self.session.begin_wh or 0
            last_wh = self.session.last_wh or begin_wh
            data |= {"energy_wh": last_wh + value % 50, "price": PRICE}
            data["cost_minor"] = COST_MINOR[value % len(COST_MINOR)]
        elif name in (E.EVIDENCE, E.CONFIRMED):
            # A terminal books what it was asked for, or less, or does not say; never more than it holds.
            due = self.session.to_capture_minor
            data |= {"amount_minor": (due, due, None, due // 2)[value % 4], "result": RESULT}
        elif name is E.REFUSED:
            data["reason"] = REASONS[value % 3]
        elif name is E.RESTARTED:
            data["resume"] = value % 2 == 0
        elif name is E.RECORDED:
            self.seq += 1
            data["seq"] = self.seq
        return data

    def throw(self, throw: Dice) -> None:
        event = self.event(throw)
        before = self.session
        self.told.append(event)
        result = step(before, event)
        if not result.taken:
            assert result.session is before
            assert result.owed is None
            return
        assert before.state not in FINAL
        self.session = result.session
        self.taken.append((event, result.session, result.owed))


def play(thrown: list[Dice]) -> Run:
    run = Run()
    run.throw(replace(thrown[0], stray=0))  # a session begins with a tap
    for throw in thrown:
        run.throw(throw)
    return run


@pytest.mark.parametrize("state", S)
def test_random_sessions_reach_every_state(state: S) -> None:
    """Else the properties below would say nothing of it."""

    def reached(thrown: list[Dice]) -> bool:
        return any(s.state is state for _, s, _ in play(thrown).taken) or state is S.NEW

    find(throws, reached, settings=settings(max_examples=2_000, phases=[Phase.generate]))


@thorough
@given(throws)
def test_the_rules_of_money_hold_after_every_event(thrown: list[Dice]) -> None:
    for _, s, _ in play(thrown).taken:
        held = s.held_minor or 0
        cost = s.cost_minor or 0
        assert 0 <= s.to_capture_minor <= held
        assert s.to_capture_minor + s.shortfall_minor == cost, "every cent of the cost has a name"
        assert 0 <= s.captured_minor <= s.to_capture_minor
        assert s.captured_minor + s.released_minor <= held
        assert 0 <= s.owed_minor <= s.to_capture_minor
        if s.state in (S.SETTLED, S.CLOSED) and s.outcome in ("captured", "released", "cancelled"):
            assert s.captured_minor + s.released_minor == held, "the hold has ended, whole"
        if s.outcome == "released" and s.state is S.SETTLED:
            assert s.waived_minor == s.to_capture_minor, "what is not charged has a name"
        if s.outcome in ("captured", "refused", "failed", "away") and s.cost_minor is not None:
            named = s.captured_minor + s.owed_minor + s.closed_minor + s.shortfall_minor
            assert named == cost
        if s.state is S.UNRESOLVED and s.outcome == "captured":
            assert s.booked_minor not in (None, s.to_capture_minor), (
                "only what was booked otherwise"
            )
        elif s.state is S.UNRESOLVED:
            assert s.outcome in ("unknown", "refused", "failed", "away", "foreign")
            assert s.captured_minor == 0
            assert s.released_minor == (held if s.freed else 0)
        if s.state is S.CLOSED and not s.closed_as:
            assert s.outcome in ("captured", "released", "cancelled", "refused", "not_held")
        if s.state is S.CLOSED:
            assert s.settlement_seq is not None


@thorough
@given(throws)
def test_a_command_goes_out_again_only_when_that_is_safe(thrown: list[Dice]) -> None:
    """Between two money commands of a session lies either the plain word that the first never reached
    the terminal, with no evidence against it, or the terminal's list that shows the hold as open."""
    ordered: list[Effect] = []
    safe, evidence, by_hand = True, False, False
    for event, s, owed in play(thrown).taken:
        if event.name is E.EVIDENCE:
            evidence = True
        elif event.name in (E.STILL_OPEN, E.HOLD_FOUND):
            safe, evidence = True, False
        elif event.name is E.NOT_SENT and not evidence:
            safe = True
        elif event.name is E.FREE:  # refused for good or never told, and a technician says so
            safe, evidence, by_hand = True, False, True
        if owed in MONEY:
            assert owed is not Effect.AUTHORIZE or ordered == [], "a hold is asked for once"
            assert safe or ordered == [Effect.AUTHORIZE]
            assert not evidence
            if owed is Effect.CAPTURE:
                assert not by_hand, "freed by order, never charged"
                assert s.record_seq is not None, "signed before any money moves"
                assert s.to_capture_minor >= max(1, s.least_capture_minor)
                assert s.raising == "", "never from a hold whose amount is in doubt"
            assert s.held_minor is not None or owed is not Effect.CAPTURE
            ordered.append(owed)
            safe = False
    both = {Effect.CAPTURE, Effect.RELEASE} <= set(ordered)
    assert by_hand or not both, "one end of a hold, never both"


@thorough
@given(throws)
def test_the_hold_ends_at_most_once(thrown: list[Dice]) -> None:
    ends = 0
    before = ""
    for event, s, _ in play(thrown).taken:
        if s.outcome != before and s.outcome in ("captured", "released", "cancelled"):
            ends += 1
        final = before not in ("", "unknown", "away")
        kept = before == s.outcome or event.name is E.FREE  # freed at last, by a technician's order
        assert not final or kept, "an outcome is not taken back"
        before = s.outcome
    assert ends <= 1


@thorough
@given(throws)
def test_energy_needs_a_completed_hold_and_a_begin_reading(thrown: list[Dice]) -> None:
    names: set[E] = set()
    over = False
    was = False
    for event, s, _ in play(thrown).taken:
        names.add(event.name)
        allowed = energy_allowed(s.state)
        if allowed:
            assert names & {E.HELD, E.HOLD_FOUND}
            assert E.BEGAN in names
            assert s.held_minor
            assert s.evse is not None
            assert s.begin_wh is not None
            assert not over, "once withdrawn, energy never comes back to a session"
        over = over or (was and not allowed)
        was = allowed


@thorough
@given(throws)
def test_time_is_accounted_to_the_millisecond(thrown: list[Dice]) -> None:
    """An independent clock: the pauses between events in a phase, within one boot, without the outage
    before a restart."""
    charging_ms = idle_ms = 0
    previous: tuple[Event, S] | None = None
    for event, s, _ in play(thrown).taken:
        if previous is not None and event.name is not E.RESTARTED:
            earlier, phase = previous
            if earlier.stamp.boot_id == event.stamp.boot_id:
                elapsed_ms = event.stamp.boot_ms - earlier.stamp.boot_ms
                charging_ms += elapsed_ms if phase is S.CHARGING else 0
                idle_ms += elapsed_ms if phase is S.SUSPENDED else 0
        assert (s.charging_ms, s.idle_ms) == (charging_ms, idle_ms)
        assert usage_at(s, event.stamp) == (charging_ms, idle_ms)
        previous = (event, s.state)


@thorough
@given(throws)
def test_the_register_never_runs_backwards(thrown: list[Dice]) -> None:
    last_wh = None
    for _, s, _ in play(thrown).taken:
        if s.begin_wh is not None and s.last_wh is not None:
            assert last_wh is None or s.last_wh >= last_wh
            last_wh = s.last_wh
            assert s.energy_wh >= 0


@thorough
@given(throws)
def test_replay_gives_the_same_session_at_every_point(thrown: list[Dice]) -> None:
    run = play(thrown)
    events = [event for event, _, _ in run.taken]
    for n, (_, session, _) in enumerate(run.taken, start=1):
        assert fold("S1", events[:n]) == session
    assert fold("S1", run.told) == run.session, "refused events leave no trace"


@thorough
@given(throws)
def test_stored_events_survive_json(thrown: list[Dice]) -> None:
    run = play(thrown)
    stored = [
        json.dumps([e.name, e.stamp.to_json(), e.data], allow_nan=False) for e, _, _ in run.taken
    ]
    read = []
    for text in stored:
        name, at, data = json.loads(text)
        read.append(Event(E(name), type(stamp(0)).from_json(at), data))
    assert fold("S1", read) == run.session


@thorough
@given(throws, st.booleans())
def test_after_a_crash_at_any_point_nothing_moves_money_before_asking(
    thrown: list[Dice], resume: bool
) -> None:
    for event, session, _ in play(thrown).taken:
        later = stamp(event.stamp.boot_ms + 1, event.stamp.boot_id)
        result = step(session, Event(E.RESTARTED, later, {"resume": resume}))
        assert result.taken is (session.state not in FINAL)
        assert (result.owed or OWED.get(result.session.state)) not in MONEY
        assert owed_now(result.session) in (None, Effect.ASK_RAISE)
        assert (result.session.charging_ms, result.session.idle_ms) == (
            session.charging_ms,
            session.idle_ms,
        )


def test_time_across_a_reboot_is_not_charged() -> None:
    way = (E.TAPPED, E.APPROVED, E.HELD, E.BEGAN, E.ENERGY_FLOWS)
    session = fold("S1", [Event(n, stamp(1_000), DATA[n] | {}) for n in way])
    session = step(session, Event(E.PROGRESS, stamp(61_000), {"energy_wh": 104_300})).session
    assert session.charging_ms == 60_000
    # Power is cut a minute later; the board is back with a clock that starts anew.
    back = Event(E.RESTARTED, stamp(20_000, "boot-2"), {"resume": True})
    session = step(session, back).session
    assert session.charging_ms == 60_000
    stop = Event(E.STOP, stamp(25_000, "boot-2"), {"reason": "tap"})
    session = step(session, stop).session
    assert (session.charging_ms, session.idle_ms) == (65_000, 0)
