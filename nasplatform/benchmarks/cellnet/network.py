"""What networks of all kinds of cells share: images, parameters, training, learning curve."""

import functools
import hashlib
import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks.cellnet.build import kernel
from nasplatform.benchmarks.cellnet.recipe import BATCH, Recipe, learning_rates

Float32 = NDArray[np.float32]
Layout = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Images:
    """One split: images (n, channels, height, width) float32 and labels (n,) int64.

    The kernel's layouts are made on first use and kept, so pass the same object for every
    network; do not change the arrays afterwards.
    """

    images: Float32
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse arrays of other shapes."""
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images of shape {self.images.shape} with labels of shape {self.labels.shape}; "
                "(n, channels, height, width) and (n,) are needed"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @functools.cached_property
    def rows(self) -> Float32:
        """Images (n, channels, height, width), contiguous."""
        return np.ascontiguousarray(self.images, dtype=np.float32)

    @functools.cached_property
    def labels32(self) -> NDArray[np.int32]:
        """Labels (n,), contiguous."""
        return np.ascontiguousarray(self.labels, dtype=np.int32)

    @functools.cached_property
    def blocks(self) -> Float32:
        """Images (blocks, channels, height, width, 64), the last block filled up with zeros."""
        count = len(self.images)
        number = -(-count // BATCH)
        padded = np.zeros((number * BATCH, *self.shape), dtype=np.float32)
        padded[:count] = self.images
        moved = np.moveaxis(padded.reshape(number, BATCH, *self.shape), 1, -1)
        room = np.empty(moved.size + 16, dtype=np.float32)
        start = -room.ctypes.data % 64 // 4
        aligned = room[start : start + moved.size].reshape(moved.shape)
        aligned[...] = moved
        return aligned


@dataclass(frozen=True)
class LearningCurve:
    """Learning curve of one training run; E is the number of evaluations."""

    epochs: NDArray[np.int64]
    """(E,) epochs after which the network was evaluated."""
    train_loss: NDArray[np.float64]
    """(E,) mean cross-entropy over the batches of that epoch, in nats."""
    valid_correct: NDArray[np.int64]
    """(E,) correctly classified validation images."""
    test_correct: NDArray[np.int64]
    """(E,) correctly classified test images."""
    seconds: NDArray[np.float64]
    """(E,) CPU seconds of training up to there, evaluations left out."""


def initial_parameters(layout: Layout, generator: np.random.Generator) -> Float32:
    """Flat initial parameters.

    Convolutions normal with standard deviation sqrt(2 / (k k out)), classifier weights with
    0.01, batch-norm scales 1, shifts and biases 0.
    """
    parts: list[Float32] = []
    for name, shape in layout:
        size = math.prod(shape)
        if name.endswith(".weight"):
            sd = 0.01 if len(shape) == 2 else math.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))
            parts.append((generator.standard_normal(size) * sd).astype(np.float32))
        else:
            parts.append(np.full(size, name.endswith(".scale"), dtype=np.float32))
    return np.concatenate(parts)


class Network:
    """A network in the kernel: parameters, gradients, momentum and running statistics."""

    _handle: int | None = None

    def __init__(
        self, handle: int | None, layout: Layout, shape: tuple[int, int, int], recipe: Recipe
    ) -> None:
        """Take what the kernel made; shape: channels, height, width of the images.

        Parameters start at 0. Raises ValueError when the kernel refused to make the network.
        """
        if handle is None:
            raise ValueError(f"images of shape {shape} are too small for {recipe.stacks} stacks")
        self._kernel = kernel()
        self._handle = handle
        self.layout = layout
        self.recipe = recipe
        self.shape = shape
        self.size = int(self._kernel.cellnet_nparams(self._handle))
        if self.size != sum(math.prod(part) for _, part in self.layout):
            raise AssertionError("the kernel's parameter layout is not the layout given")

    def __del__(self) -> None:
        """Give the kernel's memory back."""
        if self._handle is not None:
            self._kernel.cellnet_free(self._handle)
            self._handle = None

    def set_parameters(self, parameters: Float32) -> None:
        """Set all parameters, flat; momentum and running statistics start afresh."""
        if parameters.shape != (self.size,):
            raise ValueError(f"parameters of shape {parameters.shape}, not ({self.size},)")
        flat = np.ascontiguousarray(parameters, dtype=np.float32)
        self._kernel.cellnet_set_params(self._handle, flat.ctypes.data)

    def state(self) -> tuple[Float32, Float32, Float32]:
        """Flat parameters, gradients of the last batch, and running statistics.

        Statistics: per convolution in the parameters' order (a cell's projections count as one)
        the running means, then the running variances.
        """
        parameters, gradients = np.empty((2, self.size), dtype=np.float32)
        statistics = np.empty(self._kernel.cellnet_nstats(self._handle), dtype=np.float32)
        self._kernel.cellnet_get(
            self._handle, parameters.ctypes.data, gradients.ctypes.data, statistics.ctypes.data
        )
        return parameters, gradients, statistics

    def logits(self, batch: Images, *, training: bool) -> Float32:
        """Logits (64, classes) of 64 images, with the batch's or the running statistics."""
        return self._batch(batch, training=training, gradients=False)[0]

    def loss_and_gradients(self, batch: Images) -> tuple[Float32, float]:
        """Logits (64, classes) and mean cross-entropy [nats]; ``state()`` has the gradients."""
        return self._batch(batch, training=True, gradients=True)

    def _batch(self, batch: Images, *, training: bool, gradients: bool) -> tuple[Float32, float]:
        self._check_images(batch)
        if len(batch.images) != BATCH:
            raise ValueError(f"a batch of {len(batch.images)} images, not {BATCH}")
        out = np.empty((BATCH, self.recipe.classes), dtype=np.float32)
        loss = self._kernel.cellnet_forward(
            self._handle,
            batch.rows.ctypes.data,
            batch.labels32.ctypes.data if gradients else None,
            int(training),
            out.ctypes.data,
        )
        return out, float(loss)

    def train(self, split: Images, order: NDArray[np.int64], rates: Float32) -> float:
        """Take len(rates) steps on consecutive 64s of order (indices); mean loss [nats]."""
        self._check_images(split)
        index = np.ascontiguousarray(order, dtype=np.int64)
        steps = np.ascontiguousarray(rates, dtype=np.float32)
        if len(index) < len(steps) * BATCH:
            raise ValueError(f"{len(index)} indices are too few for {len(steps)} batches")
        if len(index) and not 0 <= index.min() <= index.max() < len(split.images):
            raise ValueError("an index lies outside the split")
        return float(
            self._kernel.cellnet_train(
                self._handle,
                split.rows.ctypes.data,
                split.labels32.ctypes.data,
                index.ctypes.data,
                len(steps),
                steps.ctypes.data,
                self.recipe.momentum,
                self.recipe.weight_decay,
            )
        )

    def correct(self, split: Images) -> int:
        """Number of images of the split that are classified correctly."""
        self._check_images(split)
        return int(
            self._kernel.cellnet_correct(
                self._handle,
                split.blocks.ctypes.data,
                split.labels32.ctypes.data,
                len(split.images),
            )
        )

    def _check_images(self, split: Images) -> None:
        if split.shape != self.shape:
            raise ValueError(f"images of shape {split.shape}, not {self.shape}")
        labels = split.labels32
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.recipe.classes:
            raise ValueError(f"a label lies outside 0..{self.recipe.classes - 1}")


