"""What survives a restart: tasks, attempts, results, history, statistics and blobs.

Only the backend process opens a store.  All changes go through one writer; see `Store.apply`.
"""

from fog_compute.store.attempts import Attempts
from fog_compute.store.blobs import BlobStore
from fog_compute.store.changes import (
    Cancelled,
    Change,
    Conflict,
    Declined,
    Failed,
    Held,
    Leased,
    LevelDelta,
    Parked,
    Reported,
    Retried,
    Settled,
    Started,
    Written,
)
from fog_compute.store.damage import Damaged, RowDamaged
from fog_compute.store.events import Events, TaskEventRecord
from fog_compute.store.keys import ApiKey, Keys, LiveKeys, Login
from fog_compute.store.results import Results, StoredResult
from fog_compute.store.statistics import Statistics
from fog_compute.store.store import Store, Swept
from fog_compute.store.tasks import Need, Room, Tasks

__all__ = [
    "ApiKey",
    "Attempts",
    "BlobStore",
    "Cancelled",
    "Change",
    "Conflict",
    "Damaged",
    "Declined",
    "Events",
    "Failed",
    "Held",
    "Keys",
    "Leased",
    "LevelDelta",
    "LiveKeys",
    "Login",
    "Need",
    "Parked",
    "Reported",
    "Results",
    "Retried",
    "Room",
    "RowDamaged",
    "Settled",
    "Started",
    "Statistics",
    "Store",
    "StoredResult",
    "Swept",
    "TaskEventRecord",
    "Tasks",
    "Written",
]
