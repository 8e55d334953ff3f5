import network_kinds as kinds
import pytest
import torch
from torch import nn

from nasplatform.stages.dataflow import Layout, feature_points

SHAPE = (1, 8, 8)


def grid(module: nn.Module) -> torch.Tensor:
    *_, last = feature_points(module, SHAPE)
    assert last.name.startswith("blocks")
    return last.layout.places


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("extra", "last", "offset"), [(0, False, 0), (1, False, 1), (3, False, 3), (1, True, 0)]
)
def test_the_grid_of_tokens_is_found_by_what_they_see(cut, extra, last, offset):
    """Patches of 2 x 4 in 8 x 8 images: four rows of two, whatever tokens are put beside."""
    found = grid(kinds.Transformer(cut, extra, last))
    assert torch.equal(found, torch.arange(8).view(4, 2) + offset)


def test_tokens_that_first_appear_normalised():
    """The sum of a normalised token is constant, whatever it sees."""

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.hidden = nn.Conv2d(1, 6, (2, 4), (2, 4)), nn.Linear(6, 6)
            self.head = nn.Linear(6, 3)

        def forward(self, images):
            tokens = self.patch(images).flatten(2).transpose(1, 2)
            tokens = self.hidden(nn.functional.layer_norm(tokens, (6,)))
            return self.head(tokens.mean(1))

    point = feature_points(Normalised(), SHAPE)[-1]
    assert torch.equal(point.layout.places, torch.arange(8).view(4, 2))


def test_tokens_first_and_images_second():
    point = next(
        p for p in feature_points(kinds.Transformer(library=True), SHAPE) if "blocks" in p.name
    )
    assert point.layout.first == 1
    assert torch.equal(point.layout.places, torch.arange(8).view(4, 2) + 1)


def test_tokens_without_a_grid_are_a_column():
    """Patches in no order: no row lies behind the one before."""

    class Shuffled(kinds.Transformer):
        def forward(self, images):
            order = torch.tensor([3, 1, 0, 2])
            return super().forward(images.reshape(-1, 1, 4, 2, 8)[:, :, order].reshape(-1, 1, 8, 8))

    assert torch.equal(grid(Shuffled(extra=1)), torch.arange(1, 9).view(8, 1))


@pytest.mark.parametrize(
    ("layout", "shape", "map_shape"),
    [
        (Layout(), (2, 3, 4, 5), (2, 3, 4, 5)),
        (Layout(-1), (2, 4, 5, 3), (2, 3, 4, 5)),
        (Layout(-1), (2, 3), (2, 3, 1, 1)),
        (Layout(-1, torch.arange(6).view(2, 3) + 1), (2, 7, 5), (2, 5, 2, 3)),
        (Layout(-1, torch.arange(6).view(2, 3) + 1, 1), (7, 2, 5), (2, 5, 2, 3)),
    ],
)
def test_what_is_read_is_written_back(layout, shape, map_shape):
    features = torch.randn(shape)
    read = layout.read(features)
    assert read.shape == map_shape
    assert torch.equal(layout.write(features, read), features)


def test_only_tokens_of_the_grid_are_written():
    layout = Layout(-1, torch.tensor([[1, 2], [3, 4]]))
    features = torch.randn(2, 6, 3)
    written = layout.write(features, torch.zeros(2, 3, 2, 2))
    assert torch.equal(written[:, [0, 5]], features[:, [0, 5]])
    assert not written[:, 1:5].any()
    token = layout.read(features)[:, :, 1, 0]
    assert torch.equal(token, features[:, 3])
