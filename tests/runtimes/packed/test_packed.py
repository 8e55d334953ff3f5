import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from binary_networks import Gated, SmallResNet, SmallVGG, all_outputs, binary_conv, made, paths
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasplatform.errors import BuildError, KernelError, NetworkError
from nasplatform.models.binary import BinaryConv2d, BinaryLinear
from nasplatform.models.network import Network
from nasplatform.models.structure import Structure
from nasplatform.runtimes.choice import choose_runtime, noise, open_session
from nasplatform.runtimes.packed import functions
from nasplatform.runtimes.packed.library import library
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.native import Native
from nasplatform.runtimes.packed.plan import Constants
from nasplatform.runtimes.packed.reference import run_reference
from nasplatform.runtimes.packed.session import PackedSession
from nasplatform.testing.runtimes import RuntimeContract
from nasplatform.testing.tiny import tiny_network

SHAPE = (1, 8, 8)


class TestBinaryNetworks(RuntimeContract):
    runtime_name = "packed"

    def network(self):
        return Network(made(SmallResNet), Structure({}))


class OneConvolution(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, images):
        return self.layer(images).flatten(1)


def exactly(module, images):
    """Every path makes what the reference makes and what torch makes, bit for bit."""
    program = lowered(module, images.shape[1:])
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    assert np.array_equal(run_reference(program, images), expected)
    for found in all_outputs(program, images):
        assert np.array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_binary_convolutions_are_those_of_torch_bit_for_bit(data):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]), "groups")
    inputs = groups * draw(st.integers(1, 70), "inputs")
    outputs = groups * draw(st.integers(1, 40), "outputs")
    small, tiny = st.integers(1, 3), st.integers(0, 3)
    kernel, stride, dilation = (draw(st.tuples(small, small)) for _ in range(3))
    padding = draw(st.one_of(st.tuples(tiny, tiny), st.just("valid")))
    if stride == (1, 1):
        padding = draw(st.one_of(st.just(padding), st.just("same")))
    area = draw(st.tuples(st.integers(7, 12), st.integers(7, 12)))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 99), "seed"))

    def random(*shape):
        return torch.randn(*shape, generator=rng)

    layer = BinaryConv2d.from_signs(
        random(outputs, inputs // groups, *kernel),
        random(outputs),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        shift=random(inputs) if draw(st.booleans(), "shift") else None,
        bias=random(outputs) if draw(st.booleans(), "bias") else None,
    )
    images = random(draw(st.integers(1, 5), "batch"), inputs, *area).round(decimals=1).numpy()
    exactly(OneConvolution(layer).eval(), images)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.integers(1, 9))
def test_binary_linear_layers_are_those_of_torch_bit_for_bit(inputs, outputs, batch):
    rng = torch.Generator().manual_seed(inputs)
    weight, scale = torch.randn(outputs, inputs, generator=rng), torch.rand(outputs, generator=rng)
    images = torch.randn(batch, inputs, 1, 1, generator=rng).numpy()
    exactly(nn.Sequential(nn.Flatten(), BinaryLinear.from_signs(weight, scale)).eval(), images)


@pytest.mark.parametrize("kind", [SmallResNet, SmallVGG])
@pytest.mark.parametrize("batch", [1, 2, 7, 70])
def test_networks_are_those_of_the_reference_bit_for_bit(kind, batch):
    module = made(kind)
    program, images = lowered(module, SHAPE), noise(SHAPE, batch)
    expected = run_reference(program, images)
    for found in all_outputs(program, images):
        assert np.array_equal(found, expected)
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    assert (logits.argmax(1) == expected.argmax(1)).all()
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(logits).max()


def test_a_layer_decides_the_bits_of_the_next_where_nothing_else_reads_its_floats():
    program = lowered(made(SmallVGG), SHAPE)
    fused = Constants(program).fused
    assert [program.steps[index].op for index in fused] == ["binary_conv"]
    thresholds = next(iter(fused.values()))[1]
    assert thresholds.flips.any()  # negative factors of the normalisation
    assert not Constants(lowered(made(SmallResNet), SHAPE)).fused.keys() - {1, 4}


