import numpy as np
import torch

from nasplatform.predictors.renas import ReNASNetwork, _folded


def test_published_network_has_its_published_size() -> None:
    network = ReNASNetwork(19, 7)
    assert sum(p.numel() for p in network.parameters()) == 19 * 38 * 9 + 38 * 128 * 9 + 2 * (
        38 + 128
    ) + (6272 * 120 + 120) + (120 * 84 + 84) + (84 + 1)


def test_folding_the_normalisation_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 19, 7, 7, generator=generator)
    network = ReNASNetwork(19, 7)
    network(inputs)  # the running statistics are no longer 0 and 1
    network.eval()
    with torch.inference_mode():
        expected = network(inputs).numpy()
        found = _folded(network)(inputs).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
