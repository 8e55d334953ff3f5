import math

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.models.structure import Structure
from nasplatform.runtimes.eager import TorchSession
from nasplatform.runtimes.measure import latencies, latency, measure
from nasplatform.runtimes.onnx_runtime import OnnxSession
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.flops import count_macs

SHAPE = (3, 8, 6)


def test_latency_is_positive_and_leaves_the_threads_alone():
    threads = torch.get_num_threads()
    quick = latency(nn.Flatten(), SHAPE)
    slow = latency(nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(20))), SHAPE)
    assert 0 < quick.median_ms < slow.median_ms
    assert slow.iqr_ms >= 0
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_latency_names_what_it_is_of(runtime):
    network = tiny_network()
    one, many = latencies(network.module, tiny_task().input_shape, (1, 64), runtime)
    assert (one.batch, many.batch) == (1, 64)
    assert one.runtime == many.runtime == runtime
    assert one.threads == many.threads == 1
    assert min(one.repeats, many.repeats) >= 1
    assert 0 < one.median_ms < many.median_ms


class Baked(nn.Module):
    """Its trace answers for as many images as it was traced with."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x):
        return self.linear(x.reshape(len(x) // 1, 64))


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_measure_is_made_of_its_parts(tmp_path, runtime):
    network, task = tiny_network(), tiny_task()
    network.save(tmp_path / "n")
    found = measure(network, task, tmp_path / "n", runtime)
    assert found.accuracy == evaluate(network.module, task, "test")
    assert found.params == count_parameters(network.module, task.input_shape)
    assert found.macs == count_macs(network.module, task.input_shape)
    assert found.bytes_on_disk == sum(path.stat().st_size for path in (tmp_path / "n").iterdir())
    assert 0 < found.latency_ms < found.latency_64_ms
    assert (found.runtime, found.runtime_note, found.latency_threads) == (runtime, "", 1)
    assert measure(network, task).bytes_on_disk == found.bytes_on_disk


def test_network_that_its_runtime_cannot_compute_is_measured_by_torch():
    network, task = Network(Baked(), Structure({"module": "a:b", "options": {}})), tiny_task()
    found = measure(network, task, runtime="onnxruntime")
    assert found.runtime == "torch"
    assert "onnxruntime was not used" in found.runtime_note
    assert found.accuracy == evaluate(network.module, task, "test")
    assert math.isfinite(found.latency_64_ms)


@pytest.mark.parametrize(
    ("runtime", "session"), [("torch", TorchSession), ("onnxruntime", OnnxSession)]
)
def test_accuracy_is_taken_in_the_runtime_that_is_timed(monkeypatch, runtime, session):
    network, task = tiny_network(), tiny_task()
    answered, given = session.run, []

    def run(self, images):
        given.append(images)
        return answered(self, images)

    monkeypatch.setattr(session, "run", run)
    measure(network, task, runtime=runtime)
    assert any(np.array_equal(images, task.test.inputs[:]) for images in given)
