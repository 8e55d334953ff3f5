from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network


def test_sizes_are_those_of_the_literature():
    """4.57 million weights of convolutions (4.6 M in LQ-Nets), 82 thousand of the head."""
    module = Network.named("vgg-small").module
    convolutions = 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
    normalisations = 2 * 2 * (128 + 256 + 512)
    head = 512 * 4 * 4 * 10 + 10
    assert count_parameters(module, (3, 32, 32)) == convolutions + normalisations + head
