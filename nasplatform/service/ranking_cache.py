"""Rankings of whole spaces on disk, so that a restart need not score a space again.

    STORE/NAME/.views/NUMBER-FINGERPRINT.npz

The fingerprint is taken of everything that the numbers depend on: the files of the version, the
space, the architectures and their order, and the libraries. A file of another fingerprint is
never read; one that is torn, or cannot be written, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from nasplatform.atomic_io import replace_file, sha256
from nasplatform.foreign import require_regular
from nasplatform.service.space_ranking import Reference, SpaceRanking
from nasplatform.service.store import Version
from nasplatform.spaces.base import Space

_COLUMNS = {"mean": np.float64, "std": np.float64, "params": np.int64, "flops": np.int64}
_FILES = ("card.json", "state.safetensors")
_LIBRARIES = ("nasplatform", "numpy", "scipy", "torch")
_VERSIONS = 2  # of a name whose rankings are kept
_DEAD = 3600  # seconds after which nobody writes a file any more


def load(
    home: Path, version: Version, space: Space[Any], reference: Reference
) -> SpaceRanking | None:
    """Return the ranking that ``save`` wrote, or None where there is none that can be used.

    home: the folder of the predictor's name.
    """
    path = _path(home, version, space, reference)
    try:
        require_regular(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = [file[name] for name in _COLUMNS]  # each with its checksum
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    shape = (len(reference.population),)
    right = [
        array.shape == shape and array.dtype == kind
        for array, kind in zip(arrays, _COLUMNS.values(), strict=True)
    ]
    return SpaceRanking(reference, *arrays) if all(right) else None


def save(home: Path, version: Version, space: Space[Any], ranking: SpaceRanking) -> None:
    """Write a complete ranking; remove those of older versions. Raises OSError."""
    path = _path(home, version, space, ranking.reference)
    path.parent.mkdir(exist_ok=True)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: getattr(ranking, name) for name in _COLUMNS})
    for other in path.parent.iterdir():
        if other != path and _is_left_over(other, version.number):
            other.unlink(missing_ok=True)


def _is_left_over(path: Path, latest: int) -> bool:
    """Return whether a file is of an older version, another fingerprint, or a dead writer."""
    if path.name.startswith("."):
        return time.time() - path.stat().st_mtime > _DEAD
    number = path.name.partition("-")[0]
    return number == str(latest) or (number.isdecimal() and int(number) <= latest - _VERSIONS)


def _path(home: Path, version: Version, space: Space[Any], reference: Reference) -> Path:
    codes = np.ascontiguousarray(reference.population.codes, "<u8")
    facts = {
        "files": [sha256(version.folder / file) for file in _FILES],
        "space": space.describe(),
        "codes": hashlib.sha256(codes.tobytes()).hexdigest(),
        "libraries": [metadata.version(name) for name in _LIBRARIES],
    }
    text = json.dumps(facts, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:32]
    return home / ".views" / f"{version.number}-{fingerprint}.npz"
