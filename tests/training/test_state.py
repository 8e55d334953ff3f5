"""Optimisers, averages and clipping against plain computations, and resumed to equal bits."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import evaluate
from nasplatform.training.loop import train
from nasplatform.training.optimizers import EMA
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded

RECIPES = {
    "momentum": {"optimizer": {"name": "sgd", "momentum": 0.8, "nesterov": False}},
    "sgd": {"optimizer": {"name": "sgd", "momentum": 0.0, "nesterov": False}},
    "adam": {"optimizer": {"name": "adam"}, "schedule": {"name": "step"}},
    "adamw": {
        "optimizer": {"name": "adamw", "betas": [0.8, 0.9]},
        "schedule": {"name": "constant"},
        "clip_norm": 0.5,
    },
    "ema": {"averaging": {"name": "ema", "decay": 0.8}, "label_smoothing": 0.1},
    "mean": {"averaging": {"name": "mean", "share": 0.7}, "mixup": 0.2, "cutmix": 1.0},
    "erasing": {"erasing": 0.5, "precision": "bfloat16"},
}
KILLED = """
import json, os, signal, sys
from pathlib import Path
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.loop import train
from nasplatform.training.optimizers import EMA
from nasplatform.training.recipe import Recipe

def progress(done, total, words):
    if done == 8:
        os.kill(os.getpid(), signal.SIGKILL)

