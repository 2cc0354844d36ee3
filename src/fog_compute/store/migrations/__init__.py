"""Alembic migrations; `fog_compute.store.migrate` runs them when a store is opened."""
