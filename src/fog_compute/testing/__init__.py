"""Public fakes for tests and examples; the product never imports them."""

from fog_compute.testing.channel import MemoryChannel, MemoryNetwork
from fog_compute.testing.clock import ManualClock

__all__ = ["ManualClock", "MemoryChannel", "MemoryNetwork"]
