"""Where the station's own keys are: the section `keys` of `station.yaml`."""

from __future__ import annotations

from typing import Annotated

from agent.settings.fields import FilePath, Text, Whole, fail, matching
from agent.settings.section import SecretSource
from agent.settings.shape import Limits, Section, setting


class Pkcs11Ref(Section):
    """A key in a PKCS#11 token. Needs the extra voltill[pkcs11]."""

    module: FilePath = setting(description="the token's PKCS#11 library (.so)")
    token: Text | None = setting(default=None, description="label of the token")
    slot: Annotated[Whole, Limits(ge=0)] | None = setting(
        default=None, description="number of the slot, for tokens without a label of their own"
    )
    key: Text = setting(description="label of the key pair in the token")
    pin: SecretSource | None = setting(
        default=None, description="where the user PIN is; none for a token that asks for none"
    )

    def agree(self) -> None:
        if self.token is None and self.slot is None:
            fail("NOT_ALLOWED", "names neither token nor slot", "expected one of token and slot")


class TpmRef(Section):
    """A key in a TPM 2.0. Needs the extra voltill[tpm]."""

    tcti: Annotated[Text, matching(r"[a-z0-9-]+(:\S*)?", "such as device:/dev/tpmrm0")] = setting(
        default="device:/dev/tpmrm0", description="how the TPM is reached, as its tools have it"
    )
    handle: (
        Annotated[Text, matching(r"0x81[0-9A-Fa-f]{6}", "a persistent handle, such as 0x81000010")]
        | None
    ) = setting(default=None, description="persistent handle of the key")
    file: FilePath | None = setting(
        default=None, description="file with the key, wrapped by this TPM"
    )
    pin: SecretSource | None = setting(
        default=None, description="where the key's password is, if it has one"
    )

    def agree(self) -> None:
        if (self.handle is None) == (self.file is None):
            fail(
                "NOT_ALLOWED",
                "names no key" if self.file is None else "names two keys",
                "expected one of handle and file",
            )


class KeyRef(Section):
    """Where the private key is: in a file, in a PKCS#11 token, or in a TPM."""

    file: FilePath | None = setting(
        default=None, description="key file, mode 0600; relative to this file"
    )
    pkcs11: Pkcs11Ref | None = setting(default=None, description="key in a PKCS#11 token")
    tpm: TpmRef | None = setting(default=None, description="key in a TPM 2.0")

    def agree(self) -> None:
        places = sum(place is not None for place in (self.file, self.pkcs11, self.tpm))
        if places != 1:
            fail(
                "NOT_ALLOWED",
                "names several places" if places else "names no place",
                "expected one of {file: path}, {pkcs11: ...} and {tpm: ...}",
            )


class Keys(Section):
    """The station's own keys."""

    record: KeyRef = setting(description="key that signs records")
