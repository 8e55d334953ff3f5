import torch
from torch import nn

from nasplatform.training.descent import Descent
from nasplatform.training.seeding import seeded


def test_descent_is_a_plain_loop_of_adamw_with_one_cycle():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 3, generator=rng), torch.randn(24, 1, generator=rng)
    with seeded(1):
        network, plain = nn.Linear(3, 1), nn.Linear(3, 1)
    plain.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.05, weight_decay=0.2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=3 * 4)
    for _ in range(3):
        for start in range(0, 24, 6):
            rows = slice(start, start + 6)
            loss = nn.functional.mse_loss(plain(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    heard = []
    Descent(3, 0.05, 0.2, steps=4).train(
        network,
        lambda epoch: [slice(start, start + 6) for start in range(0, 24, 6)],
        lambda rows: nn.functional.mse_loss(network(x[rows]), y[rows]),
        lambda epoch: bool(heard.append(epoch)),
    )
    assert heard == [0, 1, 2]
    assert torch.equal(network.weight, plain.weight)
    assert torch.equal(network.bias, plain.bias)


def test_descent_ends_where_it_is_told_and_keeps_its_rate_without_steps():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(10.0)
    seen = []

    def loss(batch):
        seen.append(float(network.weight.detach()))
        return network.weight.sum()

    Descent(9, 0.5, 0.0).train(network, lambda epoch: [epoch], loss, lambda epoch: epoch == 2)
    assert [round(value, 3) for value in seen] == [10.0, 9.5, 9.0]
    assert network.training
