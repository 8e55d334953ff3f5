"""What is read off the traits of operations, against wide networks with random weights."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from nasplatform.encodings import signal_propagation
from nasplatform.encodings.graph_features import feature_groups, graph_features
from nasplatform.encodings.responses import window_gain
from nasplatform.encodings.signal_propagation import STARTS
from nasplatform.spaces.graph import GraphBatch, Operation

Images = NDArray[np.float64]  # (images, channels) of maps that are the same everywhere
WIDE, PAIRS = 800, 300
GELU_ENERGY = 0.42522  # mean of GELU(z)^2 of a normal z, by quadrature
EXPAND = Operation("expand", "conv", kernel=1, nonlinear=True, normalised=True)
DEPTHWISE = Operation(
    "window", "conv", kernel=3, groups="depthwise", nonlinear=True, normalised=True
)
PROJECT = Operation("project", "conv", kernel=1, normalised=True)
MBCONV = Operation(
    "mbconv", "block", kernel=3, expansion=1, residual=True, parts=(EXPAND, DEPTHWISE, PROJECT)
)
LINEAR_WINDOW = replace(DEPTHWISE, nonlinear=False)
PLAIN = Operation("conv-relu", "conv", kernel=3, nonlinear=True)
MLP = Operation("mlp", "mlp", nonlinear=True, normalised=True, residual=True)
ATTENTION = Operation("attention", "attention", normalised=True, residual=True)
PRE_NORM = Operation(
    "pre-norm",
    "block",
    parts=(
        replace(ATTENTION, norm="layer"),
        replace(MLP, norm="layer", activation="gelu"),
    ),
)
OPERATIONS = {
    "conv": EXPAND,
    "linear": PROJECT,
    "not normalised": PLAIN,
    "inverted residual": MBCONV,
    "inverted, no residual": replace(MBCONV, residual=False),
    "separable": Operation("sep", "block", parts=(LINEAR_WINDOW, EXPAND)),
    "separable, rectified twice": Operation("sep", "block", parts=(EXPAND, DEPTHWISE, DEPTHWISE)),
    "transformer": Operation("transformer", "block", parts=(ATTENTION, MLP)),
    "gelu": replace(EXPAND, activation="gelu"),
    "gelu, not normalised": replace(PLAIN, activation="gelu"),
    "separable, gelu twice": Operation(
        "sep",
        "block",
        parts=tuple(replace(part, activation="gelu") for part in (EXPAND, DEPTHWISE)),
    ),
    "layer norm": replace(EXPAND, norm="layer"),
    "layer norm, linear": replace(PROJECT, norm="layer"),
    "pre-norm transformer": PRE_NORM,
    "skip": Operation("skip", "skip"),
}


def chain(
    *operations: Operation,
    sides: tuple[int, ...] | None = None,
    channels: tuple[int, ...] | None = None,
) -> GraphBatch:
    """One chain; sides and channels of the maps that leave its nodes, input and output included."""
    n = len(operations) + 2
    ends = Operation("input", "input"), Operation("output", "output")
    nothing = np.zeros((1, 1, n), np.int64)
    vocabulary = (ends[0], *dict.fromkeys(operations), ends[1])
    ids = [0, *map(vocabulary.index, operations), len(vocabulary) - 1]
    return GraphBatch(
        space="chain",
        vocabulary=vocabulary,
        stages=(0,),
        adjacency=np.eye(n, k=1, dtype=np.uint8)[None],
        ops=np.array([ids], np.int8),
        channels=np.array(channels or (16,) * n, np.int32)[None, None],
        flops=nothing,
        params=nothing,
        total_flops=np.ones(1, np.int64),
        total_params=np.ones(1, np.int64),
        resolution=np.array(sides or (8,) * n, np.int32)[None, None],
    )


def normalised(x: Images, norm: str = "batch") -> Images:
    axis = 0 if norm == "batch" else 1
    return (x - x.mean(axis, keepdims=True)) / x.std(axis, keepdims=True)


def activated(x: Images, operation: Operation) -> Images:
    """Apply the non-linearity; its energy is kept where no batch normalisation follows."""
    gelu = operation.activation == "gelu"
    x = x * ndtr(x) if gelu else np.maximum(x, 0)
    centred = operation.normalised and operation.norm == "batch"
    return x if centred else x / np.sqrt(GELU_ENERGY if gelu else 0.5)


def run(operation: Operation, x: Images, rng: np.random.Generator) -> Images:
    """Apply an operation with random weights; pre-activations go in and come out."""
    entered = x
    for part in operation.parts or (operation,):
        inner = x
        if part.kind == "skip":
            continue
        if part.mixes_channels:
            x = x @ rng.normal(size=(x.shape[1], WIDE)) / np.sqrt(x.shape[1])
        else:
            x = x * rng.normal(size=x.shape[1])
        if part.normalised:
            x = normalised(x, part.norm)
        if part.nonlinear:
            x = activated(x, part)
        if part.residual and part is not operation:
            left = mixed(x, rng)
            x = inner + (left if part.norm == "layer" else normalised(left))
    x = mixed(x, rng)
    return entered + x if operation.residual else x


def mixed(x: Images, rng: np.random.Generator) -> Images:
    """What the next convolution makes of it; its normalisation takes the mean away."""
    return x @ rng.normal(size=(x.shape[1], WIDE)) / np.sqrt(x.shape[1])


def differences(operations: list[Operation], centred: bool) -> list[float]:
    """Differences behind a wide random network of pairs that start with those of ``STARTS``."""
    rng = np.random.default_rng(0)
    one, other = [], []
    for d in STARTS:
        image, fresh = rng.normal(size=(2, PAIRS, WIDE))
        one.append(image)
        other.append((1 - d) * image + np.sqrt(1 - (1 - d) ** 2) * fresh)
    x = np.concatenate([*one, *other])
    for operation in operations:
        x = run(operation, x, rng)
    if centred:
        x = x - x.mean(0)
    left, right = np.split(x, 2)
    pairs = zip(np.split(left, len(STARTS)), np.split(right, len(STARTS)), strict=True)
    return [float(((a - b) ** 2).sum() / (a**2 + b**2).sum()) for a, b in pairs]


@pytest.mark.parametrize("name", OPERATIONS)
def test_differences_are_those_of_a_wide_random_network(name: str) -> None:
    operations = [OPERATIONS[name]] * 2
    found = feature_groups(chain(*operations))["differences"][0, : len(STARTS)]
    last = operations[0].steps[-1]
    expected = differences(operations, centred=last.normalised and last.norm == "batch")
    np.testing.assert_allclose(np.exp(found), expected, rtol=0.06)


def test_a_chain_of_inverted_residuals() -> None:
    entry = replace(MBCONV, residual=False)
    operations = [entry, MBCONV, MBCONV, entry, MBCONV]
    found = feature_groups(chain(*operations))["differences"][0, : len(STARTS)]
    np.testing.assert_allclose(np.exp(found), differences(operations, True), rtol=0.1)


def test_inputs_are_added_only_where_shapes_agree() -> None:
    """With other channels, or behind a stride, nothing is added."""
    kept = feature_groups(chain(MBCONV))["differences"]
    bare = feature_groups(chain(replace(MBCONV, residual=False)))["differences"]
    wider = feature_groups(chain(MBCONV, channels=(16, 24, 24)))["differences"]
    halved = feature_groups(chain(MBCONV, sides=(8, 4, 4)))["differences"]
    assert not np.allclose(kept, bare)
    np.testing.assert_array_equal(wider, bare)
    np.testing.assert_array_equal(halved, bare)


@pytest.mark.parametrize("side", [2, 3, 4, 5, 7])
def test_a_window_takes_the_mean_of_a_wave(side: int) -> None:
    omega = np.array([0.0, 0.3, 1.1])
    places = np.arange(side) - (side - 1) / 2
    expected = np.exp(1j * omega[:, None] * places).mean(1).real
    np.testing.assert_allclose(window_gain(side, omega), expected, atol=1e-6)


def test_waves_are_shorter_behind_a_stride() -> None:
    """A window behind a stride of two sees waves of twice the frequency."""
    window = replace(LINEAR_WINDOW, normalised=False)
    skip = OPERATIONS["skip"]
    before = feature_groups(chain(skip, window))["modes"].reshape(3, 4)
    behind = feature_groups(chain(skip, window, sides=(8, 4, 4, 4)))["modes"].reshape(3, 4)
    omega = np.array([0.2, 0.6, 1.2])
    gains = (1 + 2 * np.cos(np.stack([omega, 2 * omega]))) / 3
    start = np.array(STARTS)[:, None]
    np.testing.assert_allclose(before[:, 1:], np.log(np.abs(gains[0]) / start), atol=1e-4)
    np.testing.assert_allclose(behind[:, 1:], np.log(np.abs(gains[1]) / start), atol=1e-4)


def test_attention_levels_waves_that_the_residual_stream_keeps() -> None:
    """Tokens of a line whose differences wave, through layers with random queries and keys."""
    start, wave, tokens, layers = 0.1, 0.2, 24, 3
    rng = np.random.default_rng(0)
    ripple = np.cos(2 * np.pi * np.arange(tokens) / tokens)
    d = start * (1 + wave * ripple)
    image, fresh = rng.normal(size=(2, 12, 1, WIDE))
    one = np.repeat(image, tokens, 1)
    other = (1 - d[:, None]) * image + np.sqrt(1 - (1 - d[:, None]) ** 2) * fresh
    x = np.concatenate([one, other])
    for _ in range(layers):
        x = transformer_layer(x, rng)
    left, right = np.split(x, 2)
    energy = ((left - right) ** 2).sum((0, 2)) / (left**2 + right**2).sum((0, 2))
    left_of_wave = 2 * (energy * ripple).mean() / (start * wave)
    groups = feature_groups(chain(*[PRE_NORM] * layers))
    place = STARTS.index(start)
    modes = groups["modes"].reshape(len(STARTS), -1)
    np.testing.assert_allclose(energy.mean(), np.exp(groups["differences"][0, place]), rtol=0.1)
    slow = modes[place, 1]  # attention's window is the whole map, whatever the frequency
    np.testing.assert_allclose(left_of_wave / energy.mean(), np.exp(slow), rtol=0.1)


def transformer_layer(x: Images, rng: np.random.Generator) -> Images:
    """(images, tokens, channels): attention of one head and MLP, layer-normalised before each."""

    def linear(y: Images) -> Images:
        return y @ rng.normal(size=(y.shape[2], WIDE)) / np.sqrt(y.shape[2])

    def layer_norm(y: Images) -> Images:
        return (y - y.mean(2, keepdims=True)) / y.std(2, keepdims=True)

    y = layer_norm(x)
    products = linear(y) @ linear(y).transpose(0, 2, 1) / np.sqrt(WIDE)
    weights = np.exp(products - products.max(2, keepdims=True))
    x = x + linear(weights / weights.sum(2, keepdims=True) @ linear(y))
    hidden = linear(layer_norm(x))
    return x + linear(hidden * ndtr(hidden) / np.sqrt(GELU_ENERGY))


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_mirror_small_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tiny difference grows by on the way forth, a gradient grows by on the way back."""
    monkeypatch.setattr(signal_propagation, "STARTS", (1e-5,))
    groups = feature_groups(chain(*[OPERATIONS[name]] * 2))
    growth = groups["differences"][0, 0] - np.log(1e-5)
    assert groups["gradients"][0, 0] == pytest.approx(growth, abs=0.05)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EXPAND, replace(EXPAND, stride=2)),
        (replace(EXPAND, kernel=5), replace(EXPAND, kernel=3)),
        (MBCONV, replace(MBCONV, expansion=6)),
        (MBCONV, replace(MBCONV, residual=False)),
        (EXPAND, replace(EXPAND, groups="depthwise")),
        (ATTENTION, EXPAND),
        (PROJECT, EXPAND),
        (EXPAND, replace(EXPAND, norm="layer")),
        (EXPAND, replace(EXPAND, activation="gelu")),
    ],
)
def test_every_trait_changes_features(one: Operation, other: Operation) -> None:
    """The vocabulary alone is changed: same arrays, other features."""
    found = [graph_features(chain(operation, EXPAND)) for operation in (one, other)]
    assert found[0].shape != found[1].shape or not np.allclose(*found)


@pytest.mark.parametrize("operation", [EXPAND, OPERATIONS["skip"], MBCONV])
@pytest.mark.parametrize("dense", [False, True])
def test_features_are_finite_for_large_graphs(operation: Operation, dense: bool) -> None:
    """2^128 paths through 130 nodes, all of which are joined, are more than a float32 holds."""
    graphs = chain(*[operation] * 128)
    if dense:
        graphs = replace(graphs, adjacency=np.triu(np.ones((1, 130, 130), np.uint8), 1))
    assert np.isfinite(graph_features(graphs)).all()
