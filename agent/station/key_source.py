"""From the section `keys` of the settings to the place of the record key. The libraries of tokens and TPMs
are imported only where they are chosen: they cost start-up time and memory."""

from __future__ import annotations

from collections.abc import Callable

from agent.settings.models import Settings
from agent.settings.secrets import SecretUnavailable, read_secret
from agent.settings.section import SecretSource
from agent.trust.keys import KeyFile, KeyRefused, KeySource


def record_key(settings: Settings) -> KeySource:
    """Where the record key is. Touches no device."""
    at = settings.keys.record
    if at.pkcs11 is not None:
        from agent.trust.pkcs11 import Pkcs11Key

        token = at.pkcs11
        pin = _pin(token.pin)
        return Pkcs11Key(token.module, token.key, token=token.token, slot=token.slot, pin=pin)
    if at.tpm is not None:
        from agent.trust.tpm import TpmKey

        handle = None if at.tpm.handle is None else int(at.tpm.handle, 16)
        return TpmKey(at.tpm.tcti, handle=handle, file=at.tpm.file, pin=_pin(at.tpm.pin))
    assert at.file is not None  # one of the three, by the model
    return KeyFile(at.file)


def _pin(source: SecretSource | None) -> Callable[[], str] | None:
    if source is None:
        return None

    def read() -> str:
        try:
            return read_secret(source).reveal()
        except SecretUnavailable as error:
            raise KeyRefused(error.code, error.seen, error.remedy) from None

    return read
