from __future__ import annotations

from pathlib import Path

import pytest

import checks


def packages(name: str, target: str, kind: str | None) -> list[dict[str, object]]:
    return [{"name": name, "dependencies": [{"name": target, "kind": kind}]}]


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("betanet-node", "betanet-mix", None),
        ("betanet-node", "tokio", None),
        ("betanet-mix", "betanet-testkit", "dev"),
        ("betanet-mix", "tokio", "dev"),
        ("betanet-sphinx", "sha2", None),
    ],
)
def test_a_dependency_downwards_passes(name: str, target: str, kind: str | None) -> None:
    assert checks.layer_breaches(packages(name, target, kind)) == []


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("betanet-sphinx", "betanet-mix", None),
        ("betanet-mix", "betanet-node", "dev"),
        ("betanet-node", "betanet-testkit", None),
        ("betanet-mix", "tokio", None),
        ("betanet-sphinx", "getrandom", "build"),
        ("betanet-new", "sha2", None),
    ],
)
def test_a_breach_is_named(name: str, target: str, kind: str | None) -> None:
    (breach,) = checks.layer_breaches(packages(name, target, kind))
    assert name in breach


def test_a_file_over_the_limit_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    short, long, data = tmp_path / "short.py", tmp_path / "long.rs", tmp_path / "data.json"
    short.write_text("x\n" * checks.MAX_LINES)
    long.write_text("x\n" * (checks.MAX_LINES + 1))
    data.write_text("x\n" * (checks.MAX_LINES + 1))
    assert checks.long_files([short, long, data, tmp_path / "gone.py"]) == [
        "long.rs has 801 lines; the limit is 800"
    ]
