"""Why there is no connection, in one line for a person, with the id of docs/errors.md."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    code: str
    text: str


_DENIED = ("not authorized", "not authorised", "bad user name", "banned")


def of_exception(error: BaseException, host: str, port: int) -> Trouble:
    """A connection that did not come about."""
    where = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "check uplink.ca and the name in uplink.url"
        if "not yet valid" in error.verify_message or "expired" in error.verify_message:
            hint = "check the station's clock, then the certificate's dates"
        return Trouble(
            "UPL-002",
            f"the broker's certificate at {where} is refused: {error.verify_message}; {hint}",
        )
    if isinstance(error, ssl.SSLError):
        if error.library == "SSL":
            return _of_alert(where, error.reason or str(error))
        return Trouble(
            "UPL-006",
            f"uplink.ca, certificate or key cannot be used ({error.reason or error}); expected PEM, "
            "the key being that of the certificate",
        )
    if isinstance(error, TimeoutError):
        return Trouble("UPL-001", f"the broker at {where} does not answer; check network and port")
    if isinstance(error, socket.gaierror):
        return Trouble("UPL-001", f"the name {host} has no address ({error.strerror}); check DNS")
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return Trouble("UPL-006", f"{error.filename or 'a TLS file'}: {error.strerror}")
    if isinstance(error, OSError):
        why = error.strerror or str(error) or type(error).__name__
        return Trouble("UPL-001", f"the broker at {where} cannot be reached: {why}")
    return Trouble("UPL-006", f"the connection to {where} cannot be set up: {error}")


def _of_alert(where: str, reason: str) -> Trouble:
    said = reason.replace("_", " ").lower()
    if "PEM" in reason or "KEY_VALUES" in reason or "NO_CERTIFICATE" in reason:
        return Trouble("UPL-006", f"uplink.ca, certificate or key cannot be used ({said})")
    hint = "expected an MQTT broker with TLS there"
    if "ALERT" in reason:
        hint = "the broker refuses this station's certificate; check uplink.certificate"
    return Trouble("UPL-003", f"no TLS with {where}: {said}; {hint}")


def of_connack(reason: str) -> Trouble:
    """The broker answered and said no."""
    if any(word in reason.lower() for word in _DENIED):
        return Trouble(
            "UPL-004",
            f"the broker does not let this station in: {reason}; check the certificate's name and "
            "the broker's rules for the station's topics",
        )
    return Trouble("UPL-005", f"the broker refused the connection: {reason}")


def of_loss(reason: str) -> Trouble:
    """An established connection ended."""
    if "ALERT" in reason:
        # With TLS 1.3 a broker looks at our certificate after the handshake is over for us.
        return Trouble(
            "UPL-003",
            f"the broker ended TLS: {reason}; it refuses this station's certificate, check "
            "uplink.certificate",
        )
    return Trouble("UPL-007", f"the connection to the broker was lost: {reason}")
