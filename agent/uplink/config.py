"""What the uplink is told: where, as whom, whom to believe, how patient to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from agent.uplink.drain import DrainTiming
from agent.uplink.pipe import PipeConfig
from agent.uplink.topics import Topics


@dataclass(frozen=True, slots=True)
class UplinkTiming:
    """Milliseconds. `backoff_first` doubles up to `backoff_max` from one failed connection to the
    next, each shortened at random by up to a half, so that a fleet does not return as one. A
    connection that held for `stable` begins anew. `watchdog`: with the link up and records waiting,
    no ack for this long makes a new connection: a client may hang while it believes to be connected."""

    backoff_first: int = 1_000
    backoff_max: int = 120_000
    stable: int = 60_000
    watchdog: int = 900_000
    drain: DrainTiming = field(default_factory=DrainTiming)


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    """`url`: mqtt://host[:port] or mqtts://host[:port]. `trust`: PEM files with the keys whose acks
    count. `version`: of this software, told in the birth message. Raises ValueError."""

    url: str
    root: str
    tenant: str
    station: str
    trust: tuple[Path, ...]
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    protocol: str = "5"
    keep_alive_s: int = 30
    connect_timeout_s: float = 20.0
    version: str = ""
    timing: UplinkTiming = field(default_factory=UplinkTiming)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(f"{self.url!r} is not mqtt://host or mqtts://host")
        if self.protocol not in ("5", "3.1.1"):
            raise ValueError(f"MQTT version {self.protocol!r}; expected 5 or 3.1.1")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key stand together or not at all")
        self.topics  # noqa: B018  # checks the names

    @property
    def topics(self) -> Topics:
        return Topics(self.root, self.tenant, self.station)

    @property
    def pipe(self) -> PipeConfig:
        parts = urlsplit(self.url)
        tls = parts.scheme == "mqtts"
        return PipeConfig(
            host=parts.hostname or "",
            port=parts.port or (8883 if tls else 1883),
            client_id=self.station,
            tls=tls,
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            protocol=self.protocol,
            keep_alive_s=self.keep_alive_s,
            connect_timeout_s=self.connect_timeout_s,
        )