def _generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def train_network(
    network: Network, train: Images, valid: Images, test: Images, seed: int, cell: bytes
) -> LearningCurve:
    """Give a network its initial weights, train it and return its learning curve.

    The batch order depends on the seed alone, the initial weights on seed and cell.
    """
    recipe = network.recipe
    digest = hashlib.sha256(cell).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]
    network.set_parameters(initial_parameters(network.layout, _generator(seed, 0, *words)))
    orders = _generator(seed, 1)
    steps = len(train.images) // BATCH
    rates = learning_rates(recipe, steps * recipe.epochs)
    losses: list[float] = []
    valid_correct: list[int] = []
    test_correct: list[int] = []
    seconds: list[float] = []
    spent = 0.0
    for epoch in range(recipe.epochs):
        begin = time.thread_time()
        order = orders.permutation(len(train.images))
        loss = network.train(train, order, rates[epoch * steps : (epoch + 1) * steps])
        spent += time.thread_time() - begin
        if epoch + 1 in recipe.evaluations:
            losses.append(loss)
            valid_correct.append(network.correct(valid))
            test_correct.append(network.correct(test))
            seconds.append(spent)
    return LearningCurve(
        epochs=np.array(recipe.evaluations, dtype=np.int64),
        train_loss=np.array(losses, dtype=np.float64),
        valid_correct=np.array(valid_correct, dtype=np.int64),
        test_correct=np.array(test_correct, dtype=np.int64),
        seconds=np.array(seconds, dtype=np.float64),
    )
