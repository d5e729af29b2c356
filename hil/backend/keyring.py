"""The stations' public keys: from folders and files, looked at again whenever a key is not known yet,
because a station makes its key at its first start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from hil.backend.jose import key_id, load_public


class Keyring:
    def __init__(self, trust_dirs: Sequence[Path], station_keys: Sequence[Path]) -> None:
        self._dirs, self._files = trust_dirs, station_keys
        self.keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self.unreadable: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        """A file that is missing or holds something else is noted and tried again next time."""
        self.unreadable.clear()
        paths = [*self._files]
        for folder in self._dirs:
            paths += sorted(folder.glob("*.pem"))
        for path in paths:
            try:
                key = load_public(path)
            except (OSError, ValueError, TypeError) as error:
                self.unreadable[str(path)] = str(error)
            else:
                self.keys[key_id(key)] = key
