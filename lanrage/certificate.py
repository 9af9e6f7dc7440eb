"""Certificates for our own TLS ports, and how their other ends are checked.

An operator with a domain brings a certificate, and the system's authorities decide. Everybody else
has a self-signed one, named by its *pin*: the SHA-256 of its DER form in hex. The pin travels where
the address does (in an invite, in what control says about a relay), so it needs no authority; the
name and the dates in such a certificate mean nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from lanrage.refusal import Refusal

LIFE: Final = datetime.timedelta(days=3650)
SKEW: Final = datetime.timedelta(days=2)  # a member's clock may be behind
NAME: Final = "lanrage"
FILE: Final = "tls.pem"  # in a state directory: certificate and key
FILE_MAX: Final = 1 << 17  # bytes


class WrongPin(ssl.SSLCertVerificationError):
    """The other end has another certificate than we were told."""


class Pem(NamedTuple):
    """A certificate, perhaps with its chain, and its private key."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Pem()"  # never the key


def self_signed() -> Pem:
    """A new one, good for ten years."""
    # Only whoever serves needs these: they would cost an idle tunnel process memory.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pem(
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def read(certificate: Path, key: Path) -> Pem | Refusal:
    """The operator's files."""
    try:
        return Pem(_read(certificate), _read(key))
    except OSError as error:
        return _refuse(f"{error.filename or certificate}: {error.strerror or error}")


def kept(directory: Path) -> Pem | Refusal:
    """The self-signed one of this state directory, made at the first call. Its pin stays."""
    path = directory / FILE
    try:
        if not path.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = self_signed()
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(made.certificate + made.key)
            fresh.replace(path)
        both = _read(path)
    except OSError as error:
        return _refuse(f"{path}: {error.strerror or error}")
    return Pem(both, both)


def pin_of(pem: Pem) -> str | Refusal:
    """What members check this certificate by; empty if an authority has signed it, for then they
    ask the authority and it may be renewed."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        first = x509.load_pem_x509_certificate(pem.certificate)
    except ValueError:
        return _refuse("there is no certificate in that file")
    if first.issuer != first.subject:
        return ""
    return hashlib.sha256(first.public_bytes(Encoding.DER)).hexdigest()


def server_context(pem: Pem) -> ssl.SSLContext | Refusal:
    """To serve with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    # OpenSSL reads files only; these two never touch a disk.
    certificate, key = _memory(pem.certificate), _memory(pem.key)
    try:
        # A key with a passphrase is refused, not asked for at a terminal.
        context.load_cert_chain(_path(certificate), _path(key), password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError):
        return _refuse("certificate and key are damaged, encrypted, or not of one another")
    finally:
        os.close(certificate)
        os.close(key)
    return context


def client_context(pin: str) -> ssl.SSLContext:
    """To dial with: the other end has the certificate of this pin, or, without one, one that the
    system trusts for its host name. A wrong one ends the handshake, before a byte of ours."""
    if not pin:
        context = ssl.create_default_context()
        _harden(context)
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    expected = bytes.fromhex(pin)

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            der = self.getpeercert(binary_form=True) or b""
            if not hmac.compare_digest(hashlib.sha256(der).digest(), expected):
                raise WrongPin("its certificate is not the one that we were told")

    context.sslobject_class = Pinned
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_MAX)


def _memory(content: bytes) -> int:
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    os.write(handle, content)
    return handle


def _path(handle: int) -> str:
    return f"/proc/self/fd/{handle}"


def _refuse(why: str) -> Refusal:
    return Refusal(
        "bad_certificate",
        "Cannot use this certificate",
        why,
        "Give both as PEM files, or leave both out for a self-signed one.",
    )
