"""The topics of one station: `<root>/v1/<tenant>/<station>/<class>/<name>` (docs/interfaces/asyncapi.yaml).

Who sends stands in the topic, not only in the payload, so that one broker rule fits a whole fleet."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A level must be one level: no separator, no wildcard, nothing a broker may treat apart.
_LEVEL = re.compile(r"[^\s/+#$\x00-\x1f\x7f][^\s/+#\x00-\x1f\x7f]{0,63}\Z")
_ROOT = re.compile(r"[^\s/+#$][^\s+#]{0,127}(?<!/)\Z")


@dataclass(frozen=True, slots=True)
class Topics:
    root: str
    tenant: str
    station: str

    def __post_init__(self) -> None:
        levels = (self.tenant, self.station)
        if not _ROOT.match(self.root) or not all(map(_LEVEL.match, levels)):
            raise ValueError(
                f"root {self.root!r}, tenant {self.tenant!r} and station {self.station!r} must be "
                "topic levels: no blanks, +, # or control characters, and only root may hold /"
            )

    @property
    def source(self) -> str:
        """CloudEvents `source`."""
        return f"/{self.tenant}/{self.station}"

    def record(self, name: str) -> str:
        """`name`: session, settlement, gap, unmeasured or batch."""
        return f"{self.root}/v1/{self.tenant}/{self.station}/rec/{name}"

    @property
    def acks(self) -> str:
        return f"{self.root}/v1/{self.tenant}/{self.station}/ack/records"

    @property
    def state(self) -> str:
        """Retained: birth and last will of this station."""
        return f"{self.root}/v1/{self.tenant}/{self.station}/state/agent"

    @property
    def backend_state(self) -> str:
        """Retained: whether the back end takes records now."""
        return f"{self.root}/v1/{self.tenant}/backend/state"
