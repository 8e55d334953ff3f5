from nasplatform import plugins
from nasplatform.testing.networks import NetworkContract


class TestResNet(NetworkContract):
    network_name = "resnet"
    options = {"depth": 8, "width": 4, "input_shape": (1, 8, 8), "classes": 3}  # noqa: RUF012


class TestResNetOfFourStages(NetworkContract):
    network_name = "resnet"
    options = {  # noqa: RUF012
        "depth": 18,
        "width": 2,
        "stem": "imagenet",
        "shortcut": "padding",
        "input_shape": (1, 8, 8),
        "classes": 3,
    }


class TestVGGSmall(NetworkContract):
    network_name = "vgg-small"
    options = {"width": 4, "input_shape": (1, 8, 8), "classes": 3}  # noqa: RUF012


class TestVit(NetworkContract):
    network_name = "vit"
    options = {  # noqa: RUF012
        "architecture": "average/conv2s2+w8+learned:h2w8-mlp2",
        "input_shape": (1, 8, 8),
        "classes": 3,
    }


def test_every_network_is_tested():
    tested = {kind.network_name for kind in NetworkContract.__subclasses__()}
    assert set(plugins.names("networks")) <= tested
