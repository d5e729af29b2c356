"""What each side sees of the station, in words: asked from the simulators, the agent's command line and the
back end's database, never from inside the agent."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hil.rig import Rig

# ZVT commands by their two control bytes (PA00P015), as the terminal received and sent them.
ZVT = {
    "0600": "06 00 registration",
    "0501": "05 01 status enquiry",
    "06e0": "06 E0 display text",
    "06c0": "06 C0 read card",
    "06b0": "06 B0 abort",
    "0622": "06 22 reservation",
    "0623": "06 23 partial reversal",
    "0625": "06 25 reversal of the reservation",
    "0620": "06 20 repeat receipt",
    "040f": "04 0F result",
    "060f": "06 0F completion",
    "061e": "06 1E abort",
}
# Said all the time, or only a sign of life.
ROUTINE = frozenset({"0501", "06b0", "8000", "8400", "04ff", "061e", "06d1", "06d3"})


def money(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d} EUR"


def kwh(energy_wh: int) -> str:
    return f"{energy_wh // 1000}.{energy_wh % 1000:03d} kWh"


class Views:
    def __init__(self, rig: Rig, station: str) -> None:
        self.rig, self.station = rig, station
        self._told: dict[str, Counter[str]] = {"commands": Counter(), "messages": Counter()}

    # --- the terminal -----------------------------------------------------------------------------

    def terminal(self) -> dict[str, Any]:
        return self.rig.tell("terminal", "state")

    def dialogue(self) -> str:
        """What went over the terminal's line since this was asked last."""
        state = self.terminal()
        heard = self._since(state, "commands")
        said = self._since(state, "messages")
        parts = [f"hears {heard}" if heard else "", f"answers {said}" if said else ""]
        return "; ".join(part for part in parts if part) or "waits for a card"

    def _since(self, state: dict[str, Any], kind: str) -> str:
        now = Counter({str(k): int(v) for k, v in state[kind].items()})
        new, self._told[kind] = now - self._told[kind], now
        known = [(ZVT[code], n) for code, n in new.items() if code in ZVT and code not in ROUTINE]
        return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in known)

    # --- charger and meter ------------------------------------------------------------------------

    def charger(self) -> str:
        state = self.rig.tell("charger", "state")
        released = "released" if state["released"] else "not released"
        return f"control pilot {state['cp']}, {released}, {state['power_w'] / 1000:.1f} kW"

    def meter(self) -> str:
        """The register that is billed."""
        return f"register {kwh(self.rig.tell('charger', 'state')['register_wh'])}"

    # --- the back end -----------------------------------------------------------------------------

    def backend(self) -> str:
        state = self.rig.tell("backend", "state")
        online = state["stations"].get(self.station, {}).get("online")
        records = sum(chain["through_seq"] for chain in state["chains"])
        return f"station {'online' if online else 'offline'}, {records} records"

    def records(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.rig.tell("backend", "records")["records"]
        return rows

    # --- the agent, through its command line -------------------------------------------------------

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.voltill_json("status", "--state", str(self.rig.state))
        return found

    def evse(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["evses"][0]
        return found

    def outbox(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.voltill_json(
            "outbox", "list", "--state", str(self.rig.state)
        )
        return found

    # --- the acquirer -----------------------------------------------------------------------------

    def booked(self, kind: str) -> list[dict[str, Any]]:
        path = self.rig.acquirer_ledger
        rows = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
        return [row for row in rows if row["kind"] == kind]
