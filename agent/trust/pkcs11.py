"""Record keys in a PKCS#11 token (smart card, secure element, HSM): Cryptoki 2.40 through python-pkcs11.

The private half never leaves the token. A wrong PIN is never given twice by ourselves: a token counts them
and locks itself. It remembers for us across restarts, too: CKF_USER_PIN_COUNT_LOW is set from the first
wrong PIN to the next good one (Cryptoki 2.40, CK_TOKEN_INFO)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from agent.trust.keys import SCALAR_BYTES, KeyAway, KeyRefused, PublicKey

# DER of the object identifier of P-256 (RFC 5480 ch. 2.1.1.1): what CKA_EC_PARAMS holds.
P256_PARAMS = bytes.fromhex("06082a8648ce3d030107")
POINT_BYTES = 1 + 2 * SCALAR_BYTES  # uncompressed (SEC 1 ch. 2.3.3)
# CKA_ID ties the two halves together for other tools.
ID_BYTES = 16
INSTALL = "pip install 'voltill[pkcs11]'"

Pin = Callable[[], str]


class Pkcs11Key:
    """A KeySource: the key with the label `key` in the token with the label `token`, or in slot `slot`.
    `pin` reads the user PIN each time it is needed; None for a token that asks for none."""

    kind = "pkcs11"
    leaves = True

    def __init__(
        self, module: Path, key: str, *, token: str | None, slot: int | None, pin: Pin | None
    ) -> None:
        self._module, self._key = module, key
        self._token, self._slot, self._pin = token, slot, pin
        self._refused: str | None = None  # the PIN that the token did not take from this process

    @property
    def name(self) -> str:
        return f"key {self._key} in {self._where}"

    @property
    def _where(self) -> str:
        return f"token {self._token}" if self._token is not None else f"slot {self._slot}"

    def open(self, *, by_person: bool = False) -> Pkcs11Signer:
        p11 = _library()
        try:
            session = self._session(p11, by_person=by_person, rw=False)
            try:
                public = self._public(p11, session)
                return Pkcs11Signer(p11, session, self._private(p11, session), public, self.name)
            except BaseException:
                _let_go(p11, session)
                raise
        except p11.PKCS11Error as error:
            raise self._told(p11, error) from None

    def public(self) -> PublicKey:
        p11 = _library()
        try:
            session = self._found(p11).open()
            try:
                return self._public(p11, session)
            finally:
                _let_go(p11, session)
        except p11.PKCS11Error as error:
            raise self._told(p11, error) from None

    def create(self) -> PublicKey:
        """Make the key pair in the token: P-256, for signing only, sensitive and not extractable. A person
        asks for it. Raises KeyRefused (an existing key is never replaced), KeyAway."""
        p11 = _library()
        a = p11.Attribute
        try:
            session = self._session(p11, by_person=True, rw=True)
            try:
                if list(session.get_objects({a.LABEL: self._key})):
                    raise KeyRefused(
                        "KEY-005",
                        f"{self._where} holds something with the label {self._key} already",
                        "choose another label; old records are verified with the old public key",
                    )
                parameters = session.create_domain_parameters(
                    p11.KeyType.EC, {a.EC_PARAMS: P256_PARAMS}, local=True
                )
                parameters.generate_keypair(
                    id=secrets.token_bytes(ID_BYTES),
                    label=self._key,
                    store=True,
                    capabilities=p11.MechanismFlag.SIGN | p11.MechanismFlag.VERIFY,
                    private_template={a.SENSITIVE: True, a.EXTRACTABLE: False},
                )
                return self._public(p11, session)
            finally:
                _let_go(p11, session)
        except p11.PKCS11Error as error:
            raise self._told(p11, error) from None

    # --- token and PIN ----------------------------------------------------------------------------

    def _found(self, p11: Any) -> Any:
        """The token. The library is begun anew each time: sessions of a token that was pulled stay broken,
        and some modules look for tokens only then. So a process has one open Signer of a module at most: the
        one before is away from here on."""
        try:
            lib = p11.lib(str(self._module))
            lib.reinitialize()
        except p11.PKCS11Error as error:
            if type(error) is not p11.PKCS11Error:  # what the module itself says
                raise
            raise KeyRefused(
                "KEY-021",
                f"{self._module}: {_words(error)}",
                "expected a PKCS#11 module (.so) of this machine's architecture; check `module`",
            ) from None
        tokens = [token for token in lib.get_tokens() if self._is_meant(token)]
        if not tokens:
            raise KeyAway(
                "KEY-022",
                f"{self._where} is not there ({self._module})",
                "plug the token in; `pkcs11-tool --list-slots` shows what the module sees",
            )
        if len(tokens) > 1:
            raise KeyRefused(
                "KEY-026", f"several tokens are {self._where}", "name the one by its slot"
            )
        return tokens[0]

    def _is_meant(self, token: Any) -> bool:
        if self._slot is not None and token.slot.slot_id != self._slot:
            return False
        return self._token is None or token.label == self._token

    def _session(self, p11: Any, *, by_person: bool, rw: bool) -> Any:
        token = self._found(p11)
        if self._pin is None:
            return token.open(rw=rw)
        pin = self._pin()
        self._hold_back(p11, token.flags, pin, by_person)
        try:
            session = token.open(rw=rw, user_pin=pin)
        except (p11.PinIncorrect, p11.PinInvalid, p11.PinLenRange):
            self._refused = pin
            raise KeyRefused(
                "KEY-023",
                f"{self._where} does not take the PIN",
                "put the right PIN into its file or credential; until then it is not given again",
            ) from None
        self._refused = None
        return session

    def _hold_back(self, p11: Any, flags: Any, pin: str, by_person: bool) -> None:
        """Whether the PIN may be given. Raises KeyRefused."""
        flag = p11.TokenFlag
        if flags & flag.USER_PIN_LOCKED:
            raise self._locked()
        if by_person:
            return
        if pin == self._refused:
            why = "the PIN is the one that was refused"
        elif flags & flag.USER_PIN_FINAL_TRY:
            why = "the next wrong PIN locks the token"
        elif flags & flag.USER_PIN_COUNT_LOW and self._refused is None:
            why = "the token got a wrong PIN before this start"
        else:
            return
        raise KeyRefused(
            "KEY-025",
            f"{self._where}: {why}, so none is given",
            "check the PIN, then give it once by hand: voltill keys show --config FILE --pin-again",
        )

    def _locked(self) -> KeyRefused:
        return KeyRefused(
            "KEY-024",
            f"the user PIN of {self._where} is locked",
            "unlock it with the token's own tool and its SO PIN (pkcs11-tool --init-pin)",
        )

    def _told(self, p11: Any, error: Exception) -> KeyRefused:
        if isinstance(error, p11.PinLocked):
            return self._locked()
        if isinstance(error, (p11.UserPinNotInitialized, p11.PinExpired)):
            return KeyRefused(
                "KEY-023", f"{self._where}: {_words(error)}", "set the user PIN of the token"
            )
        return _away(self.name, error)

    # --- objects ----------------------------------------------------------------------------------

    def _private(self, p11: Any, session: Any) -> Any:
        found = list(
            session.get_objects(
                {
                    p11.Attribute.CLASS: p11.ObjectClass.PRIVATE_KEY,
                    p11.Attribute.LABEL: self._key,
                }
            )
        )
        if len(found) != 1:
            raise self._not_one("private key", len(found))
        return found[0]

    def _public(self, p11: Any, session: Any) -> PublicKey:
        a = p11.Attribute
        wanted = {a.CLASS: p11.ObjectClass.PUBLIC_KEY, a.LABEL: self._key}
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            raise self._not_one("public key", len(found))
        (key,) = found
        if key.key_type != p11.KeyType.EC or bytes(key[a.EC_PARAMS]) != P256_PARAMS:
            raise KeyRefused("KEY-004", f"{self.name} is not an elliptic P-256 key", "make one")
        return PublicKey.of(_point(bytes(key[a.EC_POINT]), self.name))

    def _not_one(self, what: str, count: int) -> KeyRefused:
        seen = f"{self._where} holds {count or 'no'} {what} with the label {self._key}"
        return KeyRefused(
            "KEY-026", seen, "expected exactly one; make it: voltill keys create --config FILE"
        )


class Pkcs11Signer:
    """A Signer. What it signed is verified before it is handed out: a token that is about to break must not
    spoil the record chain."""

    def __init__(self, p11: Any, session: Any, key: Any, public: PublicKey, name: str) -> None:
        self._p11, self._session, self._key, self._name = p11, session, key, name
        self.public = public

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, data: bytes) -> bytes:
        p11 = self._p11
        try:
            digest = hashlib.sha256(data).digest()
            signature = bytes(self._key.sign(digest, mechanism=p11.Mechanism.ECDSA))
        except p11.PKCS11Error as error:
            raise _away(self._name, error) from None
        return checked(self.public, signature, data, self._name)

    def check(self) -> None:
        try:
            self._key.get_attributes([self._p11.Attribute.LABEL])
        except self._p11.PKCS11Error as error:
            raise _away(self._name, error) from None

    def close(self) -> None:
        _let_go(self._p11, self._session)


def checked(public: PublicKey, signature: bytes, data: bytes, name: str) -> bytes:
    """`signature`, once `public` has verified it. Raises KeyAway."""
    if public.verify(signature, data):
        return signature
    raise KeyAway(
        "KEY-032",
        f"{name} gave a signature that its public key does not verify",
        "the device is broken, or private and public key do not belong together",
    )


def _library() -> Any:
    try:
        import pkcs11
    except ImportError:
        raise KeyRefused(
            "KEY-020", "the PKCS#11 library for Python is not installed", INSTALL
        ) from None
    return pkcs11


def _let_go(p11: Any, session: Any) -> None:
    try:
        session.close()
    except p11.PKCS11Error:
        return  # its token is gone, and with it the session


def _words(error: Exception) -> str:
    """python-pkcs11 names what happened by the exception's class, often without a text."""
    return " ".join(filter(None, (type(error).__name__, str(error))))


def _away(name: str, error: Exception) -> KeyAway:
    return KeyAway(
        "KEY-027",
        f"{name} cannot be used: {_words(error)}",
        "check the token and its connection; it is tried again",
    )


def _point(encoded: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """CKA_EC_POINT: the point in a DER OCTET STRING; some tokens leave the wrapping out."""
    if len(encoded) == POINT_BYTES + 2 and encoded[:2] == bytes((0x04, POINT_BYTES)):
        encoded = encoded[2:]
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded)
    except ValueError:
        raise KeyRefused(
            "KEY-003", f"{name}: its public point cannot be read", "make a new key"
        ) from None
