"""The backend: tasks over HTTP on the loopback interface, and the services behind them."""

from __future__ import annotations
