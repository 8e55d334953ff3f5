"""Every network that can be had by name, pruned, saved, loaded and exported."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform import plugins
from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.plugin_contracts import options_model
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph
from nasplatform.runtimes.onnx_export import export_onnx
from nasplatform.spaces import get_space
from nasplatform.stages.base import StageContext
from nasplatform.stages.pipeline import make_stage
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import count_macs

SHAPE, CLASSES = (1, 8, 8), 3
SMALL = {
    "stem_channels": 10,
    "modules_per_stack": 1,
    "cells_per_stage": 1,
    "depth": 8,
    "width": 10,
    "subspace": "digits",
    "architecture": "average/conv2s2+w32+learned:2*h4w32-mlp4",
    "input_shape": SHAPE,
    "classes": CLASSES,
}
"""Small values of whatever options a space or a network has of these names."""


def small(model) -> dict:
    return {name: value for name, value in SMALL.items() if name in model.model_fields}


def networks() -> dict[str, list[Network]]:
    """Four random networks of every space, and every registered network."""
    found = {}
    for name in plugins.names("spaces"):
        space = get_space(name, **small(plugins.get("spaces", name).Options))
        drawn = space.sample(4, np.random.Generator(np.random.PCG64(7)))
        for index, architecture in enumerate(drawn):
            found[f"{name}-{index}"] = Network.of(space, architecture, index)
    for name in plugins.names("networks"):
        options = small(options_model(plugins.get("networks", name)))
        found[name] = Network.named(name, **options)
    return found


NETWORKS = networks()


def no_pickle(*args, **arguments):
    raise AssertionError("a file was unpickled")


def stirred(network: Network) -> Network:
    """Give every normalisation values of its own, so that a wrong channel shows."""
    network, rng = network.copy(), torch.Generator().manual_seed(0)
    for child in network.module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor in (child.weight, child.bias, child.running_mean, child.running_var):
                tensor.data = torch.rand(tensor.shape, generator=rng) + 0.2
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_prune_save_load_export(name, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")
    network, task = stirred(NETWORKS[name]), tiny_task()
    options = {
        "criterion": "l1",
        "budget": {"keep": 0.6},
        "recipe": {"epochs": 1, "learning_rate": 0.001},
    }
    result = make_stage("scop", options, "test").apply(network, task, StageContext(tmp_path))
    assert result.metrics["masked_difference"] < 1e-5
    pruned, images = result.network, task.test.inputs[:]
    for count in (count_macs, count_parameters):
        assert count(pruned.module, SHAPE) < 0.75 * count(network.module, SHAPE)

    pruned.save(tmp_path / "pruned")
    network.save(tmp_path / "whole")
    sizes = [
        (tmp_path / which / "weights.safetensors").stat().st_size for which in ("pruned", "whole")
    ]
    assert sizes[0] < sizes[1]
    with monkeypatch.context() as patch:
        for function in ("load", "loads", "Unpickler"):
            patch.setattr(pickle, function, no_pickle)
        patch.setattr(torch, "load", no_pickle)
        loaded = Network.load(tmp_path / "pruned")
    assert loaded.structure == pruned.structure
    logits = predict(loaded.module, images)
    assert torch.equal(logits, predict(pruned.module, images))

    assert export_onnx(loaded.for_task(task), tmp_path / "pruned.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "pruned.onnx")
    found = session.run(["logits"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, logits.numpy(), rtol=1e-4, atol=1e-5)


def by_torch_pruning(module: nn.Module, layer: str, channel: int) -> nn.Module | None:
    """Return a copy without a channel, as torch-pruning cuts it; None where that does not run."""
    import torch_pruning

    cut = copy.deepcopy(module)
    try:
        graph = torch_pruning.DependencyGraph().build_dependency(cut, torch.zeros(1, *SHAPE))
        found = cut.get_submodule(layer)
        linear = isinstance(found, nn.Linear)
        kind = "linear" if linear else "conv"
        prune = getattr(torch_pruning, f"prune_{kind}_out_channels")
        graph.get_pruning_group(found, prune, [channel]).prune()
        with torch.no_grad():
            cut.eval()(torch.zeros(2, *SHAPE))
    except (RuntimeError, ValueError):
        return None
    return cut


def shapes(module):
    return {name: value.shape for name, value in module.state_dict().items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_removal_is_that_of_torch_pruning_wherever_that_works(name):
    """The same weights stay in every dependent layer.

    torch-pruning cuts ResNets and these NAS-Bench-201 cells everywhere, but of the 64 layers of
    these four NAS-Bench-101 networks 39 only to networks that do not run: the reason for a tracer
    of our own. Should that change, this test says so.
    """
    module = stirred(NETWORKS[name]).module
    graph = channel_graph(module, SHAPE)
    compared = 0
    producers = [layer for layer in graph.producers if layer.outputs[0] in graph.removable]
    for layer in producers:
        other = by_torch_pruning(module, layer.name, 0)
        if other is None:
            continue
        ours = remove(copy.deepcopy(module), kept_channels(graph, layer.outputs[:1]))
        expected = other.state_dict()
        if name.startswith("vit") and shapes(ours) != shapes(other):
            continue  # it has other units in attention; ours: test_attention.py
        assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
        compared += 1
    assert compared >= len(producers) / 4
    if not name.startswith("vit"):
        assert (compared < len(producers)) == name.startswith("nasbench101")
