"""The judge. It knows the energy that flowed, the published tariff, the acquirer's ledger and the back end's
database; what the agent says of itself is compared with them by hil.verify, which shares no code with it."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from hil.backend.jose import key_id, load_public, payload_of
from hil.terminal.cards import CARDS, Card, bcd_number
from hil.verify import Evidence, Record, check
from hil.verify.acquirer import group
from hil.verify.evidence import ERROR
from simulate.backend import RECORDS_MAX
from simulate.causes import check_causes
from simulate.conduct import check_conduct
from simulate.days import check_days, day_classes, strange
from simulate.energy import check_energy, check_time, unwatched_minor
from simulate.place import MAX_POWER_W
from simulate.prompt import check_promptness
from simulate.service import check_service
from simulate.stamps import check_stamps
from simulate.till import HoldName, name_of
from simulate.world import World

STEP_MINOR = 4  # one Wh of the tariff, rounded up
STOP_S = 15  # a turn of the station, a lost reply, the car that lets go
# Notes of hil.verify that nothing in a simulated world explains.
NEVER = frozenset({"signed_value_missing"})
UID_BYTES = 4  # a shorter one is in any text
# States of a session that stand in the list of open money and are worked on.
LISTED = frozenset(
    {
        "unresolved",
        "capture_due",
        "release_due",
        "capture_unclear",
        "release_unclear",
        "hold_unclear",
    }
)


@dataclass(slots=True)
class Told:
    """What the agent answered on its control socket at the end."""

    status: dict[str, Any]
    sessions: list[dict[str, Any]]
    records: list[str]
    receipts: dict[str, str]


@dataclass(slots=True)
class Verdict:
    """`violations`: (code, text). `classes`: what legitimately differs, by name."""

    violations: list[tuple[str, str]] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    notes: list[str] = field(default_factory=list)


def judge(world: World, told: Told, disturbed: frozenset[str]) -> Verdict:
    """`disturbed`: kinds of trouble this world had, which excuse what they must excuse and nothing else."""
    verdict = Verdict(sessions=len(told.sessions))
    verdict.violations += world.violations
    evidence = _evidence(world, told)
    unheard = _unheard(world, told)
    for finding in check(evidence):
        if strange(world, told.sessions, finding) or finding.where in unheard.values():
            continue
        if finding.severity != ERROR and finding.code not in NEVER:
            verdict.classes[finding.code] += 1
        else:
            verdict.violations.append((finding.code, f"{finding.where}: {finding.text}"))
    for difference in check_energy(world, told.sessions):
        if difference.excuse:
            verdict.classes[difference.excuse] += 1
        else:
            verdict.violations.append((difference.code, difference.text))
    verdict.violations += _holds(world, told, set(unheard))
    verdict.violations += _money(world, told, disturbed)
    verdict.violations += _chain(told)
    verdict.violations += _cards(world, evidence.texts)
    verdict.violations += check_time(world, told.sessions)
    verdict.violations += check_causes(world, told.sessions)
    verdict.violations += check_promptness(world, told.sessions)
    verdict.violations += check_conduct(world, told.sessions)
    verdict.violations += check_service(world, told.sessions)
    verdict.violations += check_stamps(world)
    verdict.violations += check_days(world, told.status, told.sessions, disturbed)
    verdict.classes += day_classes(world)
    verdict.classes.update(_classes(told))
    return verdict


def _evidence(world: World, told: Told) -> Evidence:
    database = world.backend.intake.database
    records = [
        Record(r["station"], r["chain"], r["seq"], r["hash"], r["jws"], r["type"])
        for r in database.records(None, 1, RECORDS_MAX)
    ]
    key = load_public(world.place.station_pem)
    texts = {f"session {s['id']}": json.dumps(s) for s in told.sessions}
    texts |= {f"record {n}": json.dumps(payload_of(r.jws)) for n, r in enumerate(records)}
    texts |= {f"receipt {name}": text for name, text in told.receipts.items()}
    texts["log"] = "\n".join(json.dumps(line, default=str) for line in world.logs)
    return Evidence(
        movements=world.movements(),
        records=records,
        sessions=[s | {"tariff_id": _tariff(world, s)} for s in told.sessions],
        receipts=told.receipts,
        tariffs={str(n): priced.rules for n, priced in enumerate(world.place.tariffs)},
        keys={key_id(key): key},
        forks=len(database.rows("fork", 100)),
        texts=texts,
    )


def _tariff(world: World, session: dict[str, Any]) -> str:
    """Which one lay in the file when the agent was started that began this session. A session whose beginning
    was stored and not told began in the life before the one that tells of it first."""
    lives, story = world.chronicle.lives, world.chronicle.story(session["id"])
    if story is None:
        return str(lives[-1][1])
    at = max(n for n, (at_ms, _) in enumerate(lives) if at_ms <= story.began_ms)
    return str(lives[at if story.whole else max(0, at - 1)][1])


def _unheard(world: World, told: Told) -> dict[HoldName, str]:
    """Holds of terminals that were taken away before their answer was heard, each with the words of
    hil.verify for it: nobody is left who could tell the receipt, so the list can name terminal and amount
    only, which is what was asked for. One session explains one hold."""
    unknown = [
        (s["tid"], s["amount_minor"])
        for s in told.status["open"]
        if s["kind"] == "unknown" and s["receipt"] is None
    ]
    known = {(s["hold"].get("terminal_id"), s["hold"].get("receipt")) for s in told.sessions}
    found: dict[HoldName, str] = {}
    for terminal in world.terminals:
        for hold in terminal.holds:
            away = hold.tid != terminal.acquirer.memory.tid
            may_be = [s for s in unknown if s[0] == hold.tid and s[1] >= hold.amount_minor]
            if away and (hold.tid, hold.receipt) not in known and may_be:
                unknown.remove(may_be[0])
                found[name_of(hold)] = "hold " + "/".join(map(str, name_of(hold)))
    return found


def _holds(world: World, told: Told, unheard: AbstractSet[HoldName]) -> Iterator[tuple[str, str]]:
    """A hold that is open at a terminal, or was when it was taken away, is in the agent's list, or reported
    as strange."""
    listed = {
        (s["hold"].get("terminal_id"), s["hold"].get("receipt"))
        for s in told.sessions
        if s["hold"] and s["state"] != "closed"
    }
    for status in told.status["terminals"]:
        listed |= {(status["tid"], receipt) for receipt in status["strange_holds"]}
    for terminal in world.terminals:
        for hold in terminal.holds:
            known = (hold.tid, hold.receipt) in listed or name_of(hold) in terminal.strange
            if not known and name_of(hold) not in unheard:
                text = f"hold {hold.receipt} is open at {terminal.name} ({hold.tid})"
                yield "hold_not_listed", f"{text}, nobody lists it"
    listed_ids = {s["id"] for s in told.status["open"]}
    for session in told.sessions:
        if session["state"] == "closed":
            continue
        if session["id"] not in listed_ids:
            yield "session_not_listed", f"{session['id']} is {session['state']} and not listed"
        elif session["state"] not in LISTED:
            yield "session_stuck", f"{session['id']} is still {session['state']}"


def _money(world: World, told: Told, disturbed: frozenset[str]) -> Iterator[tuple[str, str]]:
    captures: dict[tuple[Any, ...], int] = {
        (hold.start.tid, hold.start.turnover, hold.start.receipt): end.amount_minor
        for hold in group(world.movements())[0]
        for end in hold.ends
        if end.kind == "capture"
    }
    for session in told.sessions:
        # An outage in the middle of the session, or a fault that leaves the agent without its readings.
        blind = disturbed & {"meter", "evse", "disk"}
        interrupted = any(event["name"] == "restarted" for event in session["events"])
        most_minor = unwatched_minor(world, session) if interrupted and session["evse"] else 0
        if session["shortfall_minor"] > most_minor and not blind:
            text = f"{session['shortfall_minor']} more than the hold, {most_minor} by outages"
            yield "shortfall", f"{session['id']}: {text}"
        hold = session["hold"] or {}
        charged = captures.get((hold.get("terminal_id"), hold.get("turnover"), hold.get("receipt")))
        wanted = min(session["cost_minor"] or 0, session["held_minor"])
        if charged is not None and charged != wanted:
            yield "charged_wrong", f"{session['id']}: {charged} charged, {wanted} were due"
        yield from _limit(world, session, bool(blind or interrupted))
    if told.status.get("set_aside"):
        yield "set_aside", f"sessions that the table does not fold: {told.status['set_aside']}"
    complaint = "second_reservation_on_one_tap"
    # A line may bring a block that was said again after T2 a second time, as if it were a new one.
    asked = [t for t in world.terminals if not t.cable.noise.late]
    if any(terminal.desk.complaints[complaint] for terminal in asked):
        yield complaint, "the terminal was asked twice for one tap"


def _limit(world: World, session: dict[str, Any], excused: bool) -> Iterator[tuple[str, str]]:
    """What the driver has set. A cost is stopped in time, but for a step of the meter; energy and time when
    they are reached, so what flows until the contactor opens comes on top."""
    kind, most = world.limits.get(session["id"], ("", 0))
    if not kind or excused:
        return
    seen, more = {
        "max_cost_minor": (session["cost_minor"] or 0, STEP_MINOR),
        "max_energy_wh": (session["energy_wh"], STOP_S * MAX_POWER_W // 3600),
        "max_time_s": ((session["charging_ms"] + session["idle_ms"]) // 1000, STOP_S),
    }[kind]
    if seen > most + more:
        yield "limit_passed", f"{session['id']}: {kind} {most}, and it came to {seen}"


def _cards(world: World, texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Nothing of a card but its last four digits, in no text and in no byte of the ledger's disk: the world
    knows which cards were there."""
    disk = b"".join(bytes(inode.seen) for inode in world.disk.files.values())
    places = [(name, text.lower()) for name, text in texts.items()]
    for name, card in CARDS.items():
        for what, words, raw in _traces(card):
            where = next((place for place, text in places if any(w in text for w in words)), "")
            if where or any(_kept(piece, disk) for piece in raw):
                yield "card_data", f"the {what} of {name} in {where or 'the ledger'}"


