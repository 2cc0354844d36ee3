"""The certificate with which the backend proves itself, judged before it is used."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fog_compute.errors import ConfigError
from fog_compute.reading import read_file
from fog_compute.units import MIB

__all__ = ["Tls", "load_tls"]

FILE_BYTES: Final = MIB
OPEN_TO_OTHERS: Final = 0o007


@dataclass(frozen=True, slots=True)
class Tls:
    """What connections are encrypted with.

    Attributes:
        context: of the server.
        certificate: the backend's own, as PEM, by which programs on this machine know it.
        names: the names that it is for, in small letters; ``*.`` stands for one label.
        ends: when it expires.
    """

    context: ssl.SSLContext
    certificate: str
    names: frozenset[str]
    ends: datetime


def load_tls(certificate: Path, key: Path, now: datetime) -> Tls:
    """Read a certificate, with those that lead to its issuer behind it, and its key; both in PEM.

    Raises:
        ConfigError: they cannot be used; the text names the setting, the file and what to do.
    """
    leaf = _certificate(certificate, now)
    _check_key(key, leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"the certificate {certificate} (FOG_TLS_CERT) cannot be used: {reason}"
        ) from error
    pem = leaf.public_bytes(Encoding.PEM).decode()
    return Tls(context, pem, _names(leaf), leaf.not_valid_after_utc)


def _certificate(path: Path, now: datetime) -> x509.Certificate:
    what = f"the certificate {path} (FOG_TLS_CERT)"
    data = _read(path, what)
    try:
        leaf = x509.load_pem_x509_certificates(data)[0]
    except ValueError:
        raise ConfigError(f"{what} is none in PEM: it begins with BEGIN CERTIFICATE") from None
    if now >= leaf.not_valid_after_utc:
        raise ConfigError(
            f"{what} expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: get a new one"
        )
    if now < leaf.not_valid_before_utc:
        raise ConfigError(
            f"{what} is good only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on: is the"
            " clock of this machine right?"
        )
    return leaf


def _check_key(path: Path, leaf: x509.Certificate) -> None:
    what = f"the key {path} (FOG_TLS_KEY)"
    data = _read(path, what)
    if path.stat().st_mode & OPEN_TO_OTHERS:
        raise ConfigError(f"{what} is open to everybody on this machine: run chmod o= on it")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise ConfigError(f"{what} has a password: write it without one, readable by you") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{what} is none in PEM: it begins with BEGIN PRIVATE KEY") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ConfigError(f"{what} does not belong to the certificate of FOG_TLS_CERT")


def _names(leaf: x509.Certificate) -> frozenset[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))


def _read(path: Path, what: str) -> bytes:
    try:
        return read_file(path, FILE_BYTES)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ConfigError(f"{what} cannot be read: {reason}") from error


def _no_password() -> str:
    """Stand for the terminal, which would be asked otherwise."""
    return ""
