"""Which exporters a fog's settings ask for, and what those are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from fog_compute.cli.monitoring.exporters import wanted
from fog_compute.config import load_settings
from fog_compute.store.dialects import postgres


def given(home: Path, job: str, **settings: object) -> dict[str, str]:
    """What the exporter of a job finds in its environment."""
    (exporter,) = [one for one in wanted(load_settings(home=home, **settings)) if one.job == job]
    return dict(exporter.environment)


def test_without_servers_the_machine_alone_is_watched(tmp_path: Path) -> None:
    assert [one.job for one in wanted(load_settings(home=tmp_path))] == ["host"]
    sqlite = load_settings(home=tmp_path, database_url="sqlite:////var/lib/fog.db")
    assert [one.job for one in wanted(sqlite)] == ["host"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "postgresql://ann:s%40t@127.0.0.1:5433/fog",
            "postgresql://ann:s%40t@127.0.0.1:5433/fog?sslmode=disable",
        ),
        ("postgres://ann@db.example/fog", "postgresql://ann@db.example/fog?sslmode=require"),
        (
            "postgresql://ann@db.example/fog?sslmode=verify-full&sslrootcert=%2Fca.pem",
            "postgresql://ann@db.example/fog?sslmode=verify-full&sslrootcert=%2Fca.pem",
        ),
        (
            "postgresql://ann@/fog?host=%2Frun%2Fpg",
            "postgresql://ann@/fog?host=%2Frun%2Fpg&sslmode=disable",
        ),
    ],
)
def test_database_is_named_as_the_exporters_driver_needs_it(
    tmp_path: Path, url: str, told: str
) -> None:
    assert given(tmp_path, "postgres", database_url=url) == {"DATA_SOURCE_NAME": told}


def test_database_without_a_host_is_where_the_backend_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "SOCKETS", tmp_path)

    told = given(tmp_path, "postgres", database_url="postgresql:///fog")["DATA_SOURCE_NAME"]

    host = str(tmp_path).replace("/", "%2F")
    assert told == f"postgresql:///fog?host={host}&sslmode=disable"


def test_redis_gets_its_password_apart(tmp_path: Path) -> None:
    url = "rediss://ann:s%40t@redis.example:6380/2"

    assert given(tmp_path, "redis", redis_url=url) == {
        "REDIS_ADDR": "rediss://redis.example:6380",
        "REDIS_USER": "ann",
        "REDIS_PASSWORD": "s@t",
    }
    plain = given(tmp_path, "redis", redis_url="redis://127.0.0.1:6379")
    assert plain == {"REDIS_ADDR": "redis://127.0.0.1:6379"}


@pytest.mark.parametrize(
    ("setting", "url"),
    [("database_url", "postgresql://[::1/fog"), ("redis_url", "redis://[::1")],
)
def test_url_that_cannot_be_read_is_for_the_backend_to_tell(
    tmp_path: Path, setting: str, url: str
) -> None:
    settings = load_settings(home=tmp_path).model_copy(update={setting: SecretStr(url)})

    assert [one.job for one in wanted(settings)] == ["host"]


def test_no_secret_is_in_an_argument_or_in_what_is_shown(tmp_path: Path) -> None:
    """INV-MON-31."""
    settings = load_settings(
        home=tmp_path,
        database_url="postgresql://ann:s3cret@127.0.0.1/fog",
        redis_url="redis://:s3cret@127.0.0.1",
    )

    for exporter in wanted(settings):
        assert "s3cret" not in " ".join(exporter.options)
        assert "s3cret" not in repr(exporter)