def _kept(piece: bytes, disk: bytes) -> bool:
    """Four bytes are somewhere in a ledger by chance, once in some thousand; what was written stands in the
    log again with every later change of its page."""
    return piece in disk if len(piece) > UID_BYTES else disk.count(piece) > 1


@functools.cache
def _traces(card: Card) -> list[tuple[str, list[str], list[bytes]]]:
    """(what, how it looks in a text, how it looks in bytes)."""
    found: list[tuple[str, list[str], list[bytes]]] = []
    if card.pan:
        found.append(("number", [card.pan], [bcd_number(card.pan), card.pan.encode()]))
    for what, value in (("token", card.token), ("UID", card.uid)):
        if len(value) >= UID_BYTES and not card.changing_uid:
            found.append((what, [value.hex()], [value]))
    return found


def _chain(told: Told) -> Iterator[tuple[str, str]]:
    """The agent's own records, numbered without a gap from 1."""
    numbers = [payload_of(jws)["seq"] for jws in told.records]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "numbers_gap", f"the agent's records are numbered {numbers}"


def _classes(told: Told) -> Counter[str]:
    found: Counter[str] = Counter()
    for s in told.sessions:
        state = "" if s["state"] == "closed" else f"{s['state']}: "
        found[f"{state}{s['payment']}"] += 1
        if s["shortfall_minor"]:
            found["shortfall named"] += 1
        if s["owed_minor"]:
            found["owed"] += 1
        if s.get("end_quality") == "last_durable":
            found["end by the last durable reading"] += 1
    return found
