import copy

import numpy as np
import pytest
import torch
from signed_networks import CASES, SHAPE, Perceptron
from torch import Tensor, nn

from nasplatform.stages.binarize.estimators import DoReFa, Fourier, ReCU
from nasplatform.stages.binarize.layers import (
    Binarisation,
    Clock,
    LatentLayer,
    latent_layers,
    with_latent_layers,
)
from nasplatform.stages.binarize.noise import NoiseOptions
from nasplatform.stages.binarize.roles import roles
from nasplatform.stages.binarize.structure import first_shifts, names_after, signing_edit
from nasplatform.training.seeding import seeded


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_convolution(x: np.ndarray, signs: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """Sum of the signs that agree less those that do not; what lies outside the map is 0."""
    (sy, sx), (py, px), (dy, dx) = layer.stride, layer.padding, layer.dilation
    outputs, each, height, width = signs.shape
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    rows = (padded.shape[2] - dy * (height - 1) - 1) // sy + 1
    columns = (padded.shape[3] - dx * (width - 1) - 1) // sx + 1
    made = np.zeros((len(x), outputs, rows, columns))
    for o in range(outputs):
        first = o // (outputs // layer.groups) * each
        for i, j in np.ndindex(rows, columns):
            y, z = i * sy, j * sx
            window = padded[
                :, first : first + each, y : y + dy * height : dy, z : z + dx * width : dx
            ]
            made[:, o, i, j] = (window * signs[o]).sum((1, 2, 3))
    return made


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"padding": (2, 0), "dilation": 2, "bias": False},
        {"groups": 2, "padding": 1},
    ],
)
@pytest.mark.parametrize("estimator", [Fourier(), DoReFa()], ids=lambda e: e.name)
@pytest.mark.parametrize("shifted", [False, True])
def test_convolution_of_signs_against_loops(options, estimator, shifted):
    with seeded(0):
        layer = nn.Conv2d(4, 6, 3, **options)
    shift = drawn(4, seed=3) if shifted else None
    latent = LatentLayer(layer, shift, Binarisation(estimator, NoiseOptions())).eval()
    x = drawn(2, 4, 7, 7, seed=1)
    moved = x if shift is None else x + shift[:, None, None]
    weight = layer.weight.detach().numpy()
    signs, given = np.where(weight >= 0, 1.0, -1.0), np.where(moved.numpy() >= 0, 1.0, -1.0)
    size = np.abs(weight).mean((1, 2, 3))
    if estimator.scale_of_layer:
        size = np.full(6, size.mean())
    expected = slow_convolution(given, signs, layer) * size[:, None, None]
    if layer.bias is not None:
        expected += layer.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(latent(x).detach(), expected, rtol=1e-5, atol=1e-5)


def test_linear_layer_of_signs_on_tokens():
    with seeded(0):
        layer = nn.Linear(6, 5)
    latent = LatentLayer(layer, torch.full((6,), -0.5), Binarisation(Fourier())).eval()
    x = drawn(2, 7, 6)
    signs = torch.where(layer.weight >= 0, 1.0, -1.0)
    given = torch.where(x >= 0.5, 1.0, -1.0)
    expected = (given @ signs.T) * layer.weight.abs().mean(1) + layer.bias
    torch.testing.assert_close(latent(x), expected)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_noise_stands_beside_the_signs_in_training_only(kind):
    with seeded(0):
        layer = nn.Conv2d(4, 6, 3, bias=False) if kind == "conv" else nn.Linear(4, 6, bias=False)
        how = Binarisation(Fourier(), NoiseOptions(share=0.5, reduction=2))
        latent = LatentLayer(layer, None, how)
    x = drawn(2, 4, 5, 5) if kind == "conv" else drawn(2, 5, 4)
    how.clock.done = 0.5  # half of the share is left
    flat = layer.weight.flatten(1)
    weight = torch.sign(flat) + 0.25 * latent.weight_noise(flat)
    given = torch.sign(x) + 0.25 * latent.activation_noise(x)
    product = nn.functional.conv2d if kind == "conv" else nn.functional.linear
    size = flat.abs().mean(1)
    expected = product(given, weight.view_as(layer.weight))
    expected = expected * (size[:, None, None] if kind == "conv" else size)
    torch.testing.assert_close(latent.train()(x), expected)
    plain = latent.eval()(x)
    assert not torch.allclose(plain, expected)
    how.clock.done = 1.0
    assert torch.equal(latent.train()(x), plain)  # in the last step nothing is left of it


