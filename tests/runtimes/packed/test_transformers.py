"""Transformers in the packed runtime: tokens, heads, softmax, and whatever moves them about."""

import numpy as np
import pytest
import torch
from binary_networks import all_outputs
from binary_transformers import Transformer, binary_transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformer_kinds import EVERY, SHAPE

from nasplatform.errors import BuildError
from nasplatform.models.binary import binary_layers
from nasplatform.runtimes.choice import noise, open_session
from nasplatform.runtimes.packed import functions
from nasplatform.runtimes.packed.costs import program_costs
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.native import Native
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.reference import run_reference
from nasplatform.runtimes.packed.steps import Step
from nasplatform.spaces import get_space
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded

REFUSED = {"performer": "no 'pow', which layer 'network.stages.0.entry.attend.0.mixer' computes"}
"""Random features, which no sub-space has."""


class Computed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).flatten(1)


def agrees(module, shape, batch=4, tolerance=1e-5):
    """Every path makes the bits of the reference, and nearly the logits of torch."""
    program, images = lowered(module.eval(), shape), noise(shape, batch)
    expected = run_reference(program, images)
    for found in all_outputs(program, images):
        assert np.array_equal(found, expected)
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    assert np.abs(expected - logits).max() <= tolerance * max(1, np.abs(logits).max())
    return program


@pytest.mark.parametrize("kind", sorted(EVERY.keys() - REFUSED.keys()))
def test_every_kind_of_transformer_computes_what_torch_does(kind):
    with seeded(0):
        module = Transformer(kind)
    program = agrees(module, SHAPE)
    counted = [step.op for step in program.steps].count("binary_conv")
    assert counted == len(binary_layers(module)) >= 12
    costs = program_costs(program)
    assert costs.macs + costs.binary_macs == count_macs(module, SHAPE)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_step_is_refused_with_its_layer(kind):
    with seeded(0), pytest.raises(BuildError, match=REFUSED[kind]):
        lowered(Transformer(kind), SHAPE)


def test_what_is_constant_is_there_when_a_session_computes_again():
    with seeded(0):
        program = lowered(Transformer("class").eval(), SHAPE)
    native, images = Native(program), noise(SHAPE, 4)
    expected = native.run(images)
    native.run(noise(SHAPE, 8)[4:])
    assert np.array_equal(native.run(images), expected)


@pytest.mark.parametrize("draw", range(6))
def test_members_of_the_sub_space_of_digits(draw):
    space = get_space("vit", subspace="digits")
    [member] = space.sample(1, np.random.default_rng(draw))
    with seeded(draw):
        module = binary_transformer(member, space.options.input_shape)
    agrees(module, space.options.input_shape)
    chosen = open_session(module, space.options.input_shape, batches=(1, 64))
    assert chosen.session.runtime == "packed"
    assert not chosen.note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subspace", "side"),
    [("autoformer-tiny", 64), ("pyramid", 224), ("hybrid", 64), ("pit-tiny", 64)],
)
def test_members_of_the_other_sub_spaces_run_at_a_small_size(subspace, side):
    """The reference would take minutes."""
    shape = (3, side, side)
    space = get_space("vit", subspace=subspace, input_shape=shape, classes=3)
    [member] = space.sample(1, np.random.default_rng(0))
    with seeded(0):
        module = binary_transformer(member, shape)
    chosen = open_session(module, shape, "packed")
    assert (chosen.session.runtime, chosen.note) == ("packed", "")


def test_heads_of_attention_are_those_of_torch():
    """Products, a scale, a mask and shares, with queries and keys of other numbers."""
    mask = torch.zeros(3, 7, 5)
    mask[:, 2, 1:] = -torch.inf

    def attend(x):
        heads = x.unflatten(2, (3, 6)).transpose(1, 2)
        queries, keys = heads[:, :, :7], heads[:, :, 7:12]
        return functional.scaled_dot_product_attention(queries, keys, keys * 2, mask, scale=0.7)

    module = nn.Sequential(nn.Flatten(2), Computed(lambda x: attend(x.mT)))
    agrees(module, (18, 3, 4))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_products_of_maps_are_those_of_torch(data):
    groups, rows, depth, columns = (data.draw(st.integers(1, most)) for most in (4, 9, 20, 40))

    def multiply(x):
        left, right = x[:, 0].split([rows * depth, depth * columns], -1)
        left = left.unflatten(-1, (rows, depth))
        if heads_inside:  # as the projections of attention lay them out
            left = left.transpose(1, 2).contiguous().transpose(1, 2)
        return left @ right.unflatten(-1, (depth, columns))

    heads_inside = data.draw(st.booleans())
    shape = (1, groups, depth * (rows + columns))
    agrees(Computed(multiply), shape, data.draw(st.integers(1, 5)))


