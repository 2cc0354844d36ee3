"""The name by which Prometheus checks the certificate of a backend that it asks at an address."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from fog_compute.reading import read_file
from fog_compute.units import MIB

__all__ = ["name_in"]


def name_in(certificate: Path) -> str:
    """A name or an address that the first certificate of a file is for; empty if it tells none.

    Where the file cannot be used the backend says so, and does not start.
    """
    try:
        leaf = x509.load_pem_x509_certificates(read_file(certificate, MIB))[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ""
    hosts = [name.replace("*", "any", 1) for name in names.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return next(iter([*hosts, *addresses]), "")
