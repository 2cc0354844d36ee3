"""What survives a restart: tasks, attempts, results, history, statistics and blobs.

Only the backend process opens a store.  All changes go through one writer; see `Store.apply`.
"""

from fog_compute.store.blobs import BlobStore
from fog_compute.store.changes import (
    Accept,
    Cancel,
    Change,
    Conflict,
    Decline,
    Fail,
    Hold,
    Lease,
    LevelDelta,
    Renew,
    Report,
    Retry,
    Start,
)
from fog_compute.store.repositories import (
    Attempts,
    Events,
    Results,
    Statistics,
    StoredResult,
    TaskEventRecord,
    Tasks,
)
from fog_compute.store.store import Store, Swept

__all__ = [
    "Accept",
    "Attempts",
    "BlobStore",
    "Cancel",
    "Change",
    "Conflict",
    "Decline",
    "Events",
    "Fail",
    "Hold",
    "Lease",
    "LevelDelta",
    "Renew",
    "Report",
    "Results",
    "Retry",
    "Start",
    "Statistics",
    "Store",
    "StoredResult",
    "Swept",
    "TaskEventRecord",
    "Tasks",
]
