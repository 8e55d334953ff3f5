"""Networks of NAS-Bench-201 cells in the kernel."""

from collections.abc import Sequence

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
from nasplatform.spaces.nasbench201.cells import (
    AVGPOOL,
    CELL_OUTPUT,
    CONV1X1,
    CONV3X3,
    EDGES,
    NONE,
)


def active_edges(ops: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int8]:
    """Operations (6,) with ``none`` on every edge that lies on no path from input to output.

    ops: the operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2: 0 none, 1 skip_connect,
    2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3. Raises ValueError for anything else.
    """
    given = np.asarray(ops)
    if given.shape != (len(EDGES),) or not np.isin(given, range(AVGPOOL + 1)).all():
        raise ValueError(f"operations are {given.tolist()}, not six numbers in 0..{AVGPOOL}")
    reached, needed = {0}, {CELL_OUTPUT}
    present = [edge for edge, op in zip(EDGES, given, strict=True) if op != NONE]
    for source, target in present:
        reached |= {target} if source in reached else set()
    for source, target in reversed(present):
        needed |= {source} if target in needed else set()
    live = [source in reached and target in needed for source, target in EDGES]
    return np.where(live, given, NONE).astype(np.int8)


def parameter_layout201(
    ops: Sequence[int] | NDArray[np.integer], image_channels: int, recipe: Recipe
) -> Layout:
    """Name and shape of every parameter, in the kernel's flat order.

    ``stem``; per block ``block<i>`` the reduction's ``.first``, ``.second`` and ``.shortcut``
    (before the first cell of a stage but the first), then the live convolutions
    ``.from_<s>_to_<t>``; ``last``; ``classifier``. A convolution has ``.weight`` (out, in, k, k),
    ``.scale`` and ``.shift`` (out,) of its batch-norm; a shortcut has only the weight, ``last``
    only scale and shift. The classifier has ``.weight`` (classes, channels), ``.bias`` (classes,).
    """
    width = recipe.stem_channels

    def normalised(name: str, *weight: int) -> Layout:
        return [(f"{name}.weight", weight), *_norm(name, weight[0])]

    layout = normalised("stem", width, image_channels, 3, 3)
    live = active_edges(ops)
    for number in range(recipe.stacks * recipe.modules_per_stack):
        block = f"block{number}"
        if number and number % recipe.modules_per_stack == 0:
            layout += normalised(f"{block}.first", 2 * width, width, 3, 3)
            layout += normalised(f"{block}.second", 2 * width, 2 * width, 3, 3)
            layout += [(f"{block}.shortcut.weight", (2 * width, width, 1, 1))]
            width *= 2
        for (source, target), op in zip(EDGES, live, strict=True):
            if op in (CONV1X1, CONV3X3):
                k = 3 if op == CONV3X3 else 1
                layout += normalised(f"{block}.from_{source}_to_{target}", width, width, k, k)
    layout += _norm("last", width)
    layout += [
        ("classifier.weight", (recipe.classes, width)),
        ("classifier.bias", (recipe.classes,)),
    ]
    return layout


def _norm(name: str, width: int) -> Layout:
    return [(f"{name}.scale", (width,)), (f"{name}.shift", (width,))]


class Cell201Network(Network):
    """The network of a NAS-Bench-201 cell: a recipe's stacks are the stages.

    As ``nasplatform.spaces.nasbench201.network``, without edges on no path from input to output.
    The one difference: there a convolution of a node that nothing reaches still has its
    batch-norm's shift. A cell without any path is zero, as there.
    """

    def __init__(
        self,
        ops: Sequence[int] | NDArray[np.integer],
        shape: tuple[int, int, int],
        recipe: Recipe,
    ) -> None:
        """ops: see ``active_edges``; shape: channels, height, width of the images."""
        live = active_edges(ops)
        handle = kernel().cellnet_new201(
            live.ctypes.data,
            *shape,
            recipe.stem_channels,
            recipe.stacks,
            recipe.modules_per_stack,
            recipe.classes,
        )
        super().__init__(handle, parameter_layout201(live, shape[0], recipe), shape, recipe)


def train_cell201(
    ops: Sequence[int] | NDArray[np.integer],
    train: Images,
    valid: Images,
    test: Images,
    recipe: Recipe,
    seed: int,
) -> LearningCurve:
    """Train the network of one NAS-Bench-201 cell and return its learning curve.

    ops (6,): see ``active_edges``. The batch order depends on the seed alone, the initial weights
    on seed and live operations. Raises ValueError for operations that are no cell.
    """
    live = active_edges(ops)
    network = Cell201Network(live, train.shape, recipe)
    return train_network(network, train, valid, test, seed, live.tobytes())
