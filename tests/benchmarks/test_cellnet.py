"""The C training kernel against nasbench_pytorch and torch."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nasplatform.benchmarks.cellnet import (
    BATCH,
    CellNetwork,
    Curve,
    Images,
    KernelError,
    Recipe,
    build,
    initial_parameters,
    learning_rates,
    parameter_layout,
    train_cell,
    vertex_channels,
)

torch = pytest.importorskip("torch")
model = pytest.importorskip("nasbench_pytorch.model.model")

NAMES = ["conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"]


def cell(edges, vertices, ops):
    matrix = np.zeros((vertices, vertices), dtype=np.uint8)
    for q, t in edges:
        matrix[q, t] = 1
    return matrix, np.array([-1, *ops, -2], dtype=np.int8)


CELLS = {
    "two vertices": cell([(0, 1)], 2, []),
    "pool only": cell([(0, 1), (1, 2)], 3, [2]),
    "pools and input to output": cell([(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)], 4, [2, 0]),
    "three feed the output, truncation": cell(
        [(0, 1), (0, 2), (1, 3), (1, 2), (2, 3), (1, 4), (2, 4), (3, 4), (0, 4)], 5, [0, 2, 1]
    ),
    "truncated pool": cell([(0, 1), (1, 2), (1, 3), (2, 4), (1, 4), (3, 4)], 5, [2, 0, 2]),
    "seven vertices": cell(
        [(0, 1), (0, 3), (1, 2), (2, 3), (2, 4), (3, 5), (4, 5), (1, 6), (5, 6)], 7, [0, 1, 2, 0, 1]
    ),
    "wide": cell([(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (2, 5), (3, 5), (4, 5)], 6, [0, 1, 2, 0]),
    "four feed the output": cell(
        [(0, 1), (0, 2), (2, 3), (1, 4), (1, 5), (1, 6), (3, 6), (4, 6), (5, 6)],
        7,
        [0, 0, 1, 0, 2],
    ),
}
SIZES = [(1, 8, 8), (3, 7, 7)]


def reference(matrix, ops, shape, recipe, flat):
    """nasbench_pytorch's network with the kernel's flat parameters, and its parameters' names."""
    names = ["input", *[NAMES[o] for o in ops[1:-1]], "output"]
    net = model.Network(
        (matrix.astype(int), names),
        num_labels=recipe.classes,
        in_channels=shape[0],
        stem_out_channels=recipe.stem_channels,
        num_stacks=recipe.stacks,
        num_modules_per_stack=recipe.modules_per_stack,
        momentum=0.1,
    )
    cells = [layer for layer in net.layers if isinstance(layer, model.Cell)]
    tensors = []
    at = 0
    for name, part in parameter_layout(matrix, ops, shape[0], recipe):
        owner, kind = name.rsplit(".", 1)
        if owner == "classifier":
            tensor = getattr(net.classifier, kind)
        else:
            if owner == "stem":
                layer = net.layers[0].conv_bn_relu
            else:
                number, where, vertex = re.fullmatch(r"cell(\d+)\.(proj|op)(\d+)", owner).groups()
                home = cells[int(number)]
                block = (home.input_op if where == "proj" else home.vertex_op)[int(vertex)]
                if where == "op":
                    block = getattr(block, "conv3x3" if hasattr(block, "conv3x3") else "conv1x1")
                layer = block.conv_bn_relu
            tensor = layer[0].weight if kind == "weight" else layer[1].weight
            tensor = layer[1].bias if kind == "shift" else tensor
        size = int(np.prod(part))
        assert tuple(tensor.shape) == part
        tensor.data.copy_(torch.from_numpy(flat[at : at + size].reshape(part)))
        tensors.append(tensor)
        at += size
    assert at == len(flat)
    return net, tensors


def batch(shape, seed=0, count=BATCH):
    """Images with exact ties, as quantised inputs have."""
    r = np.random.default_rng(seed)
    images = np.round(r.standard_normal((count, *shape)) * 2).astype(np.float32) / 2
    return Images(images, r.integers(0, 10, count))


def set_up(name, shape, modules=1):
    """Kernel network and reference with the same parameters, scales and shifts random too."""
    matrix, ops = CELLS[name]
    recipe = Recipe(modules_per_stack=modules)
    layout = parameter_layout(matrix, ops, shape[0], recipe)
    r = np.random.default_rng(3)
    flat = initial_parameters(layout, r)
    flat += 0.1 * r.standard_normal(len(flat)).astype(np.float32)
    net = CellNetwork(matrix, ops, shape, recipe)
    net.set_parameters(flat)
    return net, *reference(matrix, ops, shape, recipe, flat)


def flatten(tensors):
    return torch.cat([t.flatten() for t in tensors]).detach().numpy()


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_logits_and_gradients_equal_pytorch(name, shape):
    net, theirs, tensors = set_up(name, shape, modules=2 if name == "two vertices" else 1)
    data = batch(shape)
    x, y = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    # Gradients jump where a ReLU input or a pooling difference is within rounding of 0, so they
    # are compared with the same network in float64 and with an allowance per tensor.
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
        grad = tensor.grad.flatten().numpy()
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