CONSTANT = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
PARTS = {
    "weights-of-each-group": lambda x: x[:, :, :, :5] @ CONSTANT,
    "weights-on-the-left": lambda x: CONSTANT.mT @ x[:, :, :, :].transpose(2, 3)[:, :, :5],
    "weights-by-row": lambda x: torch.einsum("bhrd,rdj->bhrj", x[..., :5], CONSTANT[:5]),
    "softmax-of-rows": lambda x: x.softmax(-1),
    "softmax-of-columns": lambda x: x.softmax(2),
    "softmax-of-channels": lambda x: x.softmax(1),
    "norm-of-rows": lambda x: functional.layer_norm(x, (7,), CONSTANT.flatten()[:7]),
    "norm-of-many": lambda x: functional.layer_norm(x.flatten(2), (35,), None, None, 0.1),
    "token": lambda x: torch.cat([CONSTANT[:1, :1, :1].expand(len(x), 6, 5, 1), x], 3),
    "positions": lambda x: x.flatten(2).mT + CONSTANT[0, 0, 0] * torch.arange(35.0)[:, None],
    "rolled": lambda x: torch.roll(x, (-1, 2), (2, 3)).relu(),
    "flipped": lambda x: x.flip(1, 3) * x,
    "chosen": lambda x: x[:, torch.tensor([3, 0, 0])],
    "stacked": lambda x: torch.stack([x, 2 * x, x.relu()]).mean(0),
    "unfolded": lambda x: functional.unfold(x, 3, padding=1, stride=2),
    "summed": lambda x: x.sum((1, 3)) - x.mean((1, 3)) + x.sum(1).mean(-1),
    "broadcast": lambda x: x[:, :, :, None, :5] + x[:, :, None, :, :5].mT,
    "one-for-each-channel": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "one-for-each-row": lambda x: x * x.mean(3, keepdim=True),
    "difference": lambda x: x - x.relu().transpose(2, 3).reshape(x.shape),
    "from-one": lambda x: 1 - x.permute(0, 3, 1, 2),
    "slopes": lambda x: functional.prelu(x, CONSTANT.flatten()[:6]),
    "shuffled": lambda x: functional.pixel_shuffle(torch.cat([x, x[:, :2]], 1), 2).tanh(),
    "filled": lambda x: functional.pad(x, (1, 0, 0, 2, 1, 1))[:, 1:, 1:],
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_transformers_are_those_of_torch(name):
    agrees(Computed(PARTS[name]), (6, 5, 7))


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: x.flip(0),
        lambda x: x + x.mean(0, keepdim=True),
        lambda x: x.flatten(1) @ x.flatten(1).T,
        lambda x: x * torch.arange(3.0)[:, None, None, None],
        lambda x: torch.roll(x, 1, 0).softmax(1),
    ],
)
def test_networks_that_mix_images_are_refused(mixing):
    with pytest.raises(BuildError, match="the packed runtime cannot express"):
        lowered(Computed(mixing).eval(), (2, 4, 4))


def test_what_is_masked_has_no_share_at_all():
    values = np.array([[0.0, -np.inf, -1.0], [5.0, -200.0, 5.0]], np.float32)
    found = functions.softmax(values)
    assert (found[:, 1] == 0).all()
    assert np.allclose(found, torch.from_numpy(values).softmax(-1), atol=1e-7)


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 100])
def test_kernels_normalise_whatever_the_numbers(channels):
    """Also of what is no number; all paths make the same bits."""
    images = noise((4, 3, channels), 6)
    images[1, 0, 1, 0], images[2, 1, 0, -1], images[3, 2, 2, 0] = np.nan, np.inf, -np.inf
    images[4] *= 1e30
    for function in (lambda x: x.softmax(-1), lambda x: functional.layer_norm(x, (channels,))):
        program = lowered(Computed(function).eval(), (4, 3, channels))
        with np.errstate(all="ignore"):
            expected = run_reference(program, images)
        for found in all_outputs(program, images):
            assert np.array_equal(found, expected, equal_nan=True)


def gather(places, length=2, shape=(1, 1, 4)):
    return {"t": np.array(places, np.int32)}, [
        Step(op="gather", parts=((0, "t"),), inputs=length, shape=shape)
    ]


def multiplied(shape, **sizes):
    tensors = {"t": np.zeros(shape, np.float32)}
    return tensors, [
        Step(op="constant", weight="t", shape=shape),
        Step(op="product", source=0, other=1, **sizes),
    ]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (gather([0, 7]), "places beyond the 8 of map 0"),
        (gather([-2, 0]), "places beyond the 8 of map 0"),
        (gather([0]), r"expected int32 \(2,\)"),
        (gather([0, 1, 2], 3), "in runs of 3"),
        (gather([0, 0], 2, (0, 1, 4)), r"a map of \(0, 1, 4\)"),
        (gather([0, 0], 2, (2**20, 2**20, 2**20)), "makes a map of"),
        (multiplied((1, 7, 16), inputs=8, outputs=4), "weights of"),
        (multiplied((2, 8, 16), inputs=8, outputs=4), "weights of"),
        (multiplied((1, 8, 16), inputs=4, outputs=4), "1 groups of 4 channels, given 8"),
        (({}, [Step(op="view", shape=(1, 1, 9))]), "as"),
        (({}, [Step(op="constant", weight="t", shape=(1, 1, 9))]), "'t'"),
        (({}, [Step(op="layer_norm", weight="t")]), "'t'"),
    ],
)
def test_programs_that_would_read_beyond_their_maps_are_refused(made, words):
    tensors, steps = made
    with pytest.raises(ValueError, match=words):
        Program((1, 1, 8), tuple(steps), tensors)
