"""How a secret is named in `station.yaml`."""

from __future__ import annotations

from typing import Annotated

from agent.settings.fields import FilePath, Text, fail, matching
from agent.settings.shape import Section, setting


class SecretSource(Section):
    """Where a secret is; never the secret itself."""

    credential: (
        Annotated[Text, matching(r"[A-Za-z0-9_.-]{1,64}", "the name of a systemd credential")]
        | None
    ) = setting(
        default=None, description="name of a systemd credential (LoadCredential= of the service)"
    )
    file: FilePath | None = setting(
        default=None, description="file that holds the secret, mode 0600"
    )

    def agree(self) -> None:
        if (self.credential is None) == (self.file is None):
            fail(
                "NOT_ALLOWED",
                "names no source" if self.file is None else "names two sources",
                "expected one of {credential: name} and {file: path}",
            )