@pytest.mark.parametrize("name", ["three feed the output, truncation", "seven vertices"])
def test_steps_equal_torch_sgd(name):
    shape = (1, 8, 8)
    net, theirs, tensors = set_up(name, shape)
    data = batch(shape, 5, 4 * BATCH)
    order = np.random.default_rng(0).permutation(len(data.images))
    rates = learning_rates(Recipe(epochs=1, learning_rate=0.05), 4)
    sgd = torch.optim.SGD(
        tensors, lr=1.0, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False
    )
    before = flatten(tensors)
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
    assert relative(net.state()[0] - before, flatten(tensors) - before) < 2e-3


def test_running_statistics_equal_torch():
    net, theirs, _ = set_up("two vertices", (1, 8, 8))
    data = batch((1, 8, 8))
    net.logits(data, training=True)
    theirs.train()(torch.from_numpy(data.images))
    norms = [m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    expected = np.concatenate([np.r_[m.running_mean.numpy(), m.running_var.numpy()] for m in norms])
    np.testing.assert_allclose(net.state()[2], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def digits():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images = (data.images / 4 - 2)[:, None].astype(np.float32)
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return [Images(images[i], labels[i]) for i in (order[:898], order[898:1347], order[1347:])]


def fields(curve: Curve):
    return [
        curve.epochs.tolist(),
        curve.train_loss.tolist(),
        curve.valid_correct.tolist(),
        curve.test_correct.tolist(),
    ]


def test_training_learns_and_is_reproducible(digits):
    recipe = Recipe(evaluate_at=(1, 5, 10))
    matrix, ops = CELLS["seven vertices"]
    first = train_cell(matrix, ops, *digits, recipe, seed=0)
    again = train_cell(matrix, ops, *digits, recipe, seed=0)
    other = train_cell(matrix, ops, *digits, recipe, seed=1)
    assert fields(first) == fields(again)
    assert first.train_loss.tolist() != other.train_loss.tolist()
    assert first.epochs.tolist() == [1, 5, 10]
    assert first.train_loss[-1] < first.train_loss[0]
    assert first.valid_correct[-1] > 0.93 * 449
    assert first.test_correct[-1] > 0.93 * 450
    assert (np.diff(first.seconds) > 0).all()


def test_training_is_identical_in_another_process(digits):
    script = (
        "import numpy as np\n"
        "from nasplatform.benchmarks.cellnet import *\n"
        "r = np.random.default_rng(7)\n"
        "d = Images(r.standard_normal((200, 1, 7, 7)).astype('f4'), r.integers(0, 10, 200))\n"
        "m = np.triu(np.ones((4, 4), dtype=np.uint8), 1)\n"
        "c = train_cell(m, np.array([0, 0, 2, 0], 'i1'), d, d, d, Recipe(epochs=3, "
        "evaluate_at=(1, 3)), 5)\n"
        "print(c.train_loss.tolist(), c.valid_correct.tolist())\n"
    )
    root = str(Path(__file__).parents[2])
    runs = [
        subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout != b""


def test_learning_rates():
    rates = learning_rates(Recipe(), 10)
    np.testing.assert_allclose(rates[:3], [0.05, 0.1, 0.1])
    assert rates[-1] == pytest.approx(0.05 * (1 + np.cos(np.pi * 7 / 8)))


def test_vertex_channels_equal_nasbench_pytorch():
    for matrix, _ in CELLS.values():
        for outputs in (8, 13, 32):
            ours = vertex_channels(matrix, 8, outputs)
            assert ours == model.compute_vertex_channels(8, outputs, matrix.astype(int))


@pytest.mark.parametrize(
    ("matrix", "ops", "message"),
    [
        ([[0, 1, 1], [0, 0, 0], [0, 0, 0]], [0, 0, 0], "prune"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], [0, 3, 0], "operations"),
        ([[0, 1, 0], [1, 0, 1], [0, 0, 0]], [0, 0, 0], "triangular"),
    ],
)
def test_impossible_cells_are_refused(matrix, ops, message):
    with pytest.raises(ValueError, match=message):
        CellNetwork(np.array(matrix, np.uint8), np.array(ops, np.int8), (1, 8, 8), Recipe())


def test_impossible_recipes_and_images_are_refused():
    with pytest.raises(ValueError, match="batch_size"):
        Recipe(batch_size=32)
    with pytest.raises(ValueError, match="evaluate_at"):
        Recipe(epochs=3, evaluate_at=(4,))
    with pytest.raises(ValueError, match="too small"):
        CellNetwork(*CELLS["two vertices"], (1, 3, 3), Recipe())
    net = CellNetwork(*CELLS["two vertices"], (1, 8, 8), Recipe())
    with pytest.raises(ValueError, match="shape"):
        net.correct(batch((1, 7, 7)))
    with pytest.raises(ValueError, match="label"):
        net.correct(Images(np.zeros((1, 1, 8, 8), np.float32), np.array([10])))


def test_no_compiler_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KernelError, match="needs a C compiler"):
        build.compile_kernel()


def test_a_changed_header_is_compiled_anew(monkeypatch, tmp_path):
    before = build._digest()
    copies = [tmp_path / source.name for source in build.SOURCES]
    for copy, source in zip(copies, build.SOURCES, strict=True):
        copy.write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "SOURCES", tuple(copies))
    assert build._digest() == before
    header = tmp_path / "kernel.h"
    header.write_text(header.read_text() + "\n")
    assert build._digest() != before


def test_compiled_kernel_is_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path / "new"))
    path = build.compile_kernel()
    made = path.stat().st_mtime_ns
    assert path.parent == tmp_path / "new"
    assert build.compile_kernel().stat().st_mtime_ns == made
    assert [p.name for p in path.parent.iterdir()] == [path.name]
