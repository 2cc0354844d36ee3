from __future__ import annotations

import pytest

import checks


def packages(name: str, target: str, kind: str | None) -> list[dict[str, object]]:
    return [{"name": name, "dependencies": [{"name": target, "kind": kind}]}]


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("betanet-node", "betanet-mix", None),
        ("betanet-node", "betanet-stdio", None),
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
        ("betanet-sphinx", "betanet-stdio", None),
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
