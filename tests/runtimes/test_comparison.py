import numpy as np

from nasplatform.runtimes.choice import noise
from nasplatform.runtimes.comparison import compared, instead
from nasplatform.testing.tiny import tiny_network

SHAPE = (1, 8, 8)


def test_a_network_stands_beside_float32_and_both_kinds_of_int8():
    module = tiny_network().module
    found = compared(module, module, noise(SHAPE, 4))
    assert [one.runtime for one in found] == [
        *("onnxruntime", "onnxruntime-int8-static", "onnxruntime-int8-dynamic", "onnxruntime"),
    ]
    assert all(one.median_ms > 0 and one.threads == 1 for one in found)


def test_int8_is_near_float32():
    images = noise(SHAPE, 8)
    exact, *rounded = (s.run(images) for s in instead(tiny_network().module, images))
    for made in rounded:
        assert 0 < np.abs(made - exact).max() < 0.2 * np.abs(exact).max()
