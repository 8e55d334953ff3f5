"""A task and a network that are small enough for tests: a training epoch takes milliseconds."""

from __future__ import annotations

import numpy as np

from nasplatform.models.network import Network
from nasplatform.spaces import get_space
from nasplatform.training.image_store import Raw
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.task import Labels, Task

CLASSES, SIDE = 3, 8


def tiny_task(seed: int = 0) -> Task:
    """Return three classes of noisy 1 x 8 x 8 patterns: 48 train, 30 valid, 30 test images."""
    rng = np.random.Generator(np.random.PCG64(seed))
    patterns = rng.integers(0, 200, size=(CLASSES, 1, SIDE, SIDE))

    def draw(count: int) -> tuple[Raw, Labels]:
        labels = np.arange(count, dtype=np.int64) % CLASSES
        return patterns[labels] + rng.integers(0, 200, size=(count, 1, SIDE, SIDE)), labels

    splits = [draw(48), draw(30), draw(30)]
    return standardised_task("tiny", splits, "tiny", unlabelled=draw(24)[0])


def tiny_network(seed: int = 0) -> Network:
    """Return an untrained NAS-Bench-101 network with both kinds of convolution and a pooling."""
    space = get_space(
        "nasbench101",
        stem_channels=4,
        modules_per_stack=1,
        input_shape=(1, SIDE, SIDE),
        classes=CLASSES,
    )
    return Network.of(space, space.parse("[3M1]1011/110/01/1"), seed)


def tiny_transformer(seed: int = 0) -> Network:
    """Return an untrained transformer of two layers, 16 tokens and a class token."""
    space = get_space("vit", subspace="digits", input_shape=(1, SIDE, SIDE), classes=CLASSES)
    text = "class+tokens1/conv2s2+w16+learned:h2w16-mlp2,h2w16-reduction2-mlpconv1"
    return Network.of(space, space.parse(text), seed)
