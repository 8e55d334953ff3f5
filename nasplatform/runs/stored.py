"""Runs of which only the database is at hand: what their workers share, without a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nasplatform.complaints import explain
from nasplatform.errors import RunError
from nasplatform.executors.store.searches import stored_searches
from nasplatform.passwords import without_password
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.resolved import ResolvedSearch


@dataclass(frozen=True)
class StoredRun(RunFolder):
    """A search in a storage, read as a folder in which nothing was written yet.

    storage: the URL.
    values:  its file as resolved; None where none of its workers told it.
    """

    storage: str
    values: Mapping[str, Any] | None

    @property
    def contacted(self) -> bool:
        """Whether its database was named by who reads it."""
        return True

    def read(self) -> ResolvedSearch:
        """Return the file of the search; raise RunError where there is none of this version."""
        if self.values is None:
            raise RunError(f"{self.path}: none of its workers told its file")
        try:
            found = ResolvedSearch.model_validate(self.values)
        except ValidationError as error:
            words = explain(error, ResolvedSearch, "", dict(self.values))
            raise RunError(f"{self.path}: not of this version ({words})") from None
        return found.model_copy(update={"storage": self.storage})


def stored_runs(storage: str) -> list[StoredRun]:
    """Return the searches of a storage, by name; RunError where it holds none."""
    where = without_password(storage)
    found = stored_searches(storage)
    if not found:
        raise RunError(f"{where}: holds no search")
    return [StoredRun(Path(where) / name, storage, values) for name, values in found.items()]
