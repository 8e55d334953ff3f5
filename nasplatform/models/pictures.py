"""A trained network on pictures: files in, names of classes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from nasplatform.complaints import shortened
from nasplatform.errors import DataError, NetworkError
from nasplatform.foreign import path_of, require_list
from nasplatform.models.network import Network
from nasplatform.training.decoding import large_images, read_image

Images = NDArray[np.float32]
_BATCH = 64
_WHITE = 255.0


def classify(network: Network, files: Iterable[Path | str]) -> pd.DataFrame:
    """Return what a network sees in picture files; see ``classify_by``."""
    if not isinstance(network, Network):
        raise NetworkError(f"expected a network, by Network.load, got {shortened(network)}")

    def logits(images: Images) -> Images:
        with torch.no_grad():
            made: Images = network.module.eval()(torch.from_numpy(images)).numpy()
        return made

    return classify_by(logits, network.structure.input, files)


def classify_by(
    run: Callable[[Images], Images], known: Mapping[str, Any] | None, files: Iterable[Path | str]
) -> pd.DataFrame:
    """Return what whatever computes a network sees in picture files, a row for each.

    run:   images (B, c, h, w) -> logits (B, K); known: as ``Structure.input`` says it.

    Columns: ``file``; ``class``, its name, or its number where classes have no names;
    ``probability``, the softmax of its logit; ``error``, why a file could not be read, else None.
    A picture is turned as its EXIF says, resized to the network's input and standardised as its
    training images were. Raises NetworkError for a network that does not know its input, or was
    trained on arrays of which no white is known.
    """
    require_list(files, DataError, "picture files")
    shape, names, scale = _facts(known)
    rows: list[dict[str, Any]] = []
    for batch in _batches([path_of(file, DataError) for file in files]):
        pixels, errors = _read(batch, shape)
        found = iter(_probabilities(run, (pixels / _WHITE * scale[2] - scale[0]) / scale[1]))
        for file, error in zip(batch, errors, strict=True):
            likely = None if error else next(found)
            rows.append(
                {
                    "file": str(file),
                    "class": None if likely is None else names[int(likely.argmax())],
                    "probability": np.nan if likely is None else float(likely.max()),
                    "error": error,
                }
            )
    return pd.DataFrame(rows, columns=["file", "class", "probability", "error"])


_Scale = tuple[NDArray[np.float64], NDArray[np.float64], float]


def _facts(
    known: Mapping[str, Any] | None,
) -> tuple[tuple[int, int, int], Sequence[Any], _Scale]:
    """Return shape of the input, class names, and mean, std and white of the raw images."""
    if known is None:
        raise NetworkError("the network does not say what images it is for: train it on a task")
    if known.get("white") is None:
        raise NetworkError(
            f"the network was trained on {known.get('task', 'arrays')}, which is not pictures of 8 "
            f"bits: give it arrays, standardised by the mean and std of its structure.json"
        )
    channels, height, width = known["shape"]
    if channels not in (1, 3):
        raise NetworkError(f"the network takes {channels} channels, a picture has 1 or 3")
    mean, std = (np.array(known[name])[:, None, None] for name in ("mean", "std"))
    names = known.get("class_names") or range(known["classes"])
    return (channels, height, width), names, (mean, std, float(known["white"]))


def _batches(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    return (files[start : start + _BATCH] for start in range(0, len(files), _BATCH))


def _read(
    files: Sequence[Path], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], list[str | None]]:
    """Return the pixels (n, c, h, w) of the files that could be read, and why each could not."""
    good, errors = [np.empty((0, *shape), np.uint8)], list[str | None]()
    with large_images():
        for file in files:
            try:
                good.append(read_image(file, shape[1:], grey=shape[0] == 1)[None])
                errors.append(None)
            except DataError as error:
                errors.append(str(error))
    return np.concatenate(good), errors


def _probabilities(run: Callable[[Images], Images], images: NDArray[np.float64]) -> Images:
    if not len(images):
        return np.empty((0, 1), np.float32)
    found: Images = softmax(run(images.astype(np.float32)), axis=1)
    return found
