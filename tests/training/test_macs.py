"""Multiply-adds against closed forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from nasplatform.errors import NetworkError
from nasplatform.training.flops import count_macs


class Does(nn.Module):
    """A function of a layer and a batch whose result is the first thing that it returns."""

    def __init__(self, function, layer=None):
        super().__init__()
        self.layer = layer or nn.Identity()
        self.function = function

    def forward(self, x):
        made = self.function(self.layer, x)
        return made[0] if isinstance(made, tuple) else made


def layer(made: nn.Module) -> nn.Module:
    return Does(lambda inner, x: inner(x), made)


TOKENS, WIDTH, HIDDEN = 32, 32, 64
PROJECTIONS = 4 * TOKENS * WIDTH * WIDTH  # q, k, v and out
ATTENTION = 2 * TOKENS * TOKENS * WIDTH  # scores, and the mean of the values
MLP = 2 * TOKENS * WIDTH * HIDDEN


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), (3, 8, 6), 3 * 4 * 9 * 48),
        (nn.Conv2d(4, 8, 3, groups=4), (4, 5, 5), 8 * 9 * 9),
        (nn.Conv1d(3, 4, 3), (3, 8), 3 * 4 * 3 * 6),
        (nn.ConvTranspose2d(3, 4, 3), (3, 8, 8), 3 * 4 * 9 * 64),
        (nn.Linear(8, 5), (3, 8), 3 * 8 * 5),
        (layer(nn.LSTM(16, 12, batch_first=True)), (64, 16), 64 * 4 * 12 * (16 + 12)),
        (layer(nn.GRU(16, 12, batch_first=True)), (64, 16), 64 * 3 * 12 * (16 + 12)),
        (layer(nn.RNN(16, 12, batch_first=True)), (64, 16), 64 * 12 * (16 + 12)),
        (layer(nn.LSTM(16, 12, 2, bidirectional=True, batch_first=True)), (8, 16),
         8 * 2 * 4 * 12 * ((16 + 12) + (24 + 12))),
        (layer(nn.LSTMCell(16, 12)), (16,), 4 * 12 * (16 + 12)),
        (layer(nn.GRUCell(16, 12)), (16,), 3 * 12 * (16 + 12)),
        (Does(lambda inner, x: inner(x, x, x), nn.MultiheadAttention(32, 4, batch_first=True)),
         (TOKENS, WIDTH), PROJECTIONS + ATTENTION),
        (nn.TransformerEncoderLayer(32, 4, HIDDEN, batch_first=True), (TOKENS, WIDTH),
         PROJECTIONS + ATTENTION + MLP),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, HIDDEN, batch_first=True), 2),
         (TOKENS, WIDTH), 2 * (PROJECTIONS + ATTENTION + MLP)),
        (Does(lambda inner, x: functional.scaled_dot_product_attention(x, x, x)), (4, 32, 8),
         4 * 2 * 32 * 32 * 8),
        (Does(lambda inner, x: torch.einsum("bij,bkj->bik", x, x)), (3, 8), 3 * 3 * 8),
        (Does(lambda inner, x: x[0] @ torch.ones(8)), (3, 8), 3 * 8),
        (Does(lambda inner, x: x[0, 0] @ torch.ones(8)), (3, 8), 8),
        (Does(lambda inner, x: torch.addbmm(torch.ones(3, 3), x, x.mT)), (3, 8), 3 * 3 * 8),
        (Does(lambda inner, x: torch.conv_tbc(x.permute(2, 0, 1), torch.ones(2, 3, 5),
                                              torch.ones(5))), (3, 8), 7 * 2 * 3 * 5),
        (spectral_norm(nn.Linear(8, 5)), (3, 8), 3 * 8 * 5 + 5 * 8 + 5),  # and u (W v)
        (Does(lambda inner, x: functional.normalize(x)), (3, 8), 0),
    ],
)  # fmt: skip
def test_counts_are_the_closed_form(module, shape, expected):
    assert count_macs(module, shape) == expected


def test_named_examples():
    """The figures that a reader would look up."""
    assert PROJECTIONS + ATTENTION == 196_608
    assert PROJECTIONS + ATTENTION + MLP == 327_680
    assert 64 * 4 * 12 * (16 + 12) == 86_016


def test_branch_that_an_empty_image_skips_counts():
    module = Does(lambda inner, x: inner(x) if bool(x.std() > 0) else x, nn.Linear(8, 5))
    assert count_macs(module, (3, 8)) == 3 * 8 * 5


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda inner, x: torch.fft.fft(x).real, "_fft_r2c"),
        (lambda inner, x: torch.linalg.inv(x @ x.mT), "linalg_inv_ex"),
        (lambda inner, x: torch.cdist(x, x), "_cdist_forward"),
        (lambda inner, x: nn.functional.bilinear(x, x, torch.ones(2, 8, 8)), "_trilinear"),
    ],
)
def test_what_cannot_be_counted_is_refused_by_name(function, name):
    with pytest.raises(NetworkError, match=f"operation '{name}' cannot be counted"):
        count_macs(Does(function), (3, 8))


def test_switches_of_torch_are_put_back():
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    count_macs(nn.Linear(8, 5), (8,))
    with pytest.raises(NetworkError):
        count_macs(Does(lambda inner, x: torch.fft.fft(x).real), (8,))
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.backends.mkldnn.enabled == onednn


class LearnedQuery(nn.Module):
    """A layer is given a view of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.layer = nn.Parameter(torch.rand(1, 4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(self.query.expand(len(x), -1)) + x.mean((1, 2, 3))[:, None]


def test_views_of_parameters_are_counted_and_parameters_go_on_learning():
    module = LearnedQuery()
    assert count_macs(module, (1, 8, 8)) == 12
    assert all(parameter.requires_grad for parameter in module.parameters())
