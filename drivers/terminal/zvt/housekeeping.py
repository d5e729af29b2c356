"""What a terminal says it needs, and when its silence is no fault. Pure.

Who acts on it is the station: what changes the terminal's books or settings is done on its order alone."""

from __future__ import annotations

from dataclasses import dataclass

from agent.ports import Need
from drivers.terminal.zvt import codes
from drivers.terminal.zvt.apdu import Apdu

# PA00P015, status byte in the Completion of 06 00.
REGISTRATION_BITS: tuple[tuple[int, Need], ...] = (
    (0x01, Need.INITIALISATION),
    (0x02, Need.DIAGNOSIS),
    (0x04, Need.OPERATOR),
)
UPDATE_FOLLOWS = 0xE0  # BMP 27 in a Completion: an update begins
REBOOT_FOLLOWS = 0xFC  # ... or a reboot
MAINTENANCE_STATUS = 0xE0
# A registration is refused for its password, most often, and some terminals lock themselves after a few wrong
# ones. Three tries forgive a chance; then one every ten minutes, which nobody waits for: the setting has to
# be corrected, and that starts anew.
REFUSED_TRIES = 3
REFUSED_PAUSE_MS = 600_000


def needs(status: int | None, registration_bits: int | None) -> tuple[str, ...]:
    """What is needed, what the status says first: it is the newer word."""
    first = None if status is None else codes.need(status)
    found = [] if first is None else [first]
    for bit, need in REGISTRATION_BITS:
        if registration_bits is not None and registration_bits & bit and need not in found:
            found.append(need)
    return tuple(map(str, found))


def registration_bits(completion: Apdu) -> int | None:
    """BMP 19 in the Completion of 06 00."""
    told = completion.text("payment_type")
    return None if told is None else int(told, 16)


def at_work(completion: Apdu) -> bool:
    """Whether this Completion announces an update or a reboot."""
    return completion.integer("result") in (UPDATE_FOLLOWS, REBOOT_FOLLOWS)


@dataclass(slots=True)
class Absence:
    """A terminal that has said it will be busy with itself. Until it is ready again or `for_ms` are over
    it may be silent, refuse everything or come back at another rate, and none of it is a fault."""

    for_ms: int
    until_ms: int | None = None

    def begins(self, now: int) -> None:
        self.until_ms = now + self.for_ms

    def hinted(self, now: int) -> None:
        """It says that it is at work: the first time counts, not every time it says so again."""
        if self.until_ms is None:
            self.begins(now)

    def ends(self) -> None:
        self.until_ms = None

    def excuses(self, now: int) -> bool:
        return self.until_ms is not None and now < self.until_ms


@dataclass(slots=True)
class Refusals:
    """Registrations that were refused one after the other."""

    count: int = 0
    again_ms: int = 0

    def happened(self, now: int) -> None:
        self.count += 1
        self.again_ms = now + REFUSED_PAUSE_MS

    def forgive(self) -> None:
        self.count = 0

    def forbid(self, now: int) -> bool:
        """Whether it must not be tried now."""
        return self.count >= REFUSED_TRIES and now < self.again_ms
