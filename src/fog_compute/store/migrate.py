"""Brings a database to the schema of this version when a store is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from fog_compute.errors import StoreUnusable

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run the missing migrations on an open connection.

    Raises:
        StoreUnusable: the database was written by a newer version.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    present = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(config).get_current_head()
    if present == head:
        return
    try:
        command.upgrade(config, "head")
    except CommandError as err:
        raise StoreUnusable(
            f"the database has schema {present}, which this version does not know: update"
            " fog-compute, or use another home folder"
        ) from err
