import torch
from torch import nn

from nasplatform.training import checkpoint
from nasplatform.training.loop import seeded


def module(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def stepped(seed: int = 0):
    made = module(seed)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    made(torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))).sum().backward()
    optimizer.step()
    return made, optimizer


def test_write_and_read_bring_back_weights_buffers_and_momentum(tmp_path):
    made, optimizer = stepped()
    path = tmp_path / "c.safetensors"
    checkpoint.write(path, made, optimizer, {"key": "k", "epochs": [1]})
    other, other_optimizer = stepped(1)
    facts = checkpoint.read(path, other, other_optimizer, "k")
    assert facts == {"key": "k", "epochs": [1]}
    assert checkpoint.state_digest(other) == checkpoint.state_digest(made)
    for a, b in zip(made.parameters(), other.parameters(), strict=True):
        momentum = [
            o.state[p]["momentum_buffer"] for o, p in ((optimizer, a), (other_optimizer, b))
        ]
        assert torch.equal(*momentum)


def test_no_file_loads_nothing(tmp_path):
    made, optimizer = stepped()
    before = checkpoint.state_digest(made)
    assert checkpoint.read(tmp_path / "none", made, optimizer, "k") is None
    assert checkpoint.state_digest(made) == before


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


def test_detached_state_shares_no_memory():
    made = module()
    state = checkpoint.detached_state({"a": made[0].weight, "b": made[0].weight})
    assert state["a"].data_ptr() != state["b"].data_ptr() != made[0].weight.data_ptr()
    assert not state["a"].requires_grad
