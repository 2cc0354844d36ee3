"""Under which name Prometheus asks a backend that has a certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.cli.monitoring.certificates import name_in
from tests.certificates import write_pair


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("127.0.0.1", "fog.example", "other.example"), "fog.example"),
        (("*.lab.example",), "any.lab.example"),
        (("::1",), "::1"),
        ((), ""),
    ],
)
def test_name_is_one_that_the_certificate_is_for(
    tmp_path: Path, names: tuple[str, ...], asked: str
) -> None:
    certificate, _ = write_pair(tmp_path, *names)

    assert name_in(certificate) == asked


def test_what_is_no_certificate_has_no_name(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("BEGIN")

    assert name_in(tmp_path / "cert.pem") == ""
    assert name_in(tmp_path / "none.pem") == ""
