import pytest

from nasplatform.errors import ConfigError
from nasplatform.models.network import Network
from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.text import format_text


def test_a_family_is_its_text():
    family = next(one for one in families() if one.name == "deit-ti")
    by_name = Network.named("vit", architecture="deit-ti")
    by_text = Network.named("vit", architecture=format_text(family.architecture))
    sizes = [
        sum(weight.numel() for weight in one.module.parameters()) for one in (by_name, by_text)
    ]
    assert sizes == [5_717_416, 5_717_416]


def test_a_text_needs_to_lie_in_no_sub_space():
    options = {"input_shape": (1, 14, 14), "classes": 10}
    text = "average/conv2s2+w56+learned:2*h7w56-mlp3"
    network = Network.named("vit", architecture=text, **options)
    assert network.structure.base["network"] == {"name": "vit", "architecture": text} | {
        key: list(value) if isinstance(value, tuple) else value for key, value in options.items()
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"architecture": "deit-tiny"}, "spaces families vit"),
        ({"architecture": "deit-ti", "input_shape": (3, 8, 8)}, "smaller than a patch"),
        ({"architecture": "average/conv4s4+w64+learned:h3w64-mlp4"}, "heads"),
    ],
)
def test_what_cannot_be_built_is_refused_before(options, words):
    with pytest.raises(ConfigError, match=words):
        Network.named("vit", **options)
