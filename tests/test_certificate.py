"""Our own certificates: kept where only we can read, named by their pin, or refused in words."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lanrage import certificate
from lanrage.certificate import Pem
from lanrage.refusal import Refusal


def pem(kept: Pem | Refusal) -> Pem:
    assert isinstance(kept, Pem), kept
    return kept


def test_the_pin_is_the_hash_of_the_der_form_as_openssl_has_it() -> None:
    made = certificate.self_signed()
    der = ssl.PEM_cert_to_DER_cert(made.certificate.decode())
    assert certificate.pin_of(made) == hashlib.sha256(der).hexdigest()
    assert isinstance(certificate.server_context(made), ssl.SSLContext)


def test_a_state_directory_keeps_one_and_its_pin_and_only_we_can_read_it(tmp_path: Path) -> None:
    first, second = pem(certificate.kept(tmp_path)), pem(certificate.kept(tmp_path))
    assert first == second
    assert certificate.pin_of(first) == certificate.pin_of(second)
    assert (tmp_path / certificate.FILE).stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [certificate.FILE]
    assert isinstance(certificate.server_context(first), ssl.SSLContext)


def test_the_key_is_in_no_text() -> None:
    made = certificate.self_signed()
    assert "PRIVATE" not in f"{made!r} {made}"


def test_a_certificate_of_an_authority_has_no_pin(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key").write_bytes(certificate.self_signed().key)
    read = pem(certificate.read(tmp_path / "cert", tmp_path / "key"))
    assert certificate.pin_of(read) == ""
    mismatch = certificate.server_context(read)
    assert isinstance(mismatch, Refusal)
    assert mismatch.code == "bad_certificate"


def test_what_is_no_certificate_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "cert").write_text("hello")
    read = pem(certificate.read(tmp_path / "cert", tmp_path / "cert"))
    assert isinstance(certificate.pin_of(read), Refusal)
    assert isinstance(certificate.server_context(read), Refusal)
    missing = certificate.read(tmp_path / "nothing", tmp_path / "cert")
    assert isinstance(missing, Refusal)
    assert "no such file" in missing.why.lower()
    unusable = certificate.kept(tmp_path / "cert")
    assert isinstance(unusable, Refusal)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked() -> None:
    made = certificate.self_signed()
    key = serialization.load_pem_private_key(made.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    assert isinstance(certificate.server_context(Pem(made.certificate, locked)), Refusal)
