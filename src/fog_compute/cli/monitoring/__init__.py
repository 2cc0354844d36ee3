"""Prometheus and Alertmanager beside a fog: the system's programs, on loopback."""
