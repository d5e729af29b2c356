"""The tour itself: what is done, what each side sees of it, and what must hold."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from hil.demo import books
from hil.demo.say import Voice
from hil.demo.views import Views, kwh, money
from hil.rig import Event, Rig, voltill_command

STATION = "DE*VLT*S1"
HOLD_MINOR = 5000
CHARGE_WH = 1200  # enough to see kilowatt-hours and cents move
SAMPLES = 6
STEP_S = 20.0
LOOK_S = 0.1
CARD = "visa"
RECEIPT_COLUMNS = 40

INTRODUCTION = """\
One driver charges once and pays by card; it takes less than a minute. Terminal, meter, charge controller,
car and back end are simulated, each a process of its own. The agent is the real one, started as a technician
would start it; it speaks ZVT to the terminal, Modbus RTU to meter and controller, MQTT to the broker."""

STEPS = """\
price on the terminal, plug, tap (hold 50.00 EUR), energy with running cost, network cut, stop, exact capture
and release of the rest, receipt, network back, record arrives and is acknowledged, signatures checked, four
books compared."""


class Tour:
    def __init__(self, rig: Rig, voice: Voice, tariff: Path) -> None:
        self.rig, self.voice, self.tariff = rig, voice, tariff
        self.views = Views(rig, STATION)
        self.session = ""
        self.receipt = ""
        self._seen: list[str] = []

    def play(self) -> None:
        self._price()
        self._plug()
        self._tap()
        self._energy()
        self._cut()
        self._stop()
        self._receipt()
        self._restore()
        self._verify()
        self._four_books()

    # --- helpers ----------------------------------------------------------------------------------

    def _see(self) -> None:
        """What all sides see at this moment: driver, terminal, charger, meter, back end."""
        screen = self.views.terminal()["screen"]
        if screen == self._seen:
            self.voice.says("driver", "sees the same display")
        else:
            self.voice.box("driver", screen)
        self._seen = screen
        self.voice.says("terminal", self.views.dialogue())
        self.voice.says("charger", self.views.charger())
        self.voice.says("meter", self.views.meter())
        self.voice.says("back end", self.views.backend())

    def _reach(self, *states: str) -> Event:
        return self.rig.log.wait(
            lambda e: (
                e.get("event") == "session"
                and e.get("state") in states
                and self.session in ("", e["session"])
            ),
            STEP_S,
        )

    @staticmethod
    def _until(holds: Callable[[], bool]) -> bool:
        """Look again until it holds; False after STEP_S."""
        limit = time.monotonic() + STEP_S
        while not holds():
            if time.monotonic() > limit:
                return False
            time.sleep(LOOK_S)
        return True

    def _shows(self, words: str) -> bool:
        return self._until(lambda: words in " ".join(self.views.terminal()["screen"]))

    def _charged(self, energy_wh: int) -> dict[str, Any]:
        """The connector once so much energy has flowed in this session."""
        seen: dict[str, Any] = {}

        def enough() -> bool:
            seen.update(self.views.evse())
            return (seen["energy_wh"] or 0) >= energy_wh

        self._until(enough)
        return seen

    # --- steps ------------------------------------------------------------------------------------

    def _price(self) -> None:
        v = self.voice
        v.step("The price is on the terminal before anybody pays")
        shown = self._shows("kWh")
        self.rig.tell("backend", "wait", station=STATION, online=True, timeout_s=STEP_S)
        self._see()
        v.check("the price per kWh is shown", shown, self.views.terminal()["screen"])

    def _plug(self) -> None:
        v = self.voice
        v.step("The driver plugs in")
        self.rig.tell("charger", "plug")
        seen = self._until(lambda: self.views.evse()["state"] == "plugged")
        self._see()
        v.check("the agent sees the car", seen, self.views.evse())
        state = self.rig.tell("charger", "state")
        v.check("no energy without a hold", not state["released"], state)

    def _tap(self) -> None:
        v = self.voice
        v.step(f"The driver taps a card: hold {money(HOLD_MINOR)}")
        self.rig.tap(CARD)
        self.session = str(self._reach("authorizing")["session"])
        v.says("agent", f"session {self.session}: intent on disk, then the command")
        self._reach("approved")
        v.says("agent", "approval on disk, then the answer")
        self._reach("starting", "charging")
        self._see()
        holds = self.views.booked("hold")
        for hold in holds:
            amount, receipt = money(hold["amount_minor"]), hold["receipt"]
            v.says("acquirer", f"hold {amount}, receipt {receipt}, trace {hold['trace']}")
        exact = len(holds) == 1 and holds[0]["amount_minor"] == HOLD_MINOR
        v.check(f"exactly one hold of {money(HOLD_MINOR)}", exact, holds)

    def _energy(self) -> None:
        v = self.voice
        v.step("Energy flows; the cost runs along")
        v.says(
            "note",
            "the simulated car draws 360 kW, more than a real one at this connector, so that"
            " seconds show kilowatt-hours; the rated power in demo.yaml fits it",
        )
        self._reach("charging")
        rows: list[tuple[int, int]] = []
        for i in range(1, SAMPLES + 1):
            # A busy machine may have passed several marks by now: always the next one that is ahead.
            wanted_wh = max(i * CHARGE_WH // SAMPLES, rows[-1][0] + 1 if rows else 0)
            evse = self._charged(wanted_wh)
            seen_wh, cost_minor = evse["energy_wh"] or 0, evse["cost_minor"] or 0
            rows.append((seen_wh, cost_minor))
            power = f"{evse['power_w'] / 1000:.1f} kW"
            who = "meter" if i == 1 else ""
            v.says(who, f"{kwh(seen_wh):>9} {power:>10}   cost {money(cost_minor):>8}")
        self._shows("Cost")
        self._see()
        grows = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(rows))
        v.check("energy and cost grow", grows and rows[-1][0] >= CHARGE_WH, rows)

    def _cut(self) -> None:
        v = self.voice
        v.step("The network is cut")
        self.rig.tell("netproxy", "cut")
        self.rig.tell("backend", "wait", station=STATION, online=False, timeout_s=STEP_S)
        v.says("back end", f"{self.views.backend()} (its last will arrived)")
        before = self.views.evse()["energy_wh"]
        grows = self._until(lambda: self.views.evse()["energy_wh"] > before)
        v.says("driver", "sees no difference")
        v.says("terminal", self.views.dialogue())
        v.says("charger", self.views.charger())
        v.says("meter", self.views.meter())
        v.check("charging goes on without the network", grows, before)

    def _stop(self) -> None:
        v = self.voice
        v.step("The same card stops the session")
        self.rig.tap(CARD)
        self._reach("stopping")
        v.says("agent", "release withdrawn; controller and meter have to prove the stop")
        self._reach("recording")
        v.says(
            "agent", "end reading confirmed, price computed once, record signed, then the capture"
        )
        self._reach("closed")
        found = self.rig.session(self.session)
        self._shows("Total")
        self._see()
        captures = self.views.booked("capture")
        cost, held = found["cost_minor"], found["held_minor"]
        for row in captures:
            amounts = f"{money(row['amount_minor'])}, released {money(row['released_minor'])}"
            v.says("acquirer", f"captured {amounts}")
        exact = len(captures) == 1 and captures[0]["amount_minor"] == cost > 0
        v.check(f"captured exactly the cost, {money(cost)}", exact, captures)
        rest = exact and captures[0]["released_minor"] == held - cost
        v.check(f"released exactly the rest, {money(held - cost)}", rest, captures)
        state = self.rig.tell("charger", "state")
        v.check("no energy after the stop", not state["released"], state)

    def _receipt(self) -> None:
        v = self.voice
        v.step(f"The receipt, {RECEIPT_COLUMNS} columns")
        self.receipt = self.rig.receipt(self.session, RECEIPT_COLUMNS)
        v.box("driver", self.receipt.splitlines())
        widest = max(len(line) for line in self.receipt.splitlines())
        v.check(f"no line is wider than {RECEIPT_COLUMNS}", widest <= RECEIPT_COLUMNS, widest)

    def _restore(self) -> None:
        v = self.voice
        v.step("The network comes back")
        outbox = self.views.outbox()
        v.says("agent", f"{outbox['unacked']} records waited on the station")
        v.check("nothing was lost while offline", outbox["unacked"] == 2, outbox)
        self.rig.tell("netproxy", "restore")
        self.rig.tell("backend", "wait", station=STATION, seq=2, timeout_s=STEP_S)
        v.says("back end", self.views.backend())
        for row in self.views.records():
            what = f"record {row['seq']} ({row['type']}), {len(row['jws'])} bytes"
            v.says("back end", f"{what}: signature good, stored")
        acked = self._until(lambda: self.views.outbox()["unacked"] == 0)
        left = self.views.outbox()
        v.says("agent", f"signed acknowledgement through record {left['acked_through']} believed")
        v.check("every record is acknowledged", acked, left)

    def _verify(self) -> None:
        v = self.voice
        v.step("Anybody can check the records")
        words = ("verify", "--trust", str(self.rig.station_key))
        v.says("", f"$ voltill verify --trust {self.rig.station_key.name}")
        done = subprocess.run(
            [*voltill_command(), *words, "--state", str(self.rig.state)],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            v.says("verify", line)
        v.check("signatures and hash chain hold", done.returncode == 0, done.stderr)

    def _four_books(self) -> None:
        v = self.voice
        v.step("Four books, one truth")
        found = self.rig.session(self.session)
        v.table("", books.table(self.views, found, self.receipt))
        truth_mwh = self.rig.tell("charger", "state")["energy_truth_mwh"]
        v.says("car", f"{truth_mwh / 1_000_000:.4f} kWh really flowed")
        agree, findings = books.judge(self.rig, self.tariff)
        for finding in findings:
            v.says("found", finding)
        v.check("acquirer, back end, ledger and receipt agree", agree, findings)
