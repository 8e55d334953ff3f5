from nasplatform import plugins
from nasplatform.testing.networks import NetworkContract


class TestResNet(NetworkContract):
    network_name = "resnet"
    options = {"depth": 8, "width": 4, "input_shape": (1, 8, 8), "classes": 3}  # noqa: RUF012


class TestVGGSmall(NetworkContract):
    network_name = "vgg-small"
    options = {"width": 4, "input_shape": (1, 8, 8), "classes": 3}  # noqa: RUF012


def test_every_network_is_tested():
    tested = {kind.network_name for kind in NetworkContract.__subclasses__()}
    assert set(plugins.names("networks")) <= tested
