# SPDX-License-Identifier: GPL-2.0-or-later
"""A clock that is wrong is said to be a clock: of certificates, and of requests' signatures."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_server

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mock_cloud.cloud.apis.calls import Diagnosis, FailureKind, diagnose, refuse_credentials

DAY = datetime.timedelta(days=1)


def _certificate(place: Path, first_day: int, name: str) -> Path:
    """A file with key and certificate of `name`, valid for a day from `first_day` on."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime.now(datetime.timezone.utc) + first_day * DAY
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = place / "pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


@contextmanager
def _served(pem: Path) -> Iterator[int]:
    """A server that shakes hands once; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError), context.wrap_socket(client, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def _diagnosis(pem: Path) -> Diagnosis:
    with _served(pem) as port, pytest.raises(requests.exceptions.SSLError) as caught:
        requests.get(f"https://localhost:{port}/?secret", verify=str(pem), timeout=30)
    return diagnose(caught.value)


@pytest.mark.parametrize(("first_day", "words"), [(2, "not yet valid"), (-3, "expired")])
def test_a_certificate_whose_time_it_is_not(tmp_path: Path, first_day: int, words: str) -> None:
    found = _diagnosis(_certificate(tmp_path, first_day, "localhost"))
    assert found.trouble is FailureKind.REFUSED
    assert words in found.text and "this machine's clock says" in found.text.lower()
    assert "secret" not in found.text


def test_another_certificate_is_no_matter_of_the_clock(tmp_path: Path) -> None:
    found = _diagnosis(_certificate(tmp_path, 0, "elsewhere.example"))
    assert "not acceptable" in found.text and "clock" not in found.text


def test_refused_credentials_may_be_the_clocks_fault() -> None:
    diagnosis = Diagnosis(FailureKind.REFUSED, "AuthFailure: not able to validate", "AuthFailure")
    refused = refuse_credentials(diagnosis, "EC2 eu-central-1", "the environment")
    assert "This machine's clock says 20" in (refused.hint or "")
