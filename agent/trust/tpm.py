"""Record keys in a TPM 2.0, through tpm2-pytss and the TPM2 Software Stack (TCG TSS 2.0 ESAPI).

The private half never leaves the TPM in the clear. It is in the TPM itself (a persistent handle), or
wrapped by it in a file that only this TPM can load (TSS2 PRIVATE KEY, the form that OpenSSL's TPM provider
reads, too). What a file holds is loaded on opening and flushed on closing; its parent is flushed at once: a
TPM has room for three objects. Use the kernel's resource manager (/dev/tpmrm0), which also flushes what a
killed process leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.trust.keys import (
    SCALAR_BYTES,
    KeyAway,
    KeyRefused,
    PublicKey,
    read_key_file,
    write_private,
)
from agent.trust.pkcs11 import checked

INSTALL = "apt-get install libtss2-dev gcc python3-dev, then pip install 'voltill[tpm]'"
# The stack writes its own lines to stderr, which holds our log, unless told otherwise before it is loaded.
QUIET = ("TSS2_LOG", "all+none")

# Response codes without handle, parameter and session number (TPM 2.0 Library, Part 2, 6.6.3).
AUTH_FAIL, BAD_AUTH, INTEGRITY, HANDLE = 0x08E, 0x0A2, 0x09F, 0x08B
LOCKOUT, OBJECT_MEMORY = 0x921, 0x902
LAYER_MASK = 0xFF0000  # 0: the TPM itself (TSS 2.0 Overview, 4.4)

Pin = Callable[[], str]


class TpmKey:
    """A KeySource: the key at `handle`, or the one wrapped in `file`. `tcti` says how to reach the TPM, as
    the stack's tools have it: device:/dev/tpmrm0, swtpm:host=127.0.0.1,port=2321. `pin`: the key's password,
    which the TPM is first told with a signature."""

    kind = "tpm"
    leaves = True

    def __init__(
        self, tcti: str, *, handle: int | None, file: Path | None, pin: Pin | None
    ) -> None:
        self._tcti, self._handle, self._file, self._pin = tcti, handle, file, pin
        self._refused: str | None = None

    @property
    def name(self) -> str:
        where = f"handle 0x{self._handle:08x}" if self._handle is not None else str(self._file)
        return f"TPM key {where} at {self._tcti}"

    def open(self, *, by_person: bool = False) -> TpmSigner:
        password = "" if self._pin is None else self._pin()
        if self._refused is not None and self._refused == password and not by_person:
            raise KeyRefused(
                "KEY-025",
                f"{self.name}: the password is the one that was refused, so none is given",
                "check it, then try it by hand: voltill keys show --config FILE --pin-again",
            )
        tss = _stack()
        context, handle = self._context(tss), None
        try:
            handle = self._load(tss, context, password)
            return TpmSigner(tss, context, handle, self._read(context, handle), self)
        except tss.TSS2_Exception as error:
            _finish(tss, context, handle)
            raise self.told(error) from None
        except BaseException:
            _finish(tss, context, handle)
            raise

    def public(self) -> PublicKey:
        """Of a wrapped key without the TPM: its file names it."""
        tss = _stack()
        if self._file is not None:
            return self._of(self._wrapped(tss).public)
        context = self._context(tss)
        try:
            return self._read(context, self._load(tss, context, ""))
        except tss.TSS2_Exception as error:
            raise self.told(error) from None
        finally:
            _finish(tss, context)

    def create(self) -> PublicKey:
        """Make the key: P-256, for signing only, bound to this TPM. Raises KeyRefused (an existing key is
        never replaced), KeyAway."""
        tss = _stack()
        if self._file is not None and self._file.exists():
            raise KeyRefused("KEY-005", f"{self._file} exists already", "move it away first")
        password = None if self._pin is None else self._pin().encode()
        context = self._context(tss)
        try:
            if self._handle is not None and _taken(tss, context, self._handle):
                raise KeyRefused(
                    "KEY-005",
                    f"handle 0x{self._handle:08x} of the TPM is taken",
                    "choose another; old records are verified with the old public key",
                )
            made = tss.tsskey.TSSPrivKey.create_ecc(context, password=password)
            if self._handle is not None:
                loaded = made.load(context, password)
                try:
                    context.evict_control(tss.ESYS_TR.OWNER, loaded, self._handle)
                finally:
                    context.flush_context(loaded)
        except tss.TSS2_Exception as error:
            raise self.told(error) from None
        finally:
            _finish(tss, context)
        if self._file is not None:
            write_private(self._file, made.to_pem())
        return self._of(made.public)

    # --- the TPM ----------------------------------------------------------------------------------

    def _context(self, tss: Any) -> Any:
        try:
            return tss.ESAPI(self._tcti)
        except tss.TSS2_Exception as error:
            raise KeyAway(
                "KEY-029",
                f"the TPM at {self._tcti} cannot be reached: {error}",
                "check `tcti`, and that the service's user is in the group tss; it is tried again",
            ) from None

    def _load(self, tss: Any, context: Any, password: str) -> Any:
        if self._file is not None:
            wrapped = self._wrapped(tss)
            if wrapped.empty_auth:
                return wrapped.load(context)
            if not password:
                raise self._no_password()
            return wrapped.load(context, password.encode())
        handle = context.tr_from_tpmpublic(self._handle)
        context.tr_set_auth(handle, password.encode() or None)
        return handle

    def _wrapped(self, tss: Any) -> Any:
        assert self._file is not None
        try:
            return tss.tsskey.TSSPrivKey.from_pem(read_key_file(self._file))
        except (ValueError, TypeError, RuntimeError):
            raise KeyRefused(
                "KEY-003",
                f"{self._file} holds no TPM key that can be read",
                "expected TSS2 PRIVATE KEY in PEM, as voltill keys create makes it",
            ) from None

    def _read(self, context: Any, handle: Any) -> PublicKey:
        return self._of(context.read_public(handle)[0])

    def _of(self, public: Any) -> PublicKey:
        try:
            return PublicKey.parse(public.to_pem(), self.name)
        except (ValueError, TypeError):  # a kind of key that has no PEM form
            raise KeyRefused(
                "KEY-004", f"{self.name} is not an elliptic P-256 key", "make a P-256 key"
            ) from None

    def _no_password(self) -> KeyRefused:
        return KeyRefused(
            "KEY-023",
            f"{self.name} does not take the password",
            "put the right one into its file or credential; until then it is not given again",
        )

    def passed(self) -> None:
        """The password was right."""
        self._refused = None

    def told(self, error: Any) -> KeyRefused:
        """What an error of the stack means."""
        code = int(error.error) if int(error.rc) & LAYER_MASK == 0 else -1
        if code in (AUTH_FAIL, BAD_AUTH):
            self._refused = "" if self._pin is None else self._pin()
            return self._no_password()
        if code == INTEGRITY:
            return KeyRefused(
                "KEY-031",
                f"{self.name} was not made by this TPM, or the TPM was cleared",
                "make a new key: voltill keys create --config FILE",
            )
        if code == HANDLE and self._handle is not None:
            return KeyRefused(
                "KEY-026",
                f"{self.name} does not exist",
                "make it: voltill keys create --config FILE",
            )
        if code == LOCKOUT:
            return KeyAway(
                "KEY-030",
                f"{self.name}: the TPM is in lockout after wrong passwords",
                "it ends by itself; sooner: tpm2_dictionarylockout --clear-lockout",
            )
        if code == OBJECT_MEMORY:
            return KeyAway(
                "KEY-030",
                f"{self.name}: the TPM has no room left for a key",
                "use the kernel's resource manager (device:/dev/tpmrm0), or tpm2_flushcontext",
            )
        return KeyAway(
            "KEY-029", f"{self.name} cannot be used: {error}", "check the TPM; it is tried again"
        )


class TpmSigner:
    """A Signer. What it signed is verified before it is handed out."""

    def __init__(
        self, tss: Any, context: Any, handle: Any, public: PublicKey, source: TpmKey
    ) -> None:
        self._tss, self._context, self._handle = tss, context, handle
        self._source = source
        self.public = public

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, data: bytes) -> bytes:
        tss = self._tss
        scheme = tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = tss.TPM2_ALG.SHA256
        try:
            made = self._context.sign(self._handle, hashlib.sha256(data).digest(), scheme)
        except tss.TSS2_Exception as error:
            raise self._source.told(error) from None
        self._source.passed()
        r, s = (
            bytes(n) for n in (made.signature.ecdsa.signatureR, made.signature.ecdsa.signatureS)
        )
        # Not every TPM keeps leading zeros.
        raw = r.rjust(SCALAR_BYTES, b"\0") + s.rjust(SCALAR_BYTES, b"\0")
        return checked(self.public, raw, data, self._source.name)

    def check(self) -> None:
        try:
            self._context.read_public(self._handle)
        except self._tss.TSS2_Exception as error:
            raise self._source.told(error) from None

    def close(self) -> None:
        """Flush the key, unless it is persistent: what stays in a TPM fills it up."""
        _finish(self._tss, self._context, self._handle)


def _stack() -> Any:
    os.environ.setdefault(*QUIET)
    try:
        import tpm2_pytss
        import tpm2_pytss.tsskey
    except ImportError as error:
        raise KeyRefused(
            "KEY-020", f"the TPM library for Python cannot be loaded ({error})", INSTALL
        ) from None
    return tpm2_pytss


def _finish(tss: Any, context: Any, handle: Any = None) -> None:
    """Flush `handle` unless it is persistent, and end the context."""
    try:
        if handle is not None and not context.is_closed():
            with handle:
                pass  # a handle of the library flushes itself on leaving, when it is a transient one
    except tss.TSS2_Exception:
        pass  # the TPM is gone, and the object with it
    finally:
        context.close()


def _taken(tss: Any, context: Any, handle: int) -> bool:
    try:
        context.tr_close(context.tr_from_tpmpublic(handle))
    except tss.TSS2_Exception as error:
        if int(error.rc) & LAYER_MASK == 0 and int(error.error) == HANDLE:
            return False
        raise
    return True
