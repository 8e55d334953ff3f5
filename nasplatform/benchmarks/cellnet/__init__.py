"""Fast CPU training of NAS-Bench-101 cell networks on tiny images (AVX2 kernel in C)."""

from nasplatform.benchmarks.cellnet.build import KernelError
from nasplatform.benchmarks.cellnet.recipe import BATCH, Recipe, learning_rates
from nasplatform.benchmarks.cellnet.train import (
    CellNetwork,
    Curve,
    Images,
    initial_parameters,
    parameter_layout,
    train_cell,
    vertex_channels,
)

__all__ = [
    "BATCH",
    "CellNetwork",
    "Curve",
    "Images",
    "KernelError",
    "Recipe",
    "initial_parameters",
    "learning_rates",
    "parameter_layout",
    "train_cell",
    "vertex_channels",
]
