import pytest
import torch
from torch import nn

from nasplatform.stages.dataflow import FeaturePoint, Layout
from nasplatform.stages.pipeline import make_stage

POINT = FeaturePoint("relu", nn.ReLU(), None, (3, 6, 5), Layout(), False, ())
FEATURES = torch.rand((40, 3, 6, 5), generator=torch.Generator().manual_seed(0)) + 1


def noisy(stage: str, prob: float, **options) -> torch.Tensor:
    torch.manual_seed(1)  # torch's dropout takes no generator
    made = make_stage(stage, options, "test")
    return made.noise(POINT)(FEATURES, prob, torch.Generator().manual_seed(2))


def test_dropblock_against_loops():
    """Blocks of zeros whose corners are drawn, and what is left scaled to the same mean."""
    found = noisy("dropblock", 0.2, block=3)
    noise = torch.rand((40, 3, 4, 3), generator=torch.Generator().manual_seed(2))
    gamma = 0.2 * 30 / 9 / 12  # equation 1
    keep = torch.ones_like(FEATURES)
    for image, channel, y, x in torch.nonzero(noise < gamma).tolist():
        keep[image, channel, y : y + 3, x : x + 3] = 0
    expected = FEATURES * keep * keep.numel() / keep.sum()
    torch.testing.assert_close(found, expected)
    assert float(found.mean()) == pytest.approx(float(FEATURES.mean()), rel=0.01)


def test_dropout_takes_elements_and_dropout2d_channels():
    elements, channels = noisy("dropout", 0.3) == 0, noisy("dropout2d", 0.3) == 0
    assert float(elements.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(channels.float().mean()) == pytest.approx(0.3, abs=0.08)
    share = channels.float().mean((2, 3))
    assert set(share.flatten().tolist()) == {0.0, 1.0}
    kept = noisy("dropout", 0.3)[~elements]
    torch.testing.assert_close(kept, FEATURES[~elements] / 0.7)


@pytest.mark.parametrize(
    ("stage", "schedule"),
    [
        ("dropout", "constant"),
        ("dropout2d", "constant"),
        ("dropblock", "linear"),
        ("disout", "linear"),
    ],
)
def test_schedules_are_those_of_the_papers(stage, schedule):
    assert make_stage(stage, {}, "test").options.schedule == schedule
