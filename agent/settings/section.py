"""What every section of `station.yaml` is, and how a secret is named in one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.settings.fields import FilePath, Text, fail, matching


class Section(BaseModel):
    """A section: unknown settings are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretSource(Section):
    """Where a secret is; never the secret itself."""

    credential: (
        Annotated[Text, matching(r"[A-Za-z0-9_.-]{1,64}", "the name of a systemd credential")]
        | None
    ) = Field(None, description="name of a systemd credential (LoadCredential= of the service)")
    file: FilePath | None = Field(None, description="file that holds the secret, mode 0600")

    @model_validator(mode="after")
    def _one(self) -> SecretSource:
        if (self.credential is None) == (self.file is None):
            fail(
                "NOT_ALLOWED",
                "names no source" if self.file is None else "names two sources",
                "expected one of {credential: name} and {file: path}",
            )
        return self
