"""Bootstrap tokens, and what joining with one does to a home."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.cli.membership import GivenTokens, join
from fog_compute.cli.tokens import MAX_EDGES, BootstrapToken, Endpoint, Net, read_net
from fog_compute.errors import ConfigError
from fog_compute.layout import HomeLayout
from fog_compute.tasks.groups import Group, Keyring
from fog_compute.tasks.keyring import KeyringFile

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = int((NOW + timedelta(days=7)).timestamp())
LAB = Group.new("lab")


def net(number: int = 1, edges: int = 2) -> Net:
    def endpoint(of: int) -> Endpoint:
        return Endpoint(bytes([number, of, *bytes(30)]).hex(), f"10.1.0.{of}:{7000 + of}")

    return Net("example", endpoint(0), tuple(endpoint(i + 1) for i in range(edges)), True)


def token(number: int = 1, *groups: Group) -> BootstrapToken:
    return BootstrapToken.new(net(number), groups or (LAB,), LATER)


def test_token_says_all_that_it_was_made_of() -> None:
    """INV-TASK-108."""
    made = token(1, LAB, Group.new("home"))
    text = made.encode()
    assert text.isalnum()
    assert text == text.lower()
    assert BootstrapToken.parse(text) == made
    # As people paste it: in lines, with spaces, in capitals.
    lines = "\n  ".join(text[i : i + 60] for i in range(0, len(text), 60))
    assert BootstrapToken.parse(f"\n {lines.upper()}\r\n") == made
    assert len(text) < 700


def test_token_names_a_bounded_number_of_edges() -> None:
    made = BootstrapToken.new(net(edges=3 * MAX_EDGES), (LAB,), LATER)
    assert BootstrapToken.parse(made.encode()).net.edges == net(edges=MAX_EDGES).edges


@given(at=st.integers(5, 10_000), by=st.sampled_from("abcdefgz234567-!0é"))
def test_changed_token_is_refused_and_none_of_it_repeated(at: int, by: str) -> None:
    """INV-TASK-108."""
    text = token().encode()
    at = 5 + at % (len(text) - 5)
    changed = text[:at] + by + text[at + 1 :]
    if changed == text:
        return
    with pytest.raises(ConfigError, match="damaged") as refused:
        BootstrapToken.parse(changed)
    assert text[5:20] not in str(refused.value)


def test_what_is_no_token_is_refused() -> None:
    """INV-TASK-108."""
    text = token().encode()
    for cut in (text[:-1], text[:40], "fogt1", text + "aa"):
        with pytest.raises(ConfigError, match="damaged"):
            BootstrapToken.parse(cut)
    with pytest.raises(ConfigError, match="newer"):
        BootstrapToken.parse("fogt2" + text[5:])
    for other in ("", "fog1abc", "x" * 100_000):
        with pytest.raises(ConfigError, match="no bootstrap token"):
            BootstrapToken.parse(other)


@pytest.mark.parametrize(
    "foreign",
    [
        {"network": "\x1b[2Jexample"},
        {"network": "n" * 257},
        {"edges": ()},
        {"edges": net(edges=MAX_EDGES + 1).edges},
        {"edges": (Endpoint("00" * 31, "10.1.0.1:7001"),)},
        {"authority": Endpoint("00" * 32, "10.1.0.1\n:7001")},
    ],
)
def test_token_that_somebody_else_made_holds_nothing_out_of_bounds(
    foreign: dict[str, object],
) -> None:
    """INV-TASK-108."""
    made = token()
    strange = msgspec.structs.replace(made, net=msgspec.structs.replace(made.net, **foreign))
    with pytest.raises(ConfigError, match="damaged"):
        BootstrapToken.parse(strange.encode())


def test_network_file_becomes_part_of_a_token(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    with pytest.raises(ConfigError, match="fog up"):
        read_net(path)
    document = msgspec.to_builtins(net()) | {"http": {"entry-0": "127.0.0.1:1"}}
    path.write_text(json.dumps(document))
    assert read_net(path) == net()
    path.write_text(json.dumps(document | {"edges": []}))
    with pytest.raises(ConfigError, match="no edges yet"):
        read_net(path)
    path.write_text("[")
    with pytest.raises(ConfigError, match="no bootstrap file"):
        read_net(path)


def test_home_joins_with_a_token_and_again_with_newer_keys(tmp_path: Path) -> None:
    """INV-TASK-108."""
    layout = HomeLayout(tmp_path / "home")
    first = token()
    for _ in range(2):
        join(layout, first, NOW)
        assert read_net(layout.joined) == first.net
        assert KeyringFile(layout.groups_file).load() == Keyring((LAB,))
    assert layout.joined.stat().st_mode & 0o077 == 0
    newer = Group.new("lab")
    join(layout, token(1, Group.new("home"), newer), NOW)
    keyring = KeyringFile(layout.groups_file).load()
    assert keyring.names == ("home", "lab")
    assert keyring.key("lab") == newer.key


def test_home_of_another_network_does_not_join(tmp_path: Path) -> None:
    """INV-TASK-108."""
    layout = HomeLayout(tmp_path)
    join(layout, token(), NOW)
    with pytest.raises(ConfigError, match="another network"):
        join(layout, token(2), NOW)
    own = HomeLayout(tmp_path / "own")
    own.net.mkdir(parents=True)
    with pytest.raises(ConfigError, match="network of its own"):
        join(own, token(), NOW)
    asked = HomeLayout(tmp_path / "asked")
    KeyringFile(asked.groups_file).write(Keyring((Group.new("lab"),)))
    with pytest.raises(ConfigError, match="another group named 'lab'"):
        join(asked, token(), NOW)
    assert not asked.joined.exists()


def test_expired_token_opens_nothing(tmp_path: Path) -> None:
    """INV-TASK-108."""
    layout = HomeLayout(tmp_path)
    with pytest.raises(ConfigError, match="expired"):
        join(layout, token(), NOW + timedelta(days=7))
    assert list(tmp_path.iterdir()) == []


def test_given_tokens_are_listed_without_what_they_open_and_end_with_their_keys(
    tmp_path: Path,
) -> None:
    """INV-TASK-109."""
    layout = HomeLayout(tmp_path)
    given = GivenTokens(layout)
    assert given.load() == []
    home = Group.new("home")
    made = [token(1, LAB), token(1, home), token(1, LAB, home)]
    for one in made:
        given.add(one, NOW)
    written = layout.given_tokens.read_text()
    assert LAB.key.reveal().hex() not in written
    assert [one.id for one in given.load()] == [one.id for one in made]
    assert given.revoke(frozenset({"lab"})) == [made[0].id, made[2].id]
    assert [one.state(NOW) for one in given.load()] == [
        "revoked",
        "until 2026-11-08 00:00 UTC",
        "revoked",
    ]
    assert given.load()[1].state(NOW + timedelta(days=8)) == "expired; who joined stays"
    assert given.revoke(frozenset({"lab"})) == []
