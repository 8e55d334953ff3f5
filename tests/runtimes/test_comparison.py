import numpy as np
from torch import nn

from nasplatform.runtimes.choice import noise
from nasplatform.runtimes.comparison import alternatives, float_sessions
from nasplatform.testing.tiny import tiny_network

SHAPE = (1, 8, 8)


def test_a_network_is_timed_in_float32_and_both_kinds_of_int8():
    found = alternatives(tiny_network().module, noise(SHAPE, 4))
    assert list(found) == [
        *("onnxruntime", "onnxruntime-int8-static", "onnxruntime-int8-dynamic"),
    ]
    assert all(each > 0 for each in found.values())


def test_int8_is_near_float32():
    images = noise(SHAPE, 8)
    exact, *rounded = (s.run(images) for s in float_sessions(tiny_network().module, images))
    assert len(rounded) == 2
    for made in rounded:
        assert 0 < np.abs(made - exact).max() < 0.2 * np.abs(exact).max()


def test_the_quantiser_gives_no_advice_that_nobody_can_follow(caplog):
    tokens = nn.Sequential(nn.Flatten(2), nn.LayerNorm(64), nn.Linear(64, 8), nn.Flatten())
    assert len(alternatives(tokens, noise(SHAPE, 4))) == 3
    assert caplog.messages == []
