"""The C training kernel against nasbench_pytorch and torch."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_checks import (
    batch,
    check_logits_and_gradients,
    check_steps,
    check_training,
    perturbed,
)

from nasplatform.benchmarks.cellnet import (
    CellNetwork,
    Images,
    Recipe,
    build,
    initial_parameters,
    learning_rates,
    parameter_layout,
    train_cell,
    vertex_channels,
)
from nasplatform.errors import KernelError

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


def set_up(name, shape, modules=1):
    """Kernel network and reference with the same parameters, scales and shifts random too."""
    matrix, ops = CELLS[name]
    recipe = Recipe(modules_per_stack=modules)
    layout = parameter_layout(matrix, ops, shape[0], recipe)
    r = np.random.default_rng(3)
    flat = perturbed(initial_parameters(layout, r), r)
    net = CellNetwork(matrix, ops, shape, recipe)
    net.set_parameters(flat)
    return net, *reference(matrix, ops, shape, recipe, flat)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_logits_and_gradients_equal_pytorch(name, shape):
    modules = 2 if name == "two vertices" else 1
    check_logits_and_gradients(set_up(name, shape, modules), shape)


@pytest.mark.parametrize("name", ["three feed the output, truncation", "seven vertices"])
def test_steps_equal_torch_sgd(name):
    check_steps(set_up(name, (1, 8, 8)), (1, 8, 8))


def test_running_statistics_equal_torch():
    net, theirs, _ = set_up("two vertices", (1, 8, 8))
    data = batch((1, 8, 8))
    net.logits(data, training=True)
    theirs.train()(torch.from_numpy(data.images))
    norms = [m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    expected = np.concatenate([np.r_[m.running_mean.numpy(), m.running_var.numpy()] for m in norms])
    np.testing.assert_allclose(net.state()[2], expected, rtol=1e-4, atol=1e-5)


def test_training_learns_and_is_reproducible(digits):
    matrix, ops = CELLS["seven vertices"]
    check_training(lambda recipe, seed: train_cell(matrix, ops, *digits, recipe, seed))


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
        build.SOURCES.compiled()


def test_a_changed_header_is_compiled_anew(tmp_path):
    copied = replace(build.SOURCES, folder=tmp_path)
    for source in build.SOURCES.folder.glob("*.[ch]"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    before = copied.compiled()
    assert before == build.SOURCES.compiled()
    header = tmp_path / "kernel.h"
    header.write_text(header.read_text() + "\n")
    assert copied.compiled() != before


def test_compiled_kernel_is_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path / "new"))
    path = build.SOURCES.compiled()
    made = path.stat().st_mtime_ns
    assert path.parent == tmp_path / "new"
    assert build.SOURCES.compiled().stat().st_mtime_ns == made
    assert [p.name for p in path.parent.iterdir()] == [path.name]
