import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasplatform.errors import BuildError, MissingExtraError
from nasplatform.models.network import Network
from nasplatform.runtimes import onnx_graph
from nasplatform.runtimes.onnx_export import export_onnx
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.evaluation import predict
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")


@pytest.fixture(scope="module")
def network() -> Network:
    made = tiny_network()
    train(made.module, tiny_task(), Recipe(epochs=2), 0)
    return made


@pytest.mark.parametrize("batch", [1, 5, 30])
def test_exported_network_gives_equal_logits_for_any_batch(network, tmp_path, batch):
    task = tiny_task()
    assert export_onnx(network.for_task(task), tmp_path / "n.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    images = task.test.inputs[:batch]
    found = session.run(["logits"], {"images": images.numpy()})[0]
    assert found == pytest.approx(predict(network.module, images).numpy(), abs=1e-5)


def test_file_says_how_to_make_its_input(network, tmp_path):
    task = tiny_task()
    export_onnx(network.for_task(task), tmp_path / "n.onnx")
    facts = onnxruntime.InferenceSession(tmp_path / "n.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(facts["mean"]) == list(task.mean)
    assert json.loads(facts["std"]) == list(task.std)
    assert [json.loads(facts[name]) for name in ("task", "data_sha256")] == ["tiny", task.digest]


def test_wrong_export_is_not_written(network, tmp_path, monkeypatch):
    class Moody(nn.Module):
        """Its trace keeps the branch that was taken for one image."""

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) * (1 if len(x) == 1 else 2)

    with pytest.raises(BuildError, match="differ from torch's by"):
        export_onnx(Network(Moody(), network.structure).for_task(tiny_task()), tmp_path / "n.onnx")
    assert list(tmp_path.iterdir()) == []


class CountsItself(nn.Module):
    """Takes the number of images as a plain number, which a graph keeps as 1."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.conv, self.parts = nn.Conv2d(2, 3, 3), parts

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.view(len(x), self.parts, -1, *x.shape[2:]).amax(1)).mean((2, 3))


class Cut(nn.Module):
    """Answers for the first image alone once it is a graph."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))[: int(x.shape[0])]


@pytest.mark.parametrize("module", [CountsItself(2), Cut()])
def test_graph_for_one_image_alone_is_not_written(network, tmp_path, module):
    made = Network(module, network.structure).for_task(tiny_task())
    facts = {**made.structure.input, "shape": [4 if isinstance(module, CountsItself) else 3, 8, 8]}
    made = replace(made, structure=replace(made.structure, input=facts))
    with pytest.raises(BuildError, match=r"does not work for 8 images.*len\(x\)") as caught:
        export_onnx(made, tmp_path / "n.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_part_that_onnx_lacks_is_named_and_nothing_is_printed(network, tmp_path, capfd):
    class Strange(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x).real.mean(-1)

    with pytest.raises(BuildError, match="ONNX cannot express") as caught:
        export_onnx(
            Network(Strange(), network.structure).for_task(tiny_task()), tmp_path / "n.onnx"
        )
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_missing_extra_says_what_to_install(network, tmp_path, monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(onnx_graph, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasplatform\[deploy\]'"):
        export_onnx(network.for_task(tiny_task()), tmp_path / "n.onnx")


def test_network_is_left_as_it_was(network, tmp_path):
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    export_onnx(network.for_task(tiny_task()), tmp_path / "n.onnx")
    assert all(
        np.array_equal(before[name], tensor) for name, tensor in network.module.state_dict().items()
    )


def test_sums_that_begin_with_zeros_lose_them(network, tmp_path):
    export_onnx(network.for_task(tiny_task()), tmp_path / "n.onnx")
    nodes = pytest.importorskip("onnx").load(tmp_path / "n.onnx").graph.node
    assert "ConstantOfShape" not in {node.op_type for node in nodes}


def test_zeros_that_are_needed_stay(network, tmp_path):
    class Zeros(nn.Module):
        """Adds zeros of a wider map, ones of its own shape, and returns a sum with zeros."""

        def forward(self, x: Tensor) -> Tensor:
            wide = torch.zeros_like(x) + x[:, :, :1]
            wide = wide + torch.ones_like(wide)
            flat = wide.mean((2, 3))
            return flat + torch.zeros_like(flat)

    task = tiny_task()
    assert (
        export_onnx(Network(Zeros(), network.structure).for_task(task), tmp_path / "n.onnx") < 1e-6
    )
