"""Fast CPU training of cell networks on tiny images (AVX2 kernel in C).

``train_cell`` trains NAS-Bench-101 cells, ``train_cell201`` those of NAS-Bench-201.
"""

from nasplatform.benchmarks.cellnet.nasbench101 import (
    CellNetwork,
    parameter_layout,
    train_cell,
    vertex_channels,
)
from nasplatform.benchmarks.cellnet.nasbench201 import (
    Cell201Network,
    active_edges,
    parameter_layout201,
    train_cell201,
)
from nasplatform.benchmarks.cellnet.network import Images, LearningCurve, initial_parameters
from nasplatform.benchmarks.cellnet.recipe import BATCH, Recipe, learning_rates

__all__ = [
    "BATCH",
    "Cell201Network",
    "CellNetwork",
    "Images",
    "LearningCurve",
    "Recipe",
    "active_edges",
    "initial_parameters",
    "learning_rates",
    "parameter_layout",
    "parameter_layout201",
    "train_cell",
    "train_cell201",
    "vertex_channels",
]
