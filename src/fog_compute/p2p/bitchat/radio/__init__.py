"""Bluetooth drivers: what moves bytes between two machines near each other, and knows no packet."""
