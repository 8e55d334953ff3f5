"""Write a folder of pictures to try things with: the handwritten digits of scikit-learn as JPEGs.

    python examples/pictures.py photos

It has the layout that the data set ``folder`` reads: ``photos/train/seven/0004.jpg`` and so on, a
directory for each class below ``train``, ``valid`` and ``test``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = {"train": 0.7, "valid": 0.85, "test": 1.0}  # up to which share of the shuffled images


def main(folder: Path) -> None:
    """Write 1,797 pictures of 16 x 16 pixels."""
    digits = load_digits()
    places = np.random.default_rng(0).permutation(len(digits.images)) / len(digits.images)
    for number, (image, label, place) in enumerate(
        zip(digits.images, digits.target, places, strict=True)
    ):
        split = next(name for name, until in SPLITS.items() if place < until)
        home = folder / split / NAMES[label]
        home.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((image * 15.9375).astype(np.uint8))
        grey.resize((16, 16), Image.Resampling.BICUBIC).save(home / f"{number:04}.jpg", quality=95)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "photos"))
