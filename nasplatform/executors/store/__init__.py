"""The truth about measurements: which were made, and who is making which.

The store stands below the search, beside the executors: whoever makes a measurement claims it
here first, be it a search on one machine, a worker on another, or a service.
"""

from __future__ import annotations

from nasplatform.executors.store.base import Busy, Claim, EvaluationKey, EvaluationStore
from nasplatform.executors.store.leases import LeaseKeeper
from nasplatform.executors.store.opening import open_store
from nasplatform.executors.store.outage import StorageAwayError, patiently
from nasplatform.executors.store.sql import SQLEvaluationStore
from nasplatform.executors.store.unsent import Unsent

__all__ = [
    "Busy",
    "Claim",
    "EvaluationKey",
    "EvaluationStore",
    "LeaseKeeper",
    "SQLEvaluationStore",
    "StorageAwayError",
    "Unsent",
    "open_store",
    "patiently",
]