def test_slopes_that_turn_a_sign_twice_are_no_threshold():
    """The second layer sees +1 for sums far from 0 of either sign."""
    first, prelu = binary_conv(16, 16), nn.PReLU(16, -1.0)
    second = binary_conv(16, 8, shift=torch.full((16,), -3.0))
    module = nn.Sequential(first, prelu, second, nn.Flatten()).eval()
    program, images = lowered(module, (16, 5, 5)), noise((16, 5, 5), 3)
    assert not Constants(program).fused
    with torch.no_grad():
        signs = prelu(first(torch.from_numpy(images))) >= 3
    assert 0.1 < signs.float().mean() < 0.99
    exactly(module, images)


class Mixed(nn.Module):
    """Every operation that has a step."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 8, 3, 2, 1, groups=2)
        self.deep = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
        self.linear = nn.Linear(18 * 4, 5)
        self.factor = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x):
        x = self.deep(torch.relu(self.conv(x)) * self.factor) - 0.5
        a = nn.functional.leaky_relu(nn.functional.max_pool2d(x, 3, 2, 1), 0.1)
        b = nn.functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        c = nn.functional.pad(x[:, 2:7, ::2, ::2], (0, 0, 0, 0, 1, 2)).clamp(max=1.0)
        d, e = b.split([3, 5], 1)
        x = torch.cat([a + b, d + torch.zeros_like(d), c[:, :2], e], 1)
        x = x + x + 1.0
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


@pytest.mark.parametrize("side", [16, 15])
def test_every_operation_is_torchs(side):
    torch.manual_seed(0)
    module = Mixed().eval()
    shape = (6, side, side)
    if side == 15:
        module.forward = Mixed.forward.__get__(module)
    program, images = lowered(module, shape), noise(shape, 4)
    expected = run_reference(program, images)
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    assert np.allclose(expected, logits, atol=1e-4)
    for found in all_outputs(program, images):
        assert np.array_equal(found, expected)


GATES = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": nn.functional.hardsigmoid,
    "relu6": lambda x: nn.functional.relu6(x + 3) / 6,
    "silu": nn.functional.silu,
    "hardswish": nn.functional.hardswish,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("batch", [1, 5, 70])
def test_gates_are_those_of_the_reference_bit_for_bit_and_nearly_torchs(gate, batch):
    torch.manual_seed(0)
    module, images = Gated(GATES[gate]).eval(), noise(SHAPE, batch)
    program = lowered(module, SHAPE)
    expected = run_reference(program, images)
    for found in all_outputs(program, images):
        assert np.array_equal(found, expected)
    assert open_session(module, SHAPE, "packed", (batch,)).session.runtime == "packed"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(functions.sigmoid, torch.sigmoid), (functions.gelu, nn.functional.gelu)],
)
def test_functions_are_torchs_within_rounding(ours, theirs):
    """Small and large, zeros of both signs, and what is no finite number."""
    edges = [0.0, -0.0, 1e-30, -1e-30, 86.9, 88.1, -87.1, 1e30, -1e30, np.inf, -np.inf, np.nan]
    x = np.concatenate([np.linspace(-20, 20, 100_001), edges]).astype(np.float32)
    with np.errstate(all="ignore"):
        found = ours(x)
    expected = theirs(torch.from_numpy(x).double()).numpy()
    expected[x == -np.inf] = 0 if theirs is torch.sigmoid else found[x == -np.inf]
    with np.errstate(invalid="ignore"):
        close = np.abs(found - expected) <= 4e-7 * np.maximum(1, np.abs(expected))
    assert (close | (found == expected) | np.isnan(found) & np.isnan(expected)).all()


def test_functions_of_the_kernels_are_those_of_numpy_bit_for_bit():
    """Whatever the numbers: every exponent, both signs, infinite and none."""
    bits = np.random.default_rng(0).integers(0, 2**32, 39_998, np.uint32)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 88.0, -87.0], np.float32)
    images = np.concatenate([bits.view(np.float32), edges]).reshape(-1, 7, 1, 1)
    for function in (torch.sigmoid, nn.functional.gelu):
        module = nn.Sequential(nn.Flatten(), Function(function)).eval()
        program = lowered(module, (7, 1, 1))
        with np.errstate(all="ignore"):
            expected = run_reference(program, images)
        for found in all_outputs(program, images):
            assert np.array_equal(found, expected, equal_nan=True)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.GELU("tanh"), nn.Flatten()), "GELU by tanh"),
        (nn.Sequential(nn.Softplus(), nn.Flatten()), "no 'softplus', which layer '0' computes"),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 2), nn.Flatten()), "a transposed"),
        (nn.Sequential(nn.Flatten(), nn.LogSoftmax(1)), "no '_log_softmax', which layer '1'"),
    ],
)
def test_what_cannot_be_expressed_is_named(module, words):
    with pytest.raises(BuildError, match=words):
        lowered(module, SHAPE)


def test_it_is_the_default_for_binary_networks_alone():
    assert choose_runtime(None, made(SmallVGG)).name == "packed"
    assert choose_runtime(None, tiny_network().module).name == "onnxruntime"
    assert open_session(made(SmallVGG), SHAPE, batches=(1, 64)).session.runtime == "packed"


def test_without_a_compiler_numpy_computes_and_says_so(tmp_path):
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from binary_networks import SmallResNet, made
from nasplatform.runtimes.choice import open_session
chosen = open_session(made(SmallResNet), (1, 8, 8))
print(chosen.session.runtime, chosen.note, sep="|")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],  # noqa: PTH120
        env={"PATH": "", "NASPLATFORM_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    name, note = done.stdout.strip().split("|")
    assert name == "packed"
    assert note == "packed computes with numpy, slowly: counting bits fast needs a C compiler (cc)"


def test_a_processor_without_vectors_computes_portably_and_says_so(monkeypatch):
    """As on one whose flags name neither AVX2 nor AVX-512."""
    module, images = made(SmallResNet), noise(SHAPE, 3)
    usual = open_session(module, SHAPE, "packed")
    assert (usual.note == "") == (len(paths()) > 1)
    monkeypatch.setattr(library(), "packed_best", lambda: 0)
    chosen = open_session(module, SHAPE, "packed")
    assert chosen.session.runtime == "packed"
    assert chosen.note == "packed counts bits slowly: the processor has neither AVX2 nor AVX-512"
    assert np.array_equal(chosen.session.run(images), usual.session.run(images))
    with pytest.raises(KernelError, match="this processor has no avx512, at best portable"):
        Native(lowered(module, SHAPE), 1, "avx512")


def test_a_forked_process_computes_alone():
    session = PackedSession(lowered(made(SmallVGG), SHAPE), threads=2)
    images = noise(SHAPE, 3)
    expected = session.run(images)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(session.run(images), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("images", "given"),
    [
        (noise((1, 9, 8), 2), r"float32 \(2, 1, 9, 8\)"),
        (noise(SHAPE, 1)[0], r"float32 \(1, 8, 8\)"),
        (noise(SHAPE, 2)[:0], r"float32 \(0, 1, 8, 8\)"),
        (noise(SHAPE, 2).astype(np.uint8), r"uint8 \(2, 1, 8, 8\)"),
        (noise(SHAPE, 2).astype(complex), r"complex128 \(2, 1, 8, 8\)"),
        (noise(SHAPE, 2).tolist(), "a list"),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_what_are_no_images_of_the_network_is_refused(images, given, native, monkeypatch):
    session = PackedSession(lowered(made(SmallVGG), SHAPE))
    if not native:
        monkeypatch.setattr(session, "_native", None)
    with pytest.raises(NetworkError, match=rf"images are {given}, expected floats \(B, 1, 8, 8\)"):
        session.run(images)


def test_images_of_any_layout_and_precision_are_taken():
    session, images = PackedSession(lowered(made(SmallVGG), SHAPE)), noise(SHAPE, 4)
    expected = session.run(images)
    assert np.array_equal(session.run(images[::-1])[::-1], expected)
    assert np.array_equal(session.run(np.asfortranarray(images)), expected)
    assert np.array_equal(session.run(images.astype(np.float64)), expected)


def test_the_portable_path_is_always_there():
    assert paths()[0] == "portable"
