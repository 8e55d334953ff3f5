"""NAS-Bench-201 cells in the C training kernel against the torch network of the space."""

import numpy as np
import pytest

from nasplatform.benchmarks.cellnet import (
    BATCH,
    Cell201Network,
    Images,
    Recipe,
    initial_parameters,
    learning_rates,
    live_edges,
    parameter_layout201,
    train_cell201,
)

torch = pytest.importorskip("torch")

from nasplatform.spaces.nasbench201.cells import EDGES, Cell  # noqa: E402
from nasplatform.spaces.nasbench201.costs import Skeleton  # noqa: E402
from nasplatform.spaces.nasbench201.identity import OPERATIONS  # noqa: E402
from nasplatform.spaces.nasbench201.network import Network  # noqa: E402

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


def batch(shape, seed=0, count=BATCH):
    r = np.random.default_rng(seed)
    images = np.round(r.standard_normal((count, *shape)) * 2).astype(np.float32) / 2
    return Images(images, r.integers(0, 10, count))


def set_up(name, shape, modules=1):
    """Kernel network and reference with the same parameters, scales and shifts random too."""
    ops = CELLS[name]
    recipe = Recipe(modules_per_stack=modules)
    layout = parameter_layout201(ops, shape[0], recipe)
    r = np.random.default_rng(3)
    flat = initial_parameters(layout, r)
    flat += 0.1 * r.standard_normal(len(flat)).astype(np.float32)
    net = Cell201Network(ops, shape, recipe)
    net.set_parameters(flat)
    return net, *reference(ops, shape, recipe, flat)


def gradient(tensor):
    grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
    return grad.flatten().numpy()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_logits_and_gradients_equal_torch(name, shape):
    net, theirs, tensors = set_up(name, shape, modules=2 if name == "one of each" else 1)
    data = batch(shape)
    x, y = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    # Gradients jump where a ReLU input is within rounding of 0, so they are compared with the
    # same network in float64 and with an allowance per tensor.
    theirs = theirs.double().train()
    expected = theirs(x.double())
    loss = torch.nn.functional.cross_entropy(expected, y)
    loss.backward()
    logits, ours = net.loss_and_gradients(data)
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-4, rtol=1e-4)
    assert ours == pytest.approx(loss.item(), abs=1e-5)
    gradients, at = net.state()[1], 0
    whole = float(np.linalg.norm(gradients))
    for tensor in tensors:
        grad = gradient(tensor)
        part = gradients[at : at + len(grad)]
        assert np.linalg.norm(part - grad) <= 1e-3 * np.linalg.norm(grad) + 1e-5 * whole
        at += len(grad)
    # evaluation with running statistics of two batches
    other = batch(shape, 1)
    net.logits(other, training=True)
    with torch.no_grad():
        theirs(torch.from_numpy(other.images).double())
        expected = theirs.eval()(x.double()).numpy()
    np.testing.assert_allclose(net.logits(data, training=False), expected, atol=1e-4, rtol=1e-4)
    # counting, with an incomplete last block
    some = Images(data.images[:37], data.labels[:37])
    assert net.correct(some) == (expected.argmax(1) == data.labels)[:37].sum()


@pytest.mark.parametrize("name", ["one of each", "skips around convolutions"])
def test_steps_equal_torch_sgd(name):
    shape = (1, 8, 8)
    net, theirs, tensors = set_up(name, shape)
    data = batch(shape, 5, 4 * BATCH)
    order = np.random.default_rng(0).permutation(len(data.images))
    rates = learning_rates(Recipe(epochs=1, learning_rate=0.05), 4)
    sgd = torch.optim.SGD(
        tensors, lr=1.0, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False
    )
    before = torch.cat([t.flatten() for t in tensors]).detach().numpy()
    losses = []
    theirs.train()
    for step, rate in enumerate(rates):
        sgd.param_groups[0]["lr"] = float(rate)
        some = order[step * BATCH : (step + 1) * BATCH]
        out = theirs(torch.from_numpy(data.images[some]))
        loss = torch.nn.functional.cross_entropy(out, torch.from_numpy(data.labels[some]))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert net.train(data, order, rates) == pytest.approx(np.mean(losses), abs=1e-4)
    after = torch.cat([t.flatten() for t in tensors]).detach().numpy()
    ours = net.state()[0]
    assert np.linalg.norm(ours - after) < 2e-3 * np.linalg.norm(after - before)


@pytest.fixture(scope="module")
def digits():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images = (data.images / 4 - 2)[:, None].astype(np.float32)
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return [Images(images[i], labels[i]) for i in (order[:898], order[898:1347], order[1347:])]


def fields(curve):
    return [curve.train_loss.tolist(), curve.valid_correct.tolist(), curve.test_correct.tolist()]


def test_training_learns_and_is_reproducible(digits):
    recipe = Recipe(evaluate_at=(1, 5, 10))
    first, again, other = (
        train_cell201(CELLS["one of each"], *digits, recipe, seed=seed) for seed in (0, 0, 1)
    )
    assert fields(first) == fields(again)
    assert first.train_loss.tolist() != other.train_loss.tolist()
    assert first.epochs.tolist() == [1, 5, 10]
    assert first.train_loss[-1] < first.train_loss[0]
    assert first.valid_correct[-1] > 0.93 * 449
    assert first.test_correct[-1] > 0.93 * 450


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
    assert live_edges(ops).tolist() == expected


@pytest.mark.parametrize("ops", [(1, 1, 1), (0, 1, 2, 3, 4, 5), (0, 0, 0, 0, 0, -1)])
def test_impossible_operations_are_refused(ops):
    with pytest.raises(ValueError, match="six numbers"):
        Cell201Network(ops, (1, 8, 8), Recipe())
