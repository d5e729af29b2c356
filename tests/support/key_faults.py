"""A record key in a device that does what a test says: away, silent, with a wrong PIN."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from agent.trust.keys import KeyAway, KeyRefused, PublicKey, RecordKey


@dataclass
class Device:
    """A KeySource. `key`: what is in it; None when it is pulled. `held`: calls wait in there until it is
    released, as in a library that hangs."""

    key: RecordKey | None = field(default_factory=RecordKey.generate)
    pin_is_wrong: bool = False
    kind: str = "pkcs11"
    name: str = "token of the test"
    leaves: bool = True
    opened: int = 0
    pins: int = 0
    signed: list[bytes] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    held: threading.Event | None = None

    def open(self, *, by_person: bool = False) -> OpenDevice:
        self.threads.add(threading.get_ident())
        self.opened += 1
        key = self.there()
        if self.pin_is_wrong:
            if self.pins:
                raise KeyRefused("KEY-025", "the PIN is the one that was refused", "check it")
            self.pins += 1
            raise KeyRefused("KEY-023", "the PIN is wrong", "check it")
        return OpenDevice(self, key)

    def there(self) -> RecordKey:
        if self.held is not None:
            self.held.wait()
        if self.key is None:
            raise KeyAway("KEY-022", "the token is not there", "plug it in")
        return self.key

    def public(self) -> PublicKey:
        return self.there().public

    def create(self) -> PublicKey:
        raise NotImplementedError


@dataclass
class OpenDevice:
    device: Device
    key: RecordKey
    closed: bool = False

    @property
    def public(self) -> PublicKey:
        return self.key.public

    @property
    def kid(self) -> str:
        return self.key.kid

    def sign(self, data: bytes) -> bytes:
        self.device.threads.add(threading.get_ident())
        self.check()
        self.device.signed.append(data)
        return self.key.sign(data)

    def check(self) -> None:
        if self.device.there() is not self.key:
            raise KeyAway("KEY-027", "the token was exchanged", "look")

    def close(self) -> None:
        self.closed = True
