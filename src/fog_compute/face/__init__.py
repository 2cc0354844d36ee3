"""The Python face: tasks of a fog from Python, for event loops and for whoever may wait.

What is public is in `fog_compute` itself.
"""

from __future__ import annotations
