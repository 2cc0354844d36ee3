"""Settings: where they come from, and how a bad one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.config import Settings, load_settings
from fog_compute.errors import ConfigError
from fog_compute.layout import default_home, home_from_environment


def test_flag_wins_over_environment_over_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setenv("FOG_PORT", "1234")
    monkeypatch.setenv("FOG_WORKERS", "3")

    settings = load_settings(port=4321, workers=None)

    assert settings.home == tmp_path
    assert settings.port == 4321
    assert settings.workers == 3
    assert settings.host == "127.0.0.1"
    assert settings.database == tmp_path / "daemon" / "fog.db"


@pytest.mark.parametrize(
    ("name", "value"), [("FOG_PORT", "70000"), ("FOG_WORKERS", "many"), ("FOG_LOG_LEVEL", "loud")]
)
def test_bad_value_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=name) as caught:
        load_settings()

    assert "\n" not in str(caught.value)


def test_password_of_the_database_is_not_shown() -> None:
    settings = load_settings(database_url="postgresql+asyncpg://fog:hunter2@db/fog")

    assert "hunter2" not in repr(settings)
    assert str(settings.database).endswith("hunter2@db/fog")


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings(home="here", net="there/net.json")

    assert settings.home == tmp_path / "here"
    assert settings.net == tmp_path / "there" / "net.json"


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("sqlite+aiosqlite:///fog.db", True),
        ("sqlite:///./fog.db?mode=ro", True),
        ("sqlite+aiosqlite:////srv/fog.db", False),
        ("sqlite+aiosqlite:///:memory:", False),
        ("sqlite+aiosqlite://", False),
        ("postgresql+asyncpg://fog@db/fog", False),
    ],
)
def test_database_in_the_current_folder_is_refused(url: str, refused: bool) -> None:
    if refused:
        with pytest.raises(ConfigError, match=r"FOG_DATABASE_URL.*whole path"):
            load_settings(database_url=url)
    else:
        assert load_settings(database_url=url).database == url


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://us:p%40w@h_1.example:443/a?b='c\"&d=%20#f", False),
        ("http://[::1]:7?x", False),
        ("http://h:80x/s3cret", True),
        ("http://us:s3cret@h/%zz", True),
        ("http://[::1/s3cret", True),
        ("http:///s3cret", True),
        ('http://h"/s3cret', True),
    ],
)
def test_url_that_some_program_could_not_read_is_refused_and_not_repeated(
    url: str, refused: bool
) -> None:
    """INV-MON-31."""
    for name in ("alert_webhook", "otlp_endpoint"):
        if refused:
            with pytest.raises(ConfigError, match="give a URL") as caught:
                load_settings(**{name: url})
            assert "s3cret" not in str(caught.value)
        else:
            load_settings(**{name: url})


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOG_HOME", "")
    monkeypatch.setenv("FOG_PORT", "")

    settings = load_settings()

    assert settings.home == home_from_environment() == default_home()
    assert settings.port == 8000


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "[::1]", "LOCALHOST"]
)
def test_loopback_needs_no_leave(host: str) -> None:
    assert load_settings(host=host).host == host.lower().strip("[]")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "fog.example"])
def test_other_hosts_need_leave(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with pytest.raises(ConfigError, match="FOG_ALLOW_REMOTE") as caught:
        load_settings(host=host)

    assert "\n" not in str(caught.value)
    monkeypatch.setenv("FOG_ALLOW_REMOTE", "1")
    assert load_settings(host=host).host == host


def test_names_are_read_as_hosts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOG_NAMES", " Backend ,, fog.example.,")
    assert load_settings().names == "backend,fog.example"
    with pytest.raises(ConfigError, match=r"setting names \(FOG_NAMES\): 'a b' is no host"):
        load_settings(names="backend,a b")


def test_local_net_listens_for_others_only_where_others_get() -> None:
    assert load_settings(listen="10.1.0.1").listen == "10.1.0.1"
    for wrong in ("127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "10.1.0.1:80", "here"):
        with pytest.raises(ConfigError, match=r"setting listen \(FOG_LISTEN\): give an address"):
            load_settings(listen=wrong)


def test_home_that_joined_a_network_uses_it(tmp_path: Path) -> None:
    joined = tmp_path / "joined.json"
    assert load_settings(home=tmp_path).net is None
    joined.touch()
    assert load_settings(home=tmp_path).bootstrap == joined
    assert load_settings(home=tmp_path, net=tmp_path / "other.json").net == tmp_path / "other.json"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CHAT_NAME", "x" * 90, "setting chat_name (FOG_CHAT_NAME) is longer than 80 characters"),
        ("CHAT_ISLANDS", "ada", "setting chat_islands (FOG_CHAT_ISLANDS) is not of the form ^("),
        ("WORKERS", "70", "setting workers (FOG_WORKERS) is more than 64"),
        ("CHAT_LEVEL", "deep", "setting chat_level (FOG_CHAT_LEVEL) is none of 'public',"),
    ],
)
def test_value_that_is_no_good_is_told_in_our_words(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FOG_{name}", value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(says)
