"""Put Prometheus, Alertmanager and the exporters where tests find them, without installing them.

Debian's packages start a daemon on every interface when they are installed, so they are only
unpacked, below the folder of the environment. That needs no rights. What cannot be had is named,
and the build goes on: the tests that need it are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "prometheus": ("prometheus", "promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager", "amtool"),
    "prometheus-node-exporter": ("prometheus-node-exporter",),
    "prometheus-postgres-exporter": ("prometheus-postgres-exporter",),
    "prometheus-redis-exporter": ("prometheus-redis-exporter",),
}
"""Debian's packages, each with the programs that are wanted of it."""

ELSEWHERE: Final[dict[str, str]] = {
    "prometheus-alertmanager": "alertmanager",
    "prometheus-node-exporter": "node_exporter",
    "prometheus-postgres-exporter": "postgres_exporter",
    "prometheus-redis-exporter": "redis_exporter",
}
"""What their makers call the programs that Debian renamed."""

TEMPLATES: Final = Path("/usr/share/prometheus/alertmanager")
"""Where Debian's Alertmanager looks for its templates, without which it does not start."""

_OWN_VIEW: Final = f"""#!/bin/sh
# Debian's Alertmanager reads its templates below /usr/share alone. An unpacked one sees another
# folder there: no other process does, and none stands between it and who started it.
set -eu
here=$(dirname "$(readlink -f "$0")")
program=$here/prometheus-alertmanager
test ! -e {TEMPLATES}/default.tmpl || exec "$program" "$@"
rights=
test "$(id -u)" = 0 || rights='--user --map-root-user'
exec unshare $rights --mount sh -euc '
    mount -t tmpfs none /usr/share
    mkdir {TEMPLATES.parent}
    ln -s "$0" {TEMPLATES}
    exec "$@"
' "$(dirname "$here")/share/prometheus/alertmanager" "$program" "$@"
"""

_NEEDED: Final = ("apt-get", "dpkg")
_SECONDS: Final = 240


def missing(folder: Path) -> list[str]:
    """The packages of which a program is neither on the path nor in `folder`, after linking."""
    lacking = []
    for package, programs in PACKAGES.items():
        for program in programs:
            link = folder / program
            if link.exists() or shutil.which(program):
                continue
            other = shutil.which(ELSEWHERE.get(program, program))
            if other is None:
                lacking.append(package)
                break
            _link(link, Path(other))
    return lacking


def unpack(packages: list[str], root: Path, folder: Path) -> None:
    """Download `packages` from the distribution, unpack them below `root`, link their programs.

    Raises:
        OSError: No such program, or the disk is full.
        subprocess.SubprocessError: The archive could not be reached, or lacks a package.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="download-") as name:
        place = Path(name)
        try:
            _apt(place, "download", *packages)
        except subprocess.CalledProcessError:
            # The machine's lists are missing or old: take lists of our own, which needs no rights.
            lists = place / "lists"
            (lists / "partial").mkdir(parents=True)
            cache = place / "cache"
            (cache / "archives" / "partial").mkdir(parents=True)
            own = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}")
            _apt(place, *own, "update")
            _apt(place, *own, "download", *packages)
        for archive in sorted(place.glob("*.deb")):
            subprocess.run(
                ["dpkg", "-x", archive, root],
                check=True,
                timeout=_SECONDS,
                stdin=subprocess.DEVNULL,
            )
    for package in packages:
        for program in PACKAGES[package]:
            _link(folder / program, root / "usr" / "bin" / program)


def furnish(root: Path, folder: Path) -> None:
    """Let an Alertmanager that was unpacked below `root` find its templates.

    Raises:
        OSError: It cannot be written.
    """
    if not (root / "usr" / "bin" / "prometheus-alertmanager").exists():
        return
    script = root / "usr" / "bin" / "prometheus-alertmanager-unpacked"
    if not script.exists() or script.read_text("utf-8") != _OWN_VIEW:
        script.write_text(_OWN_VIEW, "utf-8")
        script.chmod(0o755)
    link = folder / "prometheus-alertmanager"
    if link.resolve() != script.resolve():
        _link(link, script)


def _apt(place: Path, *words: str) -> None:
    subprocess.run(
        [
            *("apt-get", "--quiet", "--quiet", "-o", "Acquire::Retries=1"),
            # As root, apt would fetch as a user of its own, who may not write here.
            *("-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User=root", *words),
        ],
        check=True,
        cwd=place,
        timeout=_SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _link(link: Path, program: Path) -> None:
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    fresh.symlink_to(os.path.relpath(program, link.parent))
    fresh.replace(link)


def main(environment: Path) -> int:
    """Fill the environment's `bin` as far as that can be done; always 0."""
    folder = environment / "bin"
    lacking = missing(folder)
    if lacking and all(map(shutil.which, _NEEDED)):
        _say(f"Unpacking below {environment / 'debian'}, for the tests: {', '.join(lacking)}")
        try:
            unpack(lacking, environment / "debian", folder)
        except (OSError, subprocess.SubprocessError) as error:
            _say(f"That failed: {error}")
        lacking = missing(folder)
    try:
        furnish(environment / "debian", folder)
    except OSError as error:
        _say(f"The unpacked Alertmanager will not start: {error}")
    if lacking:
        names = " ".join(lacking)
        _say(f"Tests of the monitoring will be skipped: missing are {names} (packages of Debian)")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - the progress of a step of the build


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
