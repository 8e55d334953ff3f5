import numpy as np
import torch
from torch import nn

from nasplatform.deploy import measure as measuring
from nasplatform.deploy.measure import count_parameters, latencies, latency, measure
from nasplatform.deploy.network import Network
from nasplatform.deploy.timing import timed
from nasplatform.errors import MissingExtraError
from nasplatform.spaces import get_space
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.flops import count_macs
from nasplatform.training.loop import evaluate

SHAPE = (3, 8, 6)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 5)
        self.placeholder = nn.Parameter(torch.zeros(1000))

    def forward(self, x):
        return self.linear(self.norm(self.grouped(self.conv(x))).mean((2, 3)))


def test_counts_equal_the_closed_form():
    module = Small()
    conv, grouped, linear = 3 * 4 * 9, 8 * 9, 8 * 5
    assert count_parameters(module, SHAPE) == conv + 4 + grouped + 16 + linear + 5
    assert count_macs(module, SHAPE) == conv * 48 + grouped * 12 + linear


def test_frozen_parameters_count_and_stay_frozen():
    module = Small()
    expected = count_parameters(module, SHAPE)
    module.conv.requires_grad_(False)
    with torch.no_grad():
        assert count_parameters(module, SHAPE) == expected
    assert not module.conv.weight.requires_grad
    assert module.linear.weight.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


def test_module_without_parameters_has_none():
    assert count_parameters(nn.Flatten(), SHAPE) == 0


def test_counts_of_searched_networks_are_those_of_the_space():
    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1, input_shape=(1, 8, 8))
    cells = space.sample(5, np.random.Generator(np.random.PCG64(0)))
    graphs = space.graphs(cells)
    for i, cell in enumerate(cells):
        module = Network.of(space, cell).module
        assert count_parameters(module, (1, 8, 8)) == graphs.total_params[i]


def test_latency_is_positive_and_leaves_the_threads_alone():
    threads = torch.get_num_threads()
    quick, spread = latency(nn.Flatten(), SHAPE)
    slow, _ = latency(nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(20))), SHAPE)
    assert 0 < quick < slow
    assert spread >= 0
    assert torch.get_num_threads() == threads


def test_latency_without_onnxruntime_is_that_of_torch(monkeypatch):
    def missing(*_):
        raise MissingExtraError("needs onnx")

    monkeypatch.setattr(measuring, "session_of", missing)
    seen = []

    class Spied(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.mean((2, 3))

    one, many = latencies(Spied(), SHAPE, (1, 64))
    assert min(one[0], many[0]) > 0
    assert set(seen) == {1, 64}


def test_quietest_block_counts(monkeypatch):
    times = iter([*[9e6] * 10, *[5e6, 6e6, 7e6] * 2, *[1e6, 2e6, 3e6], *[8e6] * 6])
    clock = [0]

    def call():
        clock[0] += int(next(times))

    monkeypatch.setattr("nasplatform.deploy.timing.TIMED_RUNS", 3)
    monkeypatch.setattr("nasplatform.deploy.timing.time.perf_counter_ns", lambda: clock[0])
    monkeypatch.setattr("nasplatform.deploy.timing.time.perf_counter", lambda: 0.0)
    assert timed(call) == (2.0, 1.0)


def test_measure_is_made_of_its_parts(tmp_path):
    network, task = tiny_network(), tiny_task()
    network.save(tmp_path / "n")
    found = measure(network, task, tmp_path / "n")
    assert found.accuracy == evaluate(network.module, task, "test")
    assert found.parameters == count_parameters(network.module, task.input_shape)
    assert found.macs == count_macs(network.module, task.input_shape)
    assert found.bytes_on_disk == sum(path.stat().st_size for path in (tmp_path / "n").iterdir())
    assert 0 < found.latency_ms < found.latency_64_ms
    assert measure(network, task).bytes_on_disk == found.bytes_on_disk
