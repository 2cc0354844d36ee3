"""Brings a database to the schema of this version when a store is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from fog_compute.errors import StoreUnusable

HEAD: Final = "0015"
"""The newest migration."""

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run the missing migrations on an open connection.

    Raises:
        StoreUnusable: the database was written by a newer version.
    """
    present = revision(connection)
    if present == HEAD:
        return
    # Half a second of a processor, which no backend needs that comes back to its own database.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as err:
        raise StoreUnusable(
            f"the database has the schema {present} of a newer version, and this one knows those"
            f" up to {HEAD}: update fog-compute, or use another home folder"
        ) from err


def known() -> frozenset[str]:
    """The migrations that this version has."""
    return frozenset(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*_*.py"))


def revision(connection: Connection) -> str | None:
    """The migration that a database has, or None if it is new."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)
