"""What was measured and paid for while the database was away, kept on disk until it is back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nasplatform.atomic_io import write_text
from nasplatform.evaluators.base import Evaluation
from nasplatform.executors.store.base import Claim, EvaluationKey
from nasplatform.passwords import without_password


class Unsent:
    """A folder with one JSON file per measurement that the store does not have yet."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made when there is something to keep."""
        self._folder = folder

    @classmethod
    def of_user(cls, storage: str) -> Unsent:
        """Return the folder that this user has on this machine for a storage URL."""
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        name = hashlib.sha256(without_password(storage).encode()).hexdigest()[:16]
        return cls(home / "nasplatform" / "unsent" / name)

    def keep(self, claim: Claim, evaluation: Evaluation) -> None:
        """Write a measurement down."""
        self._folder.mkdir(parents=True, exist_ok=True)
        values = {"claim": asdict(claim), "evaluation": asdict(evaluation)}
        write_text(self._file(claim), json.dumps(values))

    def drop(self, claim: Claim) -> None:
        """Forget a measurement: the store has it, or another's."""
        self._file(claim).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[Claim, Evaluation]]:
        """Yield what is kept; a file that cannot be read is left where it is."""
        for file in sorted(self._folder.glob("*.json")):
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                key = EvaluationKey(**found["claim"].pop("key"))
                yield Claim(key=key, **found["claim"]), Evaluation(**found["evaluation"])
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue

    def _file(self, claim: Claim) -> Path:
        return self._folder / f"{claim.key.digest}-{claim.attempt}.json"