for name, options in json.loads(sys.argv[2]).items():
    recipe = Recipe(epochs=3, batch_size=16, **options)
    if (child := os.fork()) == 0:
        path = Path(sys.argv[1]) / name
        train(tiny_network().module, tiny_task(), recipe, 5, checkpoint=path, progress=progress)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder of checkpoints of trainings that were killed in their third epoch."""
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", KILLED, folder, json.dumps(RECIPES)], check=True)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_killed_training_goes_on_to_the_same_bits(killed, name):
    recipe = Recipe(epochs=3, batch_size=16, **RECIPES[name])
    whole, resumed = tiny_network().module, tiny_network().module
    first = train(whole, tiny_task(), recipe, 5)
    steps = []
    second = train(
        resumed,
        tiny_task(),
        recipe,
        5,
        checkpoint=killed / name,
        progress=lambda done, total, words: steps.append(done),
    )
    assert steps == [7, 8, 9]
    assert state_digest(resumed) == state_digest(whole)
    assert second.epochs == first.epochs


def linear(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def slopes(module: nn.Module, labels=None, clip: float | None = None) -> list[torch.Tensor]:
    """Gradients of the cross-entropy on the whole training split, in closed form."""
    task = tiny_task()
    x = task.train.inputs[:].flatten(1)
    y = functional.one_hot(task.train.labels, 3).float() if labels is None else labels
    weight, bias = (p.detach() for p in module[1].parameters())
    error = (torch.softmax(x @ weight.T + bias, 1) - y) / len(x)
    found = [error.T @ x, error.sum(0)]
    norm = float(torch.cat([slope.flatten() for slope in found]).norm())
    share = 1.0 if clip is None else min(1.0, clip / norm)
    return [slope * share for slope in found]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_is_its_formula(name):
    recipe = Recipe(
        epochs=3,
        batch_size=100,
        optimizer={"name": name, "betas": (0.8, 0.9), "eps": 1e-6},
        learning_rate=0.01,
        weight_decay=0.1,
        schedule={"name": "constant"},
        warmup=0.0,
    )
    module, plain = linear(), linear()
    moments = [[torch.zeros_like(p), torch.zeros_like(p)] for p in plain[1].parameters()]
    for step in range(1, 4):
        for parameter, slope, pair in zip(
            plain[1].parameters(), slopes(plain), moments, strict=True
        ):
            if name == "adam":
                slope = slope + 0.1 * parameter.detach()
            else:
                parameter.data *= 1 - 0.01 * 0.1
            pair[0] = 0.8 * pair[0] + 0.2 * slope
            pair[1] = 0.9 * pair[1] + 0.1 * slope**2
            mean, square = pair[0] / (1 - 0.8**step), pair[1] / (1 - 0.9**step)
            parameter.data -= 0.01 * mean / (square.sqrt() + 1e-6)
    train(module, tiny_task(), recipe, 0)
    for found, expected in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def one_epoch(module, **options):
    usual = {"optimizer": {"name": "sgd", "momentum": 0, "nesterov": False}, "weight_decay": 0}
    usual |= {"schedule": {"name": "constant"}, "warmup": 0.0, "learning_rate": 1.0}
    return train(module, tiny_task(), Recipe(batch_size=100, **usual, **options), 0)


def test_clipping_shortens_the_whole_gradient():
    module, before = linear(), linear()
    norm = float(torch.cat([s.flatten() for s in slopes(before)]).norm())
    one_epoch(module, epochs=1, clip_norm=norm / 3)
    for after, start, slope in zip(
        module.parameters(), before.parameters(), slopes(before, clip=norm / 3), strict=True
    ):
        torch.testing.assert_close(after, start - slope, rtol=1e-4, atol=1e-6)


def test_label_smoothing_trains_on_smoothed_labels():
    module, before = linear(), linear()
    one_epoch(module, epochs=1, label_smoothing=0.3)
    labels = functional.one_hot(tiny_task().train.labels, 3) * 0.7 + 0.1
    for after, start, slope in zip(
        module.parameters(), before.parameters(), slopes(before, labels), strict=True
    ):
        torch.testing.assert_close(after, start - slope, rtol=1e-4, atol=1e-6)


def weights_after(epochs: int) -> list[list[torch.Tensor]]:
    plain = linear()
    found = []
    for _ in range(epochs):
        for parameter, slope in zip(list(plain[1].parameters()), slopes(plain), strict=True):
            parameter.data -= slope
        found.append([p.detach().clone() for p in plain[1].parameters()])
    return found


def test_mean_is_that_of_the_last_epochs():
    module = linear()
    history = one_epoch(module, epochs=8, averaging={"name": "mean", "share": 0.25})
    seen = weights_after(8)
    for k, parameter in enumerate(module[1].parameters()):
        torch.testing.assert_close(parameter, (seen[6][k] + seen[7][k]) / 2, rtol=1e-4, atol=1e-5)
    assert history.valid_accuracy == evaluate(module, tiny_task(), "valid")


def test_ema_weighs_the_steps_exponentially():
    module = linear()
    history = one_epoch(module, epochs=4, averaging={"name": "ema", "decay": 0.6})
    seen = weights_after(4)
    for k, parameter in enumerate(module[1].parameters()):
        expected = seen[0][k]  # the average begins with the first weights
        for weights in seen[1:]:
            expected = 0.6 * expected + 0.4 * weights[k]
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)
    assert history.valid_accuracy == evaluate(module, tiny_task(), "valid")


def test_running_statistics_of_a_mean_are_those_of_its_own_weights():
    module, task = tiny_network().module, tiny_task()
    recipe = Recipe(epochs=3, batch_size=16, averaging={"name": "mean", "share": 1.0})
    history = train(module, task, recipe, 0)
    assert history.valid_accuracy == evaluate(module, task, "valid")
    again = copy.deepcopy(module)
    norms = [child for child in again.modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for part in task.train.inputs[:].split(16):
            again(part)
    pairs = zip(module.named_buffers(), again.buffers(), strict=True)
    for (name, found), expected in pairs:
        if "num_batches" not in name:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_resumed_at_its_end_it_hands_on_the_average(tmp_path):
    recipe = Recipe(epochs=2, batch_size=16, averaging={"name": "ema", "decay": 0.9})
    first, second, plain = (tiny_network().module for _ in range(3))
    train(first, tiny_task(), recipe, 0, checkpoint=tmp_path / "c")
    train(second, tiny_task(), recipe, 0, checkpoint=tmp_path / "c")
    train(plain, tiny_task(), recipe.model_copy(update={"averaging": None}), 0)
    assert state_digest(first) == state_digest(second) != state_digest(plain)


def test_ema_averages_running_statistics_too():
    module, plain, task = tiny_network().module, tiny_network().module, tiny_task()
    names = [name for name, _ in module.named_buffers() if name.endswith("running_mean")]
    expected, step = {}, Recipe(epochs=3, batch_size=16)

    def objective(module, batch):
        """Hear of the statistics after the step before."""
        state = {name: module.get_buffer(name).clone() for name in names}
        if len(seen) == 1:
            expected.update(state)
        elif seen:
            expected.update({k: 0.7 * expected[k] + 0.3 * state[k] for k in names})
        seen.append(state)
        return task.loss(module(batch.inputs), batch.labels)

    seen = []
    train(plain, task, step, 0, objective=objective)
    last = {name: plain.get_buffer(name) for name in names}
    recipe = step.model_copy(update={"averaging": EMA(decay=0.7)})
    train(module, task, recipe, 0)
    for name in names:
        wanted = 0.7 * expected[name] + 0.3 * last[name]
        torch.testing.assert_close(module.get_buffer(name), wanted, rtol=1e-4, atol=1e-6)
