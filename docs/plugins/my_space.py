"""A space in one file: towers of four convolutions, each of a kernel and a width, 6,561 in all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from nasplatform.errors import ArchitectureError
from nasplatform.spaces import GraphBatch, Population, Space
from nasplatform.spaces.graph import Attribute, Operation

PLACES, KERNELS, WIDTHS = 4, np.array([1, 3, 5]), np.array([4, 8, 16])
CHOICES = len(KERNELS) * len(WIDTHS)  # at each place: 3 kernel + width, as digits of the code
POWERS = CHOICES ** np.arange(PLACES)
CONVOLUTIONS = tuple(
    Operation(f"conv{k}x{k}-bn-relu", "conv", kernel=int(k), nonlinear=True, normalised=True)
    for k in KERNELS
)
VOCABULARY = (Operation("input", "input"), *CONVOLUTIONS, Operation("output", "output"))


@dataclass(frozen=True)
class Tower:
    """Kernel and width of each convolution. No two towers are isomorphic: the text is identity."""

    layers: tuple[tuple[int, int], ...]

    @property
    def hash(self) -> str:
        return "-".join(f"k{kernel}w{width}" for kernel, width in self.layers)


class Towers(Population[Tower]):
    """Many towers; ``codes`` is (B, 1), a number with base 9 that has a digit for each place."""

    def _unpack(self, code: NDArray[np.uint64]) -> Tower:
        kernels, widths = type(self)(code[None]).layers
        return Tower(tuple(zip(kernels[0].tolist(), widths[0].tolist(), strict=True)))

    @property
    def layers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Kernels and widths, (B, PLACES) each."""
        digits = self.codes.astype(np.int64) // POWERS % CHOICES
        return KERNELS[digits // len(WIDTHS)], WIDTHS[digits % len(WIDTHS)]

    @property
    def keys(self) -> NDArray[np.uint64]:
        return self.codes[:, 0]

    @cached_property
    def hashes(self) -> list[str]:
        return [tower.hash for tower in self]


class TowerOptions(BaseModel):
    """Every space needs ``input_shape`` and ``classes``: the data set of a search sets them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input_shape: tuple[int, int, int] = Field((1, 8, 8), description="channels, height, width")
    classes: int = Field(10, ge=2, description="outputs of the classifier")


class TowerSpace(Space[Tower]):
    """Chains of convolutions without strides, then the mean over all pixels and a classifier."""

    name: ClassVar[str] = "towers"
    Options: ClassVar[type[TowerOptions]] = TowerOptions
    prior: ClassVar[str] = "uniform over all towers"

    def parse(self, text: str) -> Tower:
        found = [re.fullmatch(r"k([135])w(4|8|16)", part, re.ASCII) for part in text.split("-")]
        if len(found) != PLACES or not all(found):
            raise ArchitectureError(f"expected four layers such as k3w8-k1w4-..., found {text!r}")
        return Tower(tuple((int(layer[1]), int(layer[2])) for layer in found if layer))

    def format(self, architecture: Tower) -> str:
        return architecture.hash

    def population(self, architectures: Sequence[Tower]) -> Towers:
        if isinstance(architectures, Towers):
            return architectures
        layers = np.array([a.layers for a in architectures], np.int64).reshape(-1, PLACES, 2)
        digits = np.searchsorted(KERNELS, layers[..., 0]) * len(WIDTHS)
        digits += np.searchsorted(WIDTHS, layers[..., 1])
        return Towers((digits @ POWERS).astype(np.uint64))

    def from_codes(self, codes: NDArray[np.uint64]) -> Towers:
        return Towers(codes)

    def enumerate(self) -> Towers:
        return Towers(np.arange(CHOICES**PLACES, dtype=np.uint64))

    def sample(self, n: int, rng: np.random.Generator) -> Towers:
        return Towers(rng.integers(CHOICES**PLACES, size=n, dtype=np.uint64))

    def neighbours(self, architectures: Sequence[Tower]) -> Towers:
        """Towers of which one layer is another one."""
        codes = self.population(architectures).codes.astype(np.int64)[:, :, None]
        digits = codes // POWERS[:, None] % CHOICES
        around = np.unique(codes + (np.arange(CHOICES) - digits) * POWERS[:, None])
        return Towers(np.setdiff1d(around, codes).astype(np.uint64))

    def graphs(self, architectures: Sequence[Tower]) -> GraphBatch:
        kernels, widths = self.population(architectures).layers
        b, n = len(kernels), PLACES + 2
        colours, height, width = self.options.input_shape
        channels = np.column_stack([np.full(b, colours), widths, widths[:, -1]])
        weights, pixels = channels[:, :-2] * widths * kernels**2, height * width
        inner = slice(1, -1)
        ops = np.full((b, n), len(VOCABULARY) - 1)
        ops[:, 0], ops[:, inner] = 0, 1 + np.searchsorted(KERNELS, kernels)
        params, flops = np.zeros((b, n), np.int64), np.zeros((b, n), np.int64)
        params[:, inner] = weights + 2 * widths  # a convolution without bias, a normalisation
        flops[:, inner] = 2 * weights * pixels
        attributes = np.full((b, n, 1), np.nan, np.float32)
        attributes[:, inner, 0] = widths
        classes = self.options.classes
        return GraphBatch(
            space=self.name,
            vocabulary=VOCABULARY,
            stages=(0,),
            adjacency=np.repeat(np.eye(n, k=1, dtype=np.uint8)[None], b, axis=0),
            ops=ops.astype(np.int8),
            channels=channels[:, None].astype(np.int32),
            flops=flops[:, None],
            params=params[:, None],
            total_flops=flops.sum(1) + 2 * widths[:, -1] * classes,
            total_params=params.sum(1) + (widths[:, -1] + 1) * classes,
            resolution=np.full((b, 1, n), max(height, width), np.int32),
            positional=True,  # the second of two equal layers is another layer than the first
            attribute_schema=(Attribute("width", "channels", 4, 16),),
            attributes=attributes,
        )

    def build(self, architecture: Tower) -> nn.Module:
        layers: list[nn.Module] = []
        incoming = self.options.input_shape[0]
        for kernel, width in architecture.layers:
            convolution = nn.Conv2d(incoming, width, kernel, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            incoming = width
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(incoming, self.options.classes)]
        return nn.Sequential(*layers, *head)

    def distributions(self) -> dict[str, BaseDistribution]:
        choices = {"kernel": KERNELS.tolist(), "width": WIDTHS.tolist()}
        return {
            f"{what}{place}": CategoricalDistribution(values)
            for place in range(PLACES)
            for what, values in choices.items()
        }

    def to_params(self, architecture: Tower) -> dict[str, Any]:
        pairs = enumerate(architecture.layers)
        return {k: v for i, (a, b) in pairs for k, v in ((f"kernel{i}", a), (f"width{i}", b))}

    def from_params(self, params: Mapping[str, Any]) -> Tower:
        return Tower(tuple((params[f"kernel{i}"], params[f"width{i}"]) for i in range(PLACES)))
