"""The few things the agent needs from hardware, and nothing more.

Three ports: `Terminal` (money), `Meter` (energy), `Evse` (contactor and plug). A driver implements one
of them and imports only this module and `agent.values`. What a driver cannot do it does not have:
optional verbs are protocols of their own (`CanIncrement`, `CanEndOfDay`, `SigningMeter` ...), found with
`isinstance`.

Two kinds of failure, never mixed:

* `DeviceUnavailable` is raised when a device does not answer and nothing that moves money was sent.
* A money verb never raises for trouble on the line. It returns exactly one of `Done`, `Refused`,
  `Unknown`; `Unknown` is a state the session lives in, not an error (design §2 rule 2).
"""

from agent.ports.abilities import (
    CanEndOfDay,
    CanIncrement,
    CanMaintain,
    CanPay,
    CanRefund,
    CanReleaseForeign,
    CanReverse,
    EodHolds,
    Goods,
    Handover,
    KnowsLeastAmount,
    PartIssued,
    TellsCaptures,
    Upkeep,
    UpkeepReport,
)
from agent.ports.devices import (
    MODBUS_TCP,
    DeviceUnavailable,
    DriverEnv,
    EvseSpec,
    LineSpec,
    MeterSpec,
    TerminalSpec,
    is_modbus_tcp,
)
from agent.ports.evse import (
    Evse,
    EvseAbilities,
    EvseSnapshot,
    EvseState,
    EvseTransaction,
)
from agent.ports.meter import (
    Meter,
    MeterIdentity,
    SigningMeter,
)
from agent.ports.terminal import (
    NOT_TOLD,
    Card,
    CardKind,
    Done,
    Evidence,
    HoldRef,
    Keep,
    LastResult,
    Need,
    NotSent,
    OpenHolds,
    Outcome,
    Reason,
    Refused,
    Terminal,
    TerminalIdentity,
    Unknown,
    Verdict,
)

__all__ = [
    "MODBUS_TCP",
    "NOT_TOLD",
    "CanEndOfDay",
    "CanIncrement",
    "CanMaintain",
    "CanPay",
    "CanRefund",
    "CanReleaseForeign",
    "CanReverse",
    "Card",
    "CardKind",
    "DeviceUnavailable",
    "Done",
    "DriverEnv",
    "EodHolds",
    "Evidence",
    "Evse",
    "EvseAbilities",
    "EvseSnapshot",
    "EvseSpec",
    "EvseState",
    "EvseTransaction",
    "Goods",
    "Handover",
    "HoldRef",
    "Keep",
    "KnowsLeastAmount",
    "LastResult",
    "LineSpec",
    "Meter",
    "MeterIdentity",
    "MeterSpec",
    "Need",
    "NotSent",
    "OpenHolds",
    "Outcome",
    "PartIssued",
    "Reason",
    "Refused",
    "SigningMeter",
    "TellsCaptures",
    "Terminal",
    "TerminalIdentity",
    "TerminalSpec",
    "Unknown",
    "Upkeep",
    "UpkeepReport",
    "Verdict",
    "is_modbus_tcp",
]
