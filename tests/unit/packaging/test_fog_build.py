"""What is laid beside the code into a wheel."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

import fog_build
from fog_compute.cli.monitoring import programs

ROOT = Path(__file__).resolve().parents[3]


def test_wheel_has_the_files_that_the_monitoring_goes_by_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "monitoring").symlink_to(ROOT / "monitoring")
    (tmp_path / fog_build.SHARE / "prometheus/rules").mkdir(parents=True)
    (tmp_path / fog_build.SHARE / "prometheus/rules/of-a-build-before.yml").touch()
    monkeypatch.chdir(tmp_path)

    fog_build.lay_share()

    laid = [path for path in (tmp_path / fog_build.SHARE).rglob("*") if path.is_file()]
    rules = {path.name for path in (ROOT / "monitoring/prometheus/rules").glob("*.yml")}
    assert {path.name for path in laid} == {*rules, "alertmanager.yml"}
    for path in laid:
        own = path.relative_to(tmp_path / fog_build.SHARE)
        assert path.read_bytes() == (ROOT / "monitoring" / own).read_bytes()


def test_what_a_wheel_laid_down_is_found_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_CHECKOUT", tmp_path / "none")
    monkeypatch.setattr(sysconfig, "get_path", lambda *words: str(tmp_path))
    assert programs.find_share(programs.RULES) is None
    place = tmp_path / fog_build.SHARE.relative_to("packaging/data/data") / programs.RULES
    place.mkdir(parents=True)

    assert programs.find_share(programs.RULES) == place
