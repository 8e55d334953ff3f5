"""A run's predictor into a store, where a service finds it without a restart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nasplatform.atomic_io import sha256
from nasplatform.errors import ConfigError
from nasplatform.service.store import NAME, PredictorStore, Version

_STATE = "state.safetensors"


@dataclass(frozen=True)
class Target:
    """Where a predictor is published: the folder of a store, and its name there."""

    store: Path
    name: str

    @classmethod
    def parse(cls, text: str, default: str) -> Self:
        """Read ``DIR`` or ``DIR:NAME``; the default name is made of letters that a name may have.

        Raises ConfigError for a name that none can have.
        """
        folder, colon, name = text.rpartition(":")
        if not colon:
            folder, name = text, re.sub(r"[^A-Za-z0-9_-]+", "-", default).strip("-_")[:64]
        if not folder or not NAME.fullmatch(name):
            raise ConfigError(
                f"--publish {text}: expected DIR or DIR:NAME, a name of letters, digits, '_' "
                f"and '-'"
            )
        return cls(Path(folder), name)


def publish_run(run: Path, target: Target) -> Version:
    """Publish the predictor of a run with its labels; the same one is not published twice.

    Raises PredictorError where the run kept none.
    """
    store = PredictorStore(target.store)
    state = run / "predictor" / _STATE
    if target.name in store.names() and state.is_file():
        latest = store.find(target.name)
        if latest.facts.files.get(_STATE) == sha256(state):
            return latest
    return store.publish_folder(target.name, run)
