import pytest
import torch
from torch import nn

from nasplatform.training import checkpoint
from nasplatform.training.seeding import seeded


def module(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def test_write_and_read_bring_back_tensors_and_facts(tmp_path):
    path = tmp_path / "c.safetensors"
    strided = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)
    tensors = {"a": strided, "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    checkpoint.write(path, tensors, {"key": "k", "epochs": [1]})
    found = checkpoint.read(path, "k")
    assert found is not None
    assert found[1] == {"key": "k", "epochs": [1]}
    assert found[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[0][name], tensor)
        assert found[0][name].dtype == tensor.dtype


def test_no_file_is_none(tmp_path):
    assert checkpoint.read(tmp_path / "none", "k") is None


def test_state_digest_sees_every_value_type_and_name():
    first = module()
    digests = {checkpoint.state_digest(first)}
    first[1].num_batches_tracked += 1
    digests.add(checkpoint.state_digest(first))
    first[0].weight.data[0, 0, 0, 0] += 1e-6
    digests.add(checkpoint.state_digest(first))
    digests.add(checkpoint.state_digest(first.double()))
    digests.add(checkpoint.state_digest(nn.Sequential(first)))
    assert len(digests) == 5


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_state_digest_does_not_depend_on_the_memory_format(layout):
    assert checkpoint.state_digest(module().to(memory_format=layout)) == checkpoint.state_digest(
        module()
    )


def test_detached_state_shares_no_memory():
    made = module()
    state = checkpoint.detached_state({"a": made[0].weight, "b": made[0].weight})
    assert state["a"].data_ptr() != state["b"].data_ptr() != made[0].weight.data_ptr()
    assert not state["a"].requires_grad