def test_gradients_reach_weights_noise_and_thresholds():
    with seeded(0):
        how = Binarisation(Fourier(), NoiseOptions())
        latent = LatentLayer(nn.Conv2d(4, 6, 3), torch.zeros(4), how).train()
    (latent(drawn(2, 4, 5, 5)) ** 2).sum().backward()
    for name, parameter in latent.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_recu_hands_on_the_signs_that_it_computed_with():
    with seeded(0):
        layer = nn.Conv2d(4, 6, 3)
        layer.weight.data += 0.05  # so that the filters' means matter
    latent = LatentLayer(layer, None, Binarisation(ReCU())).eval()
    x = drawn(2, 4, 5, 5)
    size = layer.weight.abs().mean((1, 2, 3))[:, None, None]
    made = nn.functional.conv2d(torch.sign(x), latent.signs()) * size + layer.bias[:, None, None]
    assert torch.equal(latent(x), made)
    assert not torch.equal(latent.signs(), torch.sign(layer.weight))


def test_the_clock_is_one_for_all_copies_and_ends_at_one():
    clock = Clock()
    other = copy.deepcopy(clock)
    done = []
    for step in range(4):
        clock.at(step, 4)
        done.append(other.done)
    assert done == pytest.approx([0, 1 / 3, 2 / 3, 1])
    clock.at(0, 1)
    assert other.done == 1.0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shortcuts", [False, True])
def test_networks_of_many_kinds_compute_with_signs(name, shortcuts):
    """Every chosen layer reads both signs and learns, and makes whole numbers times its scale."""
    with seeded(0):
        module = CASES[name].make()
    parts = roles(module, SHAPE)
    edit = signing_edit(module, parts, SHAPE, shortcuts)
    images = drawn(16, *SHAPE)
    prepared = edit.apply(copy.deepcopy(module))
    names = names_after(edit, parts.chosen)
    shifts = first_shifts(prepared, names, images, False)
    latent = with_latent_layers(prepared, shifts, Binarisation(Fourier()))
    assert list(latent_layers(latent)) == sorted(names, key=list(latent_layers(latent)).index)
    shares = {}

    def note(layer, given, made):
        moved = given[0] if layer.shift is None else given[0] + layer._of_channels(layer.shift)
        shares[layer] = float((moved >= 0).float().mean())
        whole = made - (0 if layer.layer.bias is None else layer._of_channels(layer.layer.bias))
        whole = whole / layer._of_channels(layer.scale)
        torch.testing.assert_close(whole, whole.round(), atol=1e-3, rtol=0)

    for layer in latent_layers(latent).values():
        layer.register_forward_hook(note)
    latent.train()(images).logsumexp(1).sum().backward()
    assert len(shares) == len(names) > 0
    assert all(0.1 <= share <= 0.9 for share in shares.values())
    for layer in latent_layers(latent).values():
        assert float(layer.layer.weight.grad.abs().sum()) > 0


def test_thresholds_stand_where_inputs_have_one_sign():
    with seeded(0):
        module = Perceptron()
    images, names = drawn(32, *SHAPE), ["3"]
    behind_relu = first_shifts(module, names, images, everywhere=False)
    hidden = torch.relu(module[1](images.flatten(1)))
    assert torch.allclose(behind_relu["3"], -hidden.mean(0))
    module[2] = nn.Identity()
    assert first_shifts(module, names, images, everywhere=False) == {"3": None}
    everywhere = first_shifts(module, names, images, everywhere=True)["3"]
    assert torch.allclose(everywhere, -module[1](images.flatten(1)).mean(0))
