"""The home folder of a worker: one owner, and a name that stays."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import pytest

from fog_compute.errors import ConfigError
from fog_compute.levels import PrivacyLevel
from fog_compute.worker.__main__ import _parser, owned, write_state
from fog_compute.worker.settings import WorkerSettings


def names_in(home: Path) -> dict[PrivacyLevel, str]:
    return write_state(home, WorkerSettings())


def test_worker_keeps_a_name_for_each_level(tmp_path: Path) -> None:
    first = names_in(tmp_path)

    assert names_in(tmp_path) == first
    assert set(first) == set(PrivacyLevel)
    assert len(set(first.values())) == len(PrivacyLevel)
    assert json.loads((tmp_path / "worker.json").read_text())["pid"] == os.getpid()


def test_damaged_name_is_drawn_anew(tmp_path: Path) -> None:
    (tmp_path / "worker.json").write_text("{")

    assert all(name.startswith("worker-") for name in names_in(tmp_path).values())


def test_name_that_cannot_be_read_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "worker.json").mkdir()

    with pytest.raises(OSError, match="no regular file"):
        names_in(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--slots", value) for value in ("0", "65", "", "1.5")),
        *(("--queue", value) for value in ("-1", "4097", "0" * 30 + "5000")),
        *(("--memory-mib", value) for value in ("0", "9" * 5000)),
    ],
)
def test_number_that_is_out_of_its_bounds_is_refused_by_name(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(["--home", "home", "--net", "net.json", f"{option}={value}"])

    assert ended.value.code == 2
    assert f"argument {option}: give a whole number from" in capsys.readouterr().err


def test_two_workers_do_not_share_a_home(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(ConfigError, match="another worker runs"), owned(tmp_path):
        pass


def test_folder_without_locks_is_not_called_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(OSError, match="No locks available"), owned(tmp_path):
        pass
