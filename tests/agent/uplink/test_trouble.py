"""What a person is told when there is no connection."""

from __future__ import annotations

import socket
import ssl

import pytest

from agent.uplink.trouble import of_connack, of_exception, of_loss


def tls(reason: str, library: str = "SSL") -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.library, error.reason = library, reason
    return error


def certificate(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "UPL-001", "h:1 cannot be reached"),
        (TimeoutError(), "UPL-001", "does not answer"),
        (socket.gaierror(-2, "Name or service not known"), "UPL-001", "the name h has no address"),
        (OSError(), "UPL-001", "OSError"),
        (certificate("self-signed certificate"), "UPL-002", "check uplink.ca"),
        (certificate("certificate is not yet valid"), "UPL-002", "the station's clock"),
        (certificate("certificate has expired"), "UPL-002", "the station's clock"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "UPL-003", "refuses this station's certificate"),
        (tls("WRONG_VERSION_NUMBER"), "UPL-003", "expected an MQTT broker with TLS there"),
        (tls("KEY_VALUES_MISMATCH", "X509"), "UPL-006", "cannot be used"),
        (tls("PEM_LIB"), "UPL-006", "cannot be used"),
        (FileNotFoundError(2, "No such file or directory", "ca.pem"), "UPL-006", "ca.pem: No such"),
        (PermissionError(13, "Permission denied", "key.pem"), "UPL-006", "key.pem: Permission"),
        (ValueError("Invalid host."), "UPL-006", "Invalid host."),
    ],
)
def test_failures_to_connect(error: BaseException, code: str, words: str) -> None:
    trouble = of_exception(error, "h", 1)
    assert trouble.code == code
    assert words in trouble.text


def test_answers_of_the_broker() -> None:
    assert of_connack("Not authorized").code == "UPL-004"
    assert of_connack("Bad user name or password").code == "UPL-004"
    assert of_connack("Server busy").code == "UPL-005"
    assert of_loss("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]").code == "UPL-003"
    assert of_loss("Keep alive timeout").code == "UPL-007"
