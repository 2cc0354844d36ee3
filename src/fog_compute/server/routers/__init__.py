"""One module per group of routes; each only translates between HTTP and the services."""

from __future__ import annotations
