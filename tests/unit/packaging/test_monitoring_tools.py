from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import monitoring_tools


def program(folder: Path, name: str, text: str = "exit 0") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on the path; the environment is beside it."""
    folder = tmp_path / "machine"
    folder.mkdir()
    (tmp_path / "environment" / "bin").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def fake_debian(machine: Path, *, lists: bool) -> None:
    """An apt-get that downloads, if need be only after an update, and a dpkg that unpacks."""
    shell = "export PATH=/usr/bin:/bin\n"
    updated = "true" if lists else 'case "$*" in *Lists=*) true;; *) false;; esac'
    program(
        machine,
        "apt-get",
        f'{shell}case "$*" in *update) exit 0;; esac\n{updated} || exit 100\n'
        'for word; do case "$word" in prometheus*)\n'
        'echo "$word" > "${word}_1_amd64.deb";; esac; done',
    )
    lines = "\n".join(
        f"{package}) set -- {' '.join(names)};;"
        for package, names in monitoring_tools.PACKAGES.items()
    )
    program(
        machine,
        "dpkg",
        f'{shell}mkdir -p "$3/usr/bin"; cd "$3/usr/bin"\ncase "$(cat "$2")" in\n{lines}\nesac\n'
        'for name; do echo \'#!/bin/sh\' > "$name"; chmod +x "$name"; done',
    )


@pytest.mark.parametrize("lists", [True, False])
def test_programs_are_unpacked_and_linked_and_then_left_alone(
    lists: bool, machine: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_debian(machine, lists=lists)
    environment = tmp_path / "environment"

    assert monitoring_tools.main(environment) == 0

    wanted = [name for names in monitoring_tools.PACKAGES.values() for name in names]
    for name in wanted:
        assert os.access(environment / "bin" / name, os.X_OK), name
        assert (environment / "bin" / name).resolve().is_relative_to(environment / "debian")
    assert sorted(path.name for path in (environment / "debian").iterdir()) == ["usr"]
    assert "prometheus-redis-exporter" in capfd.readouterr().err

    (machine / "apt-get").unlink()
    assert monitoring_tools.main(environment) == 0
    assert capfd.readouterr() == ("", "")


def test_program_under_its_makers_name_is_linked_under_debians(
    machine: Path, tmp_path: Path
) -> None:
    program(machine, "node_exporter")

    lacking = monitoring_tools.missing(tmp_path / "environment" / "bin")

    assert "prometheus-node-exporter" not in lacking
    link = tmp_path / "environment" / "bin" / "prometheus-node-exporter"
    assert link.resolve() == machine / "node_exporter"


def test_what_cannot_be_had_is_named_and_fails_nothing(
    machine: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program(machine, "apt-get", "exit 100")
    program(machine, "dpkg")

    assert monitoring_tools.main(tmp_path / "environment") == 0

    last = capfd.readouterr().err.splitlines()[-1]
    for package in monitoring_tools.PACKAGES:
        assert package in last


def test_unpacked_alertmanager_finds_its_templates(machine: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    share = environment / "debian" / "usr" / "share" / "prometheus" / "alertmanager"
    share.mkdir(parents=True)
    (share / "default.tmpl").write_text("words of its own")
    seen = monitoring_tools.TEMPLATES / "default.tmpl"
    program(
        environment / "debian" / "usr" / "bin", "prometheus-alertmanager", f'cat {seen}; echo "$@"'
    )
    monitoring_tools.main(environment)

    told = subprocess.run(
        [environment / "bin" / "prometheus-alertmanager", "--config.file=a b"],
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )

    if told.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(f"this machine lets no process have mounts of its own: {told.stderr}")
    assert (told.stdout, told.stderr) == ("words of its own--config.file=a b\n", "")
