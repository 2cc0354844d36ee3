"""Build backend: maturin, plus the `betanet` binary and the rules of the monitoring.

maturin leaves `[[bin]]` targets out of a wheel that holds an extension module, so the binary is
built first and laid into the wheel's data folder, from where installers put it on the PATH. So are
the alert rules, which they put below `share`.
Editable installs use cargo's `dev` profile, which the tests share, so that dependencies compile
once; wheels use `release`. `FOG_BUILD_PROFILE` names another profile for either.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import maturin
from maturin import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = Mapping[str, object] | None
SCRIPTS = Path("packaging/data/scripts")
SHARE = Path("packaging/data/data/share/fog-compute")
MONITORING = Path("monitoring")
WATCHED_BY = ("prometheus/rules/*.yml", "alertmanager/alertmanager.yml")
"""What `fog up --monitoring` hands to Prometheus and Alertmanager, in the folder before."""


def build_wheel(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    """Build the wheel with the binary inside; return its file name."""
    profile = os.environ.get("FOG_BUILD_PROFILE", "release")
    _build_binary(profile)
    lay_share()
    return str(maturin.build_wheel(directory, _with_profile(settings, profile), metadata))


def build_editable(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    """Build the wheel that points at this source tree; return its file name."""
    profile = os.environ.get("FOG_BUILD_PROFILE", "dev")
    _build_binary(profile)
    shutil.rmtree(SHARE, ignore_errors=True)  # of a wheel before; there is the checkout
    return str(maturin.build_editable(directory, _with_profile(settings, profile), metadata))


def build_sdist(directory: str, settings: Settings = None) -> str:
    """Pack the sources; return the archive's file name."""
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    SCRIPTS.mkdir(parents=True)
    return str(maturin.build_sdist(directory, settings))


def prepare_metadata_for_build_wheel(directory: str, settings: Settings = None) -> str:
    """Write the metadata; maturin wants to see its data folder by then."""
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return str(maturin.prepare_metadata_for_build_wheel(directory, settings))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def lay_share() -> None:
    """Lay into the wheel's data folder what installers put below `share`."""
    shutil.rmtree(SHARE, ignore_errors=True)
    for pattern in WATCHED_BY:
        for source in sorted(MONITORING.glob(pattern)):
            place = SHARE / source.relative_to(MONITORING)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)


def _with_profile(settings: Settings, profile: str) -> dict[str, object]:
    return {"build-args": f"--profile {profile}", **(settings or {})}


def _build_binary(profile: str) -> None:
    # The extension's package is named too, though nothing of it is built here: both then resolve to
    # one set of features, and maturin finds the dependencies compiled.
    command = ["cargo", "build", "--locked", "--package=betanet-node", "--package=betanet-py"]
    command += ["--bin=betanet"]
    command += [f"--profile={profile}", "--message-format=json-render-diagnostics"]
    if profile == "release":
        command.append("--config=profile.release.strip=true")
    try:
        built = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    except FileNotFoundError:
        sys.exit("cargo is not on the PATH: building fog-compute needs Rust 1.95 or newer")
    except subprocess.CalledProcessError as error:
        sys.exit(f"the betanet binary did not build (cargo ended with {error.returncode})")
    messages = [json.loads(line) for line in built.splitlines()]
    binary = next(Path(m["executable"]) for m in reversed(messages) if m.get("executable"))
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    fresh = SCRIPTS / ".betanet.new"
    shutil.copy2(binary, fresh)
    fresh.replace(SCRIPTS / "betanet")
