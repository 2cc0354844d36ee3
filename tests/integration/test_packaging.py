"""Every way to install gives the same three things: the two commands and the packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

EMPTY: Mapping[str, str] = MappingProxyType({})
RULES = "prometheus/rules"
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] = EMPTY) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr[-4000:]}"
    return done.stdout


def assert_works(scripts: Path, cwd: Path) -> None:
    code = (
        "import betanet, importlib.metadata as m\n"
        "print(betanet.__version__, m.version('fog-compute'))"
    )
    version = run(scripts / "python", "-c", code, cwd=cwd).split()
    assert version[0] == version[1]
    assert run(scripts / "betanet", "--version", cwd=cwd).strip() == f"betanet {version[0]}"
    assert version[0] in run(scripts / "fog", "--version", cwd=cwd)


def test_what_is_installed_here_works(tmp_path: Path) -> None:
    assert_works(Path(sys.executable).parent, tmp_path)


def test_a_missing_core_says_how_to_build_it(tmp_path: Path) -> None:
    source = Path(ROOT, "src", "betanet", "__init__.py")
    package = tmp_path / "betanet"
    package.mkdir()
    (package / "__init__.py").write_text(source.read_text())
    done = subprocess.run(
        [sys.executable, "-c", "import betanet"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make build" in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, and nothing else."""
    folder = tmp_path_factory.mktemp("clone") / "fog-compute"
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def quickly() -> dict[str, str]:
    """Settings that compile little: the tests' own profile, and what is compiled already."""
    return {
        "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target")),
        "FOG_BUILD_PROFILE": "dev",
        "UV_SYSTEM_CERTS": "1",
    }


def uv() -> Path:
    return Path(sys.executable).parent / "uv"


# These three reach the package registry for what fog-compute depends on.


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_clone_installs_editable_with_pip(
    clone: Path, quickly: dict[str, str], tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    run(scripts / "python", "-m", "pip", "install", "--quiet", "-e", clone, env=quickly)
    assert_works(scripts, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_clone_installs_editable_with_uv(
    clone: Path, quickly: dict[str, str], tmp_path: Path
) -> None:
    run(uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    run(uv(), "pip", "install", "--quiet", "--python", scripts / "python", "-e", clone, env=quickly)
    assert_works(scripts, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_source_archive_becomes_a_wheel_that_installs_alone(
    clone: Path, quickly: dict[str, str], tmp_path: Path
) -> None:
    run(uv(), "build", "--quiet", "--sdist", "--out-dir", tmp_path, clone, env=quickly)
    (archive,) = tmp_path.glob("*.tar.gz")
    run(uv(), "build", "--quiet", "--wheel", "--out-dir", tmp_path, archive, env=quickly)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name
    run(uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    run(uv(), "pip", "install", "--quiet", "--python", scripts / "python", wheel, env=quickly)
    assert_works(scripts, tmp_path)
    share = scripts.parent / "share" / "fog-compute"
    code = "from fog_compute.cli.monitoring import programs as p; print(p.find_share(p.RULES))"
    assert run(scripts / "python", "-c", code, cwd=tmp_path).strip() == str(share / RULES)
    assert (share / RULES / "fog.yml").is_file()
    assert (share / "alertmanager" / "alertmanager.yml").is_file()
    code = "from fog_compute.server.panel import files; print(*files.load(files.STATIC))"
    assert "/assets/panel.css" in run(scripts / "python", "-c", code, cwd=tmp_path).split()
