"""Alembic's entry point: migrates the connection that the caller put into the configuration."""

from __future__ import annotations

from alembic import context

from fog_compute.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
