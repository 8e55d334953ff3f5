"""NAS-Bench-201 cells in the C training kernel against the torch network of the space."""

import numpy as np
import pytest
import torch
from kernel_checks import (
    check_logits_and_gradients,
    check_steps,
    check_training,
    fields,
    perturbed,
)

from nasplatform.benchmarks.cellnet import (
    Cell201Network,
    Recipe,
    active_edges,
    initial_parameters,
    parameter_layout201,
    train_cell201,
)
from nasplatform.spaces.nasbench201.cells import EDGES, Cell
from nasplatform.spaces.nasbench201.costs import Skeleton
from nasplatform.spaces.nasbench201.identity import OPERATIONS
from nasplatform.spaces.nasbench201.network import Network

# Edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2: 0 none, 1 skip, 2 conv1x1, 3 conv3x3, 4 pool.
CELLS = {
    "all 3x3": (3, 3, 3, 3, 3, 3),
    "all 1x1": (2, 2, 2, 2, 2, 2),
    "all skip": (1, 1, 1, 1, 1, 1),
    "all pool": (4, 4, 4, 4, 4, 4),
    "one of each": (3, 1, 4, 0, 2, 3),
    "chain of pools and convolutions": (4, 0, 3, 0, 0, 4),
    "skips around convolutions": (1, 3, 2, 1, 4, 3),
    "first node dead": (3, 2, 0, 4, 0, 3),
    "second node dead": (3, 3, 2, 0, 1, 0),
    "first node not reached": (0, 4, 3, 3, 2, 2),
    "one edge": (0, 0, 0, 2, 0, 0),
    "no path": (3, 0, 0, 0, 0, 3),
}
SIZES = [(1, 8, 8), (3, 7, 5)]


def reference(ops, shape, recipe, flat):
    """The space's network with the kernel's flat parameters, and its parameters' tensors."""
    net = Network(
        Cell.of([OPERATIONS[op] for op in ops]),
        Skeleton(
            stem_channels=recipe.stem_channels,
            stages=recipe.stacks,
            cells_per_stage=recipe.modules_per_stack,
            input_shape=shape,
            classes=recipe.classes,
        ),
    )
    blocks, start = [], 0  # a block is a cell and the reduction before it, if there is one
    for place, module in enumerate(net.body):
        if hasattr(module, "edges"):
            blocks.append(net.body[start : place + 1])
            start = place + 1
    tensors = []
    at = 0
    for name, part in parameter_layout201(ops, shape[0], recipe):
        owner, kind = name.rsplit(".", 1)
        if owner == "classifier":
            tensor = getattr(net.classifier, kind)
        else:
            modules = list(home_of(net, blocks, owner).modules())
            of = torch.nn.Conv2d if kind == "weight" else torch.nn.BatchNorm2d
            (module,) = [m for m in modules if isinstance(m, of)]
            tensor = module.bias if kind == "shift" else module.weight
        size = int(np.prod(part))
        assert tuple(tensor.shape) == part
        tensor.data.copy_(torch.from_numpy(flat[at : at + size].reshape(part)))
        tensors.append(tensor)
        at += size
    assert at == len(flat)
    return net, tensors


def home_of(net, blocks, owner):
    if owner in ("stem", "last"):
        return getattr(net, owner)
    block, where = owner.split(".")
    block = blocks[int(block.removeprefix("block"))]
    return block[-1].edges[where] if where.startswith("from") else getattr(block[0], where)


def set_up(name, shape, modules=1):
    """Kernel network and reference with the same parameters, scales and shifts random too."""
    ops = CELLS[name]
    recipe = Recipe(modules_per_stack=modules)
    layout = parameter_layout201(ops, shape[0], recipe)
    r = np.random.default_rng(3)
    flat = perturbed(initial_parameters(layout, r), r)
    net = Cell201Network(ops, shape, recipe)
    net.set_parameters(flat)
    return net, *reference(ops, shape, recipe, flat)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_logits_and_gradients_equal_torch(name, shape):
    check_logits_and_gradients(set_up(name, shape, 2 if name == "one of each" else 1), shape)


@pytest.mark.parametrize("name", ["one of each", "skips around convolutions"])
def test_steps_equal_torch_sgd(name):
    check_steps(set_up(name, (1, 8, 8)), (1, 8, 8))


def test_training_learns_and_is_reproducible(digits):
    ops = CELLS["one of each"]
    check_training(lambda recipe, seed: train_cell201(ops, *digits, recipe, seed))


def test_cells_of_equal_live_edges_train_alike(digits):
    recipe = Recipe(epochs=1)
    dead, clean = ((3, 3, 2, 0, 1, 0), (3, 0, 0, 0, 1, 0))
    assert fields(train_cell201(dead, *digits, recipe, 0)) == fields(
        train_cell201(clean, *digits, recipe, 0)
    )


@pytest.mark.parametrize("name", CELLS)
def test_live_edges_are_those_on_paths(name):
    ops, paths = CELLS[name], [[e] for e, (source, _) in enumerate(EDGES) if source == 0]
    paths += [[e, f] for [e] in paths for f in range(6) if EDGES[f][0] == EDGES[e][1]]
    paths += [[0, 2, 5]]
    whole = [p for p in paths if EDGES[p[-1]][1] == 3 and all(ops[e] for e in p)]
    expected = [ops[e] if any(e in p for p in whole) else 0 for e in range(6)]
    assert active_edges(ops).tolist() == expected


@pytest.mark.parametrize("ops", [(1, 1, 1), (0, 1, 2, 3, 4, 5), (0, 0, 0, 0, 0, -1)])
def test_impossible_operations_are_refused(ops):
    with pytest.raises(ValueError, match="six numbers"):
        Cell201Network(ops, (1, 8, 8), Recipe())
