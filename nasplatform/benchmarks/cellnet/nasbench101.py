"""Networks of NAS-Bench-101 cells in the kernel."""

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks.cellnet.build import kernel
from nasplatform.benchmarks.cellnet.network import (
    Images,
    Layout,
    LearningCurve,
    Network,
    train_network,
)
from nasplatform.benchmarks.cellnet.recipe import Recipe

CONV3X3, CONV1X1, MAXPOOL3X3 = 0, 1, 2
_MAX_VERTICES = 7


def vertex_channels(matrix: NDArray[np.uint8], inputs: int, outputs: int) -> list[int]:
    """Channels (V,) of every vertex of a cell with given input and output channels."""
    n = len(matrix)
    channels = [inputs] + [0] * (n - 2) + [outputs]
    if n == 2:
        return channels
    feeding = [v for v in range(1, n - 1) if matrix[v, n - 1]]
    if not feeding:
        raise ValueError("no interior vertex feeds the output of a cell of more than 2 vertices")
    each, extra = divmod(outputs, len(feeding))
    for place, v in enumerate(feeding):
        channels[v] = each + (place < extra)
    for v in range(n - 3, 0, -1):
        if not matrix[v, n - 1]:
            channels[v] = max([channels[d] for d in range(v + 1, n - 1) if matrix[v, d]])
    if min(channels) < 1:
        raise ValueError(f"{outputs} channels are too few for {len(feeding)} vertices")
    return channels


def _check_cell(
    matrix: NDArray[np.uint8], ops: NDArray[np.int8]
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    n = len(matrix)
    if matrix.shape != (n, n) or not 2 <= n <= _MAX_VERTICES or ops.shape != (n,):
        raise ValueError(f"a cell of matrix {matrix.shape} and operations {ops.shape}")
    edges = np.ascontiguousarray(np.asarray(matrix) != 0, dtype=np.uint8)
    if np.tril(edges).any():
        raise ValueError("the cell's matrix is not upper triangular")
    if not edges[:-1].any(axis=1).all() or not edges[:, 1:].any(axis=0).all():
        raise ValueError("a vertex of the cell lies on no path from input to output: prune it")
    clean = np.zeros(n, dtype=np.int8)
    clean[1:-1] = ops[1:-1]
    if ((clean < CONV3X3) | (clean > MAXPOOL3X3)).any():
        raise ValueError(f"operations are {clean[1:-1].tolist()}, not all in 0..2")
    return edges, clean


def parameter_layout(
    matrix: NDArray[np.uint8], ops: NDArray[np.int8], image_channels: int, recipe: Recipe
) -> Layout:
    """Name and shape of every parameter, in the kernel's flat order.

    Stem; per cell the projections of the cell's input ``cell<i>.proj<vertex>``, then the
    convolutions ``cell<i>.op<vertex>``; then ``classifier``. A convolution has ``.weight``
    (out, in, k, k), ``.scale`` and ``.shift`` (out,) of its batch-norm; a cell's projections
    come as all weights, then all scales, then all shifts. The classifier has ``.weight``
    (classes, channels), ``.bias`` (classes,).
    """
    edges, ops = _check_cell(matrix, ops)
    n = len(edges)
    c_in = c_out = recipe.stem_channels
    layout: Layout = [
        ("stem.weight", (c_out, image_channels, 3, 3)),
        ("stem.scale", (c_out,)),
        ("stem.shift", (c_out,)),
    ]
    for cell in range(recipe.stacks * recipe.modules_per_stack):
        if cell and cell % recipe.modules_per_stack == 0:
            c_out *= 2
        channels = vertex_channels(edges, c_in, c_out)
        to = [t for t in range(1, n) if edges[0, t]]
        layout += [(f"cell{cell}.proj{t}.weight", (channels[t], c_in, 1, 1)) for t in to]
        layout += [(f"cell{cell}.proj{t}.scale", (channels[t],)) for t in to]
        layout += [(f"cell{cell}.proj{t}.shift", (channels[t],)) for t in to]
        for t in range(1, n - 1):
            if ops[t] == MAXPOOL3X3:
                continue
            k, c = 3 if ops[t] == CONV3X3 else 1, channels[t]
            layout += [
                (f"cell{cell}.op{t}.weight", (c, c, k, k)),
                (f"cell{cell}.op{t}.scale", (c,)),
                (f"cell{cell}.op{t}.shift", (c,)),
            ]
        c_in = c_out
    layout += [
        ("classifier.weight", (recipe.classes, c_out)),
        ("classifier.bias", (recipe.classes,)),
    ]
    return layout


class CellNetwork(Network):
    """The network of a NAS-Bench-101 cell."""

    def __init__(
        self,
        matrix: NDArray[np.uint8],
        ops: NDArray[np.int8],
        shape: tuple[int, int, int],
        recipe: Recipe,
    ) -> None:
        """Shape: channels, height, width of the images. Parameters start at 0."""
        edges, clean = _check_cell(matrix, ops)
        handle = kernel().cellnet_new101(
            len(edges),
            edges.ctypes.data,
            clean.ctypes.data,
            *shape,
            recipe.stem_channels,
            recipe.stacks,
            recipe.modules_per_stack,
            recipe.classes,
        )
        super().__init__(handle, parameter_layout(edges, clean, shape[0], recipe), shape, recipe)


def train_cell(
    matrix: NDArray[np.uint8],
    ops: NDArray[np.int8],
    train: Images,
    valid: Images,
    test: Images,
    recipe: Recipe,
    seed: int,
) -> LearningCurve:
    """Train the network of one cell and return its learning curve.

    matrix (V, V): 1 where an edge goes from row to column, upper triangular, every vertex on a
    path from input to output. ops (V,): 0 conv3x3, 1 conv1x1, 2 maxpool3x3, first and last
    ignored. The batch order depends on the seed alone, the initial weights on seed and cell.
    """
    edges, clean = _check_cell(matrix, ops)
    network = CellNetwork(edges, clean, train.shape, recipe)
    return train_network(network, train, valid, test, seed, edges.tobytes() + clean.tobytes())
