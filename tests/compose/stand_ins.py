"""Base images from Debian's packages, under the tags of the real ones.

Where no registry answers, they show that the files are wired right: users, folders, health, order.
They do not show that the real images are as they are thought to be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.compose.merged import ROOT

SUITE: Final = "bookworm"
PACKAGES: Final = (
    "binutils",
    "busybox",
    "ca-certificates",
    "gcc",
    "libc6-dev",
    "postgresql-15",
    "prometheus",
    "prometheus-alertmanager",
    "prometheus-node-exporter",
    "prometheus-postgres-exporter",
    "prometheus-redis-exporter",
    "python3-venv",
    "redis-server",
)
BASE: Final = "fog-stand-in:latest"
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
_BIN: Final = {
    "alertmanager": "prometheus-alertmanager",
    "node_exporter": "prometheus-node-exporter",
    "postgres_exporter": "prometheus-postgres-exporter",
    "redis_exporter": "prometheus-redis-exporter",
}

ENTRYPOINTS: Final = {
    "debian": "",
    "python": "",
    "rust": "",
    "postgres": '["docker-entrypoint.sh"]',
    "redis": "",
    "prometheuscommunity/postgres-exporter": '["/bin/postgres_exporter"]',
    "oliver006/redis_exporter": '["/bin/redis_exporter"]',
    "prom/node-exporter": '["/bin/node_exporter"]',
    "prom/prometheus": '["/bin/prometheus"]',
    "prom/alertmanager": '["/bin/alertmanager"]',
}
"""What Debian can stand in for, and what each of these runs."""

# What the real images have, and these lack: names, users, owners of folders.
_CUSTOMISE: Final = r"""
set -eu
for link in %(links)s; do
    ln -sf "/usr/bin/${link#*=}" "/bin/${link%%=*}"
done
ln -sf busybox /bin/wget
ln -sf python3 /usr/bin/python
for name in pg_isready postgres initdb psql; do
    ln -sf "/usr/lib/postgresql/15/bin/$name" "/usr/bin/$name"
done
user=$(getent passwd 999 | cut -d: -f1)
[ -z "$user" ] || userdel "$user"
group=$(getent group 999 | cut -d: -f1)
[ -z "$group" ] || groupdel "$group"
groupadd --gid 999 service
useradd --uid 999 --gid 999 --no-create-home --home-dir /var/lib/postgresql service
rm -rf /var/lib/postgresql /var/lib/prometheus
install -d -o 999 -g 999 -m 0700 /var/lib/postgresql/data
install -d -o 65534 -g 65534 /prometheus /alertmanager
install -d /etc/prometheus/rules /etc/alertmanager
"""

_POSTGRES: Final = """#!/bin/sh
# As the real image does it: a database is made once, and reached by its password alone.
set -eu
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
    file=$(mktemp)
    printf %s "$POSTGRES_PASSWORD" >"$file"
    initdb --pgdata="$data" --username="$POSTGRES_USER" --pwfile="$file" --auth-local=trust \\
        --auth-host=scram-sha-256 --locale=C.UTF-8 >/dev/null
    rm "$file"
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB;" | postgres --single -D "$data" postgres >/dev/null
fi
exec "$@" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
"""


def make(images: Sequence[str], folder: Path, docker: Callable[..., str]) -> None:
    """Make what the engine lacks of `images`; one root file system is kept in `folder` for all.

    Args:
        images: names with tags, each of a repository in `ENTRYPOINTS`.
        folder: where the archive lies, and stays.
        docker: runs a command of the engine, and returns what it prints.
    """
    have = set(docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    lacking = [image for image in images if image not in have]
    if not lacking:
        return
    base = folder / "base.tar"
    if not base.exists():
        _bootstrap(base)
    if BASE not in have:
        docker("import", str(base), BASE)
    for image in lacking:
        repository = image.partition(":")[0]
        entry = ENTRYPOINTS[repository]
        lines = [f"FROM {BASE}", f"ENV PIP_CERT={CERTIFICATES} SSL_CERT_FILE={CERTIFICATES}"]
        lines += [f"ENTRYPOINT {entry}"] if entry else []
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            if repository == "rust":
                lines += _toolchain(place)
            (place / "Dockerfile").write_text("\n".join(lines))
            docker("build", "--tag", image, str(place))


def _bootstrap(archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    links = " ".join(f"{name}={program}" for name, program in _BIN.items())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        script, entry = place / "customise", place / "docker-entrypoint.sh"
        script.write_text(_CUSTOMISE % {"links": links})
        entry.write_text(_POSTGRES)
        entry.chmod(0o755)
        fresh = archive.with_name("fresh.tar")
        subprocess.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                f"--customize-hook=copy-in {entry} /usr/local/bin",
                f"--customize-hook=copy-in {script} /usr/local/bin",
                '--customize-hook=chroot "$1" sh /usr/local/bin/customise',
                # Whatever stands between this machine and the registries is trusted in there, too.
                f"--customize-hook=upload {CERTIFICATES} {CERTIFICATES}",
                SUITE,
                str(fresh),
            ],
            check=True,
        )
        fresh.replace(archive)


def _toolchain(place: Path) -> list[str]:
    """This machine's Rust, and the sources that it has downloaded, as lines of a Dockerfile."""
    root = Path(
        subprocess.run(
            ["rustc", "--print", "sysroot"], capture_output=True, check=True, text=True, cwd=ROOT
        ).stdout.strip()
    )
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    skip = shutil.ignore_patterns("doc", "man", "src", "etc")
    shutil.copytree(root, place / "rust", symlinks=True, ignore=skip)
    (place / "cargo").mkdir()
    for part in ("cache", "index"):
        if (cargo / "registry" / part).is_dir():
            shutil.copytree(cargo / "registry" / part, place / "cargo" / "registry" / part)
    return [
        "COPY rust /usr/local/rust",
        "COPY cargo /usr/local/cargo",
        "ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/rust/bin:$PATH",
    ]
