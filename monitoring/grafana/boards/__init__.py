"""The dashboards as code: ``python -m monitoring.grafana.boards`` writes them as JSON.

One module for each dashboard, of ``shapes`` in a ``frame``.
"""
