"""Fog computing over a mixnet: run a computation on other people's idle machines privately.

`connect` is the way in: ``async with fog_compute.connect() as fog: await fog.run("job.py")``; and
`connect_blocking` the same for whoever may wait, as in a notebook.

Layers, high to low, imports only downwards: ``cli | face | server`` →
``client | coordinator | worker | p2p`` → ``store`` → ``tasks | vpn`` → ``betanet``.
``observability``, ``errors``, ``config``, ``clock`` and ``units`` are leaves. Importing this
package imports none of them: what it shows is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fog_compute.exports import load_export

if TYPE_CHECKING:
    from fog_compute.errors import (
        BackendError,
        ConfigError,
        FogError,
        FolderUnusable,
        HomeUnusable,
        InvalidTask,
        NotFound,
        NotReady,
        NotRunning,
        NoWorker,
        PrivacyUnavailable,
        ServiceUnavailable,
        Unauthorised,
        Unreadable,
    )
    from fog_compute.face.blocking import (
        BlockingFog,
        BlockingPeople,
        BlockingResult,
        BlockingTask,
        connect_blocking,
    )
    from fog_compute.face.describing import MapOptions, TaskOptions
    from fog_compute.face.failures import FogWarning, StillRunning, TaskCancelled, TaskFailed
    from fog_compute.face.fog import Fog, Task, connect
    from fog_compute.face.people import ChatMessage, NotDelivered, People, Person
    from fog_compute.face.records import (
        Attempt,
        EdgeUse,
        ExcludedNode,
        FogStatus,
        Node,
        OutputFile,
        Progress,
        TaskStatus,
        Worker,
    )
    from fog_compute.face.results import Result
    from fog_compute.levels import PrivacyLevel
    from fog_compute.strategies import Strategy

__all__ = [
    "Attempt",
    "BackendError",
    "BlockingFog",
    "BlockingPeople",
    "BlockingResult",
    "BlockingTask",
    "ChatMessage",
    "ConfigError",
    "EdgeUse",
    "ExcludedNode",
    "Fog",
    "FogError",
    "FogStatus",
    "FogWarning",
    "FolderUnusable",
    "HomeUnusable",
    "InvalidTask",
    "MapOptions",
    "NoWorker",
    "Node",
    "NotDelivered",
    "NotFound",
    "NotReady",
    "NotRunning",
    "OutputFile",
    "People",
    "Person",
    "PrivacyLevel",
    "PrivacyUnavailable",
    "Progress",
    "Result",
    "ServiceUnavailable",
    "StillRunning",
    "Strategy",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskOptions",
    "TaskStatus",
    "Unauthorised",
    "Unreadable",
    "Worker",
    "__version__",
    "connect",
    "connect_blocking",
]

__version__ = "0.1.0"

_MODULES: Final = (
    "errors",
    "levels",
    "strategies",
    "face.failures",
    "face.records",
    "face.results",
    "face.describing",
    "face.people",
    "face.fog",
    "face.blocking",
)
"""Where public names are from; the light ones first."""


def __getattr__(name: str) -> object:
    """Import what is public when it is first used."""
    return load_export(__name__, _MODULES, name, globals())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
