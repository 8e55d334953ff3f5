"""Keeps the leases of measurements that are being made."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Self

from nasplatform.executors.store.base import Claim, EvaluationStore
from nasplatform.executors.store.outage import StorageAwayError

_BEATS = 3  # in each lease, so that one may be missed


class LeaseKeeper:
    """Prolongs leases from a thread of its own, while the measurements take what time they take.

    It says as well that the worker lives. A beat that the database does not answer is left out.

    Used as a context manager; a claim that is still held at the end is released, so that others
    need not wait for its lease.
    """

    def __init__(self, store: EvaluationStore, ttl: float) -> None:
        """Take the store and the seconds for which each lease holds."""
        self._store = store
        self._pause = ttl / _BEATS
        self._claims: set[Claim] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def hold(self, claim: Claim) -> None:
        """Prolong this lease from now on."""
        self._claims.add(claim)

    def drop(self, claim: Claim) -> None:
        """Let this lease be: its measurement has ended."""
        self._claims.discard(claim)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with suppress(StorageAwayError):  # then the leases run out
            while self._claims:
                self._store.release(self._claims.pop())

    def _beat(self) -> None:
        while not self._over.wait(self._pause):
            with suppress(StorageAwayError):
                self._store.alive()
                for claim in list(self._claims):
                    if not self._store.heartbeat(claim):
                        self._claims.discard(claim)  # another has it; its maker will be told
