"""The tour itself: what is done, what each side sees of it, and what must hold."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hil.demo.say import Voice
from hil.rig import Event, Rig, voltill_command

STATION = "DE*VLT*S1"
EVSE = "DE*VLT*E1"
HOLD_MINOR = 5000
CHARGE_WH = 1200  # enough to see kilowatt-hours and cents move
SAMPLES = 6
STEP_S = 20.0
CARD = "visa"


def euro(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d} EUR"


def kwh(energy_wh: int) -> str:
    return f"{energy_wh // 1000}.{energy_wh % 1000:03d} kWh"


class Tour:
    def __init__(self, rig: Rig, voice: Voice, tariff: Path) -> None:
        self.rig, self.voice, self.tariff = rig, voice, tariff
        self.session = ""

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
        self._four_way()

    # --- helpers ----------------------------------------------------------------------------------

    def _terminal(self) -> dict[str, Any]:
        return self.rig.tell("terminal", "state")

    def _screen(self, who: str = "driver") -> None:
        self.voice.box(who, self._terminal()["screen"])

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.voltill_json("status", "--state", str(self.rig.state))
        return found

    def _evse(self) -> dict[str, Any]:
        found: dict[str, Any] = self._status()["evses"][0]
        return found

    def _reach(self, *states: str) -> Event:
        return self.rig.log.wait(
            lambda e: (
                e.get("event") == "session"
                and e.get("state") in states
                and self.session in ("", e["session"])
            ),
            STEP_S,
        )

    def _movements(self, kind: str) -> list[dict[str, Any]]:
        path = self.rig.acquirer_ledger
        rows = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
        return [row for row in rows if row["kind"] == kind]

    def _wait_screen(self, words: str) -> bool:
        """Until the terminal shows `words`."""
        limit = time.monotonic() + STEP_S
        while time.monotonic() < limit:
            if words in " ".join(self._terminal()["screen"]):
                return True
            time.sleep(0.1)
        return False

    def _outbox(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.voltill_json(
            "outbox", "list", "--state", str(self.rig.state)
        )
        return found

    # --- steps ------------------------------------------------------------------------------------

    def _price(self) -> None:
        v = self.voice
        v.step("The price is on the terminal before anybody pays")
        shown = self._wait_screen("kWh")
        self._screen()
        v.says("agent", "registered at the terminal, meter and controller answer")
        v.check("the price per kWh is shown", shown, self._terminal()["screen"])

    def _plug(self) -> None:
        v = self.voice
        v.step("The driver plugs in")
        self.rig.tell("charger", "plug")
        limit = time.monotonic() + STEP_S
        while self._evse()["state"] != "plugged" and time.monotonic() < limit:
            time.sleep(0.1)
        evse = self._evse()
        state = self.rig.tell("charger", "state")
        v.says("charger", f"control pilot {state['cp']}, not released, {evse['power_w']} W")
        v.says("meter", f"register {kwh(evse['register_wh'])}")
        v.check("no energy without a hold", not state["released"], state)

    def _tap(self) -> None:
        v = self.voice
        v.step(f"The driver taps a card: hold {euro(HOLD_MINOR)}")
        self.rig.tap(CARD)
        self.session = str(self._reach("authorizing")["session"])
        v.says("agent", f"session {self.session}: intent durable, then 06 22 to the terminal")
        self._reach("approved")
        v.says("agent", "approval durable, then answered")
        self._reach("starting", "charging")
        holds = self._movements("hold")
        v.says(
            "acquirer", f"hold {euro(holds[-1]['amount_minor'])}, receipt {holds[-1]['receipt']}"
        )
        v.check(
            "exactly one hold", len(holds) == 1 and holds[0]["amount_minor"] == HOLD_MINOR, holds
        )

    def _energy(self) -> None:
        v = self.voice
        v.step("Energy flows; the cost runs along")
        v.says("note", "the simulated car draws 360 kW, more than a real one at this connector,")
        v.says("", "so that seconds show kilowatt-hours; demo.yaml's rated power fits it")
        self._reach("charging")
        seen = 0
        for i in range(1, SAMPLES + 1):
            limit = time.monotonic() + STEP_S
            while (evse := self._evse())["energy_wh"] is None or evse["energy_wh"] < i * (
                CHARGE_WH // SAMPLES
            ):
                if time.monotonic() > limit:
                    break
                time.sleep(0.05)
            seen = evse["energy_wh"] or 0
            cost = euro(evse["cost_minor"] or 0)
            v.says("meter", f"{kwh(seen):>10}  {evse['power_w'] / 1000:6.1f} kW   cost {cost:>9}")
        self._wait_screen("kWh")
        self._screen()
        v.check("energy and cost grow", seen >= CHARGE_WH, seen)

    def _cut(self) -> None:
        v = self.voice
        v.step("The network is cut")
        self.rig.tell("netproxy", "cut")
        self.rig.tell("backend", "wait", station=STATION, online=False, timeout_s=STEP_S)
        v.says("back end", "the station is offline (its last will arrived)")
        before = self._evse()["energy_wh"]
        limit = time.monotonic() + STEP_S
        while (now := self._evse()["energy_wh"]) <= before and time.monotonic() < limit:
            time.sleep(0.1)
        v.check("charging goes on without the network", now > before, now)

    def _stop(self) -> None:
        v = self.voice
        v.step("The same card stops the session")
        self.rig.tap(CARD)
        self._reach("stopping")
        v.says("agent", "release withdrawn; waits for controller and meter to prove the stop")
        self._reach("recording")
        v.says("agent", "end reading confirmed twice, price computed once, record signed")
        self._reach("closed")
        found = self.rig.session(self.session)
        self._screen()
        captures = self._movements("capture")
        cost, held = found["cost_minor"], found["held_minor"]
        v.says("meter", f"{kwh(found['energy_wh'])} by the register")
        v.says(
            "acquirer", f"captured {euro(captures[-1]['amount_minor'])}" if captures else "nothing"
        )
        v.says("", f"released {euro(captures[-1]['released_minor'])}" if captures else "")
        exact = len(captures) == 1 and captures[0]["amount_minor"] == cost
        v.check(f"captured exactly the cost, {euro(cost)}", exact, captures)
        rest = exact and captures[0]["released_minor"] == held - cost
        v.check(f"released exactly the rest, {euro(held - cost)}", rest, captures)
        state = self.rig.tell("charger", "state")
        v.check("no energy after the stop", not state["released"], state)

    def _receipt(self) -> None:
        v = self.voice
        v.step("The receipt, 40 columns")
        text = self.rig.receipt(self.session)
        v.box("driver", text.splitlines())
        widest = max(len(line) for line in text.splitlines())
        v.check("no line is wider than 40", widest <= 40, widest)

    def _restore(self) -> None:
        v = self.voice
        v.step("The network comes back")
        outbox = self._outbox()
        v.says("agent", f"{outbox['unacked']} records waited on the station")
        v.check("nothing was lost while offline", outbox["unacked"] == 2, outbox)
        self.rig.tell("netproxy", "restore")
        self.rig.tell("backend", "wait", station=STATION, seq=2, timeout_s=STEP_S)
        rows = self.rig.tell("backend", "records")["records"]
        for row in rows:
            v.says(
                "back end", f"record {row['seq']} ({row['type']}), {len(row['jws'])} bytes, stored"
            )
        limit = time.monotonic() + STEP_S
        while (left := self._outbox())["unacked"] and time.monotonic() < limit:
            time.sleep(0.1)
        v.says("agent", f"signed acknowledgement through record {left['acked_through']}")
        v.check("every record is acknowledged", left["unacked"] == 0, left)

    def _verify(self) -> None:
        v = self.voice
        v.step("Anybody can check the records")
        command = [
            *voltill_command(),
            "verify",
            *("--trust", str(self.rig.station_key), "--state", str(self.rig.state)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            v.says("verify", line)
        v.check("signatures and hash chain hold", done.returncode == 0, done.stderr)

    def _four_way(self) -> None:
        v = self.voice
        v.step("Four books, one truth")
        voltill = " ".join(voltill_command())
        command = [
            *(sys.executable, "-m", "hil", "verify"),
            *("--ledger", str(self.rig.acquirer_ledger), "--db", str(self.rig.backend_db)),
            *("--voltill", voltill, "--state", str(self.rig.state)),
            *("--config", str(self.rig.config), "--tariff", str(self.tariff)),
            *("--trust", str(self.rig.station_key), "--all-closed"),
            *("--energy-truth", str(self.rig.socket("charger"))),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in (done.stdout + done.stderr).splitlines():
            v.line(f"    {line}")
        v.check("acquirer, back end, ledger and receipt agree", done.returncode == 0)
