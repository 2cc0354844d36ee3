"""Every way to install gives the same three things: the two commands and the packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr[-4000:]}"
    return done.stdout


def assert_works(scripts: Path, cwd: Path) -> None:
    version = run(
        scripts / "python",
        "-c",
        "import betanet, importlib.metadata as m; print(betanet.__version__, m.version('fog-compute'))",
        cwd=cwd,
    ).split()
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
    """Compile without optimisation for size of the wheel, and what is compiled already not again."""
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
    run(scripts / "python", "-m", "pip", "install", "--quiet", "-e", clone, **quickly)
    assert_works(scripts, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_clone_installs_editable_with_uv(
    clone: Path, quickly: dict[str, str], tmp_path: Path
) -> None:
    run(uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    run(uv(), "pip", "install", "--quiet", "--python", scripts / "python", "-e", clone, **quickly)
    assert_works(scripts, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_source_archive_becomes_a_wheel_that_installs_alone(
    clone: Path, quickly: dict[str, str], tmp_path: Path
) -> None:
    run(uv(), "build", "--quiet", "--sdist", "--out-dir", tmp_path, clone, **quickly)
    (archive,) = tmp_path.glob("*.tar.gz")
    run(uv(), "build", "--quiet", "--wheel", "--out-dir", tmp_path, archive, **quickly)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name
    run(uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    run(uv(), "pip", "install", "--quiet", "--python", scripts / "python", wheel, **quickly)
    assert_works(scripts, tmp_path)
