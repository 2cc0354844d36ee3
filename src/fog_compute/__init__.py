"""Fog computing over a mixnet: run a computation on other people's idle machines privately.

Layers, high to low, imports only downwards: ``cli | server`` → ``client | coordinator | worker`` →
``store`` → ``tasks | vpn`` → ``betanet``. ``observability``, ``errors``, ``config``, ``clock`` and
``units`` are leaves. Importing this package imports none of them.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
