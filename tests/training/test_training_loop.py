import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform.errors import TrainingError
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import evaluate, predict
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe, learning_rate
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.task import Split

COLUMNS = ["epoch", "train_loss", "valid_accuracy", "learning_rate", "seconds"]
RECIPE = Recipe(epochs=3, batch_size=16, augmentation="flip-crop")

KILLED = """
import os, signal, sys
from pathlib import Path
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe

def progress(done, total, words):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

recipe = Recipe(epochs=3, batch_size=16, augmentation="flip-crop")
module, path = tiny_network().module, Path(sys.argv[1])
train(module, tiny_task(), recipe, 5, checkpoint=path, progress=progress)
"""


def trained(seed: int = 5, **arguments) -> tuple[str, list[float]]:
    module = tiny_network().module
    history = train(module, tiny_task(), arguments.pop("recipe", RECIPE), seed, **arguments)
    return state_digest(module), [epoch.train_loss for epoch in history.epochs]


def test_killed_training_goes_on_to_the_same_bits(tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    done = subprocess.run([sys.executable, "-c", KILLED, checkpoint, "8"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert checkpoint.exists()
    steps = []
    resumed = trained(checkpoint=checkpoint, progress=lambda done, total, words: steps.append(done))
    assert steps == list(range(7, 10))  # two of three epochs were paid for, three steps each
    assert resumed == trained()
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.name]


def test_equal_arguments_give_equal_bits_and_other_seeds_others():
    assert trained() == trained()
    assert trained(seed=6)[0] != trained()[0]


def test_global_generator_neither_matters_nor_moves():
    class Dropping(nn.Sequential):
        pass

    def run() -> str:
        with seeded(1):
            module = Dropping(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
        train(module, tiny_task(), Recipe(epochs=1), 0)
        return state_digest(module)

    before = torch.random.get_rng_state()
    first = run()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    assert run() == first


def test_one_step_is_nesterov_with_weight_decay_on_the_mean_cross_entropy():
    task = tiny_task()
    recipe = Recipe(epochs=2, batch_size=100, learning_rate=0.05, warmup=0.0)
    with seeded(0):
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    weight = module[1].weight.detach().clone()
    bias = module[1].bias.detach().clone()
    x, y = task.train.inputs[:].flatten(1), nn.functional.one_hot(task.train.labels, 3).float()
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for rate in (0.05, 0.025):
        error = (torch.softmax(x @ weight.T + bias, 1) - y) / len(x)
        for k, (parameter, slope) in enumerate(((weight, error.T @ x), (bias, error.sum(0)))):
            slope = slope + 5e-4 * parameter
            velocity[k] = 0.9 * velocity[k] + slope
            parameter -= rate * (slope + 0.9 * velocity[k])
    train(module, task, recipe, 0)
    torch.testing.assert_close(module[1].weight.detach(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(module[1].bias.detach(), bias, rtol=1e-4, atol=1e-6)


def test_every_image_is_seen_once_an_epoch_in_batches_of_nearly_one_size():
    task = tiny_task()
    sizes, seen = [], []

    def objective(module, batch):
        sizes.append(len(batch))
        seen.append(batch.inputs.flatten(1).sum(1))
        return task.loss(module(batch.inputs), batch.labels)

    train(tiny_network().module, task, Recipe(epochs=1, batch_size=20), 0, objective=objective)
    assert sizes == [16, 16, 16]
    sums = task.train.inputs[:].flatten(1).sum(1)
    assert torch.equal(torch.cat(seen).sort().values, sums.sort().values)


def test_history_is_a_frame_and_training_helps():
    module, task = tiny_network().module, tiny_task()
    before = evaluate(module, task, "valid")
    history = train(module, task, Recipe(epochs=15, batch_size=16), 0)
    frame = history.frame()
    assert list(frame.columns) == COLUMNS
    assert list(frame.epoch) == list(range(1, 16))
    assert frame.train_loss.iloc[-1] < frame.train_loss.iloc[0]
    assert history.valid_accuracy == evaluate(module, task, "valid") > before
    assert (frame.seconds > 0).all()
    assert history.seconds == pytest.approx(frame.seconds.sum())
    recipe = Recipe(epochs=15, batch_size=16)
    rates = [learning_rate(3 * n - 1, 45, recipe) for n in range(1, 16)]
    assert list(frame.learning_rate) == rates
    assert history.curve() == {name: list(frame[name]) for name in frame}
    assert not module.training


def test_on_step_counts_all_steps():
    calls = []
    trained(on_step=lambda step, steps: calls.append((step, steps)))
    assert calls == [(step, 9) for step in range(9)]


def test_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trained(checkpoint=path)
    for other in ({"seed": 6}, {"recipe": Recipe(epochs=4)}, {"tag": "x"}):
        with pytest.raises(TrainingError, match="another training"):
            trained(checkpoint=path, **other)
    assert trained(checkpoint=path) == trained()


@pytest.mark.parametrize("content", [b"", b"{}", b"\x10\0\0\0\0\0\0\0{}              " * 4])
def test_damaged_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="damaged") as caught:
        trained(checkpoint=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trained(checkpoint=path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingError, match="damaged"):
        trained(checkpoint=path)


@pytest.mark.parametrize(
    ("epochs", "batch", "words"),
    [
        (2, 16, "the training loss is nan at step 2 of 6"),
        (1, 48, "a logit is not finite after step 1 of 1"),  # no further loss would tell
    ],
)
def test_diverging_training_says_at_which_step(epochs, batch, words):
    recipe = Recipe(epochs=epochs, batch_size=batch, learning_rate=1e30, warmup=0.0)
    with pytest.raises(TrainingError, match=words) as caught:
        trained(recipe=recipe)
    assert "learning_rate 1e+30 is too high" in str(caught.value)


def test_last_good_checkpoint_outlives_a_divergence(tmp_path):
    path = tmp_path / "c.safetensors"
    calls = []

    def objective(module, batch):
        calls.append(len(batch))
        loss = nn.functional.cross_entropy(module(batch.inputs), batch.labels)
        return loss * float("inf") if len(calls) == 5 else loss

    with pytest.raises(TrainingError, match="inf at step 5 of 9"):
        trained(checkpoint=path, objective=objective)
    steps = []
    resumed = trained(checkpoint=path, progress=lambda done, total, words: steps.append(done))
    assert steps[0] == 4  # the first epoch was kept
    assert resumed == trained()


def test_forward_of_a_user_may_draw_from_any_global_generator():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, x):
            noise = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
            return self.layer(x.flatten(1)) * (noise if self.training else 1)

    def run() -> str:
        with seeded(1):
            module = Noisy()
        train(module, tiny_task(), Recipe(epochs=1), 0)
        return state_digest(module)

    python, arrays = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = run()
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], arrays)  # noqa: NPY002
    random.random()
    np.random.rand()  # noqa: NPY002
    assert run() == first


def test_metrics_of_an_objective_are_means_over_images():
    sizes = []

    def objective(module, batch):
        sizes.append(float(len(batch)))
        loss = nn.functional.cross_entropy(module(batch.inputs), batch.labels)
        return loss, {"size": torch.tensor(sizes[-1])}

    module = tiny_network().module
    history = train(module, tiny_task(), Recipe(epochs=2, batch_size=21), 0, objective=objective)
    assert sorted(sizes) == [16.0] * 6
    assert list(history.frame().columns) == [*COLUMNS, "size"]
    assert history.frame()["size"].tolist() == [16.0, 16.0]


def test_objective_with_parameters_is_trained_and_resumed(tmp_path):
    class Tempered(nn.Module):
        """Learns the temperature of the logits."""

        def __init__(self):
            super().__init__()
            self.heat = nn.Parameter(torch.ones(()))
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))

        def forward(self, module, batch):
            self.steps += 1
            return nn.functional.cross_entropy(module(batch.inputs) / self.heat, batch.labels)

    def run(**arguments):
        objective = Tempered()
        found = trained(objective=objective, **arguments)
        return found, objective.heat.item(), int(objective.steps)

    whole = run()
    assert whole[1] != 1
    assert whole[2] == 9

    class Stop(BaseException):
        pass

    def stop(done, total, words):
        if done == 8:
            raise Stop

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        run(checkpoint=path, progress=stop)
    assert run(checkpoint=path) == whole


def test_predict_does_not_depend_on_the_batch_and_evaluate_counts(monkeypatch):
    module, task = tiny_network().module, tiny_task()
    whole = predict(module, task.test.inputs)
    monkeypatch.setattr("nasplatform.training.evaluation.EVALUATION_BATCH", 7)
    torch.testing.assert_close(predict(module, task.test.inputs), whole)
    torch.testing.assert_close(predict(module, task.test.inputs[:]), whole)
    labels = whole.argmax(1).clone()
    labels[:3] = (labels[:3] + 1) % 3
    other = replace(task, test=Split(task.test.inputs, labels))
    assert evaluate(module, other, "test") == pytest.approx(27 / 30)


def test_derive_seed_is_stable_and_tells_its_numbers_apart():
    assert derive_seed(0, 1) == derive_seed(0, 1)
    seeds = {derive_seed(a, b) for a in range(20) for b in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_frozen_parameters_and_placeholders_train_along(tmp_path):
    network = tiny_network().module
    network.classifier.bias.requires_grad_(False)
    kept = network.classifier.bias.clone()
    path = tmp_path / "c.safetensors"
    train(network, tiny_task(), Recipe(epochs=1), 0, checkpoint=path)
    assert torch.equal(network.classifier.bias, kept)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_on_a_gpu_learns_the_same(precision):
    task = tiny_task()
    recipe = Recipe(epochs=5, batch_size=16, precision=precision)
    cpu, gpu = tiny_network().module, tiny_network().module
    on_cpu = train(cpu, task, Recipe(epochs=5, batch_size=16), 0)
    on_gpu = train(gpu, task, recipe, 0, device="cuda")
    close = 1e-3 if precision == "float32" else 5e-2
    assert on_gpu.epochs[0].train_loss == pytest.approx(on_cpu.epochs[0].train_loss, rel=close)
    assert next(gpu.parameters()).device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_goes_on_with_its_loss_scale(tmp_path):
    path, recipe = tmp_path / "c.safetensors", Recipe(epochs=2, precision="float16")
    first = trained(recipe=recipe, device="cuda", checkpoint=path)
    assert trained(recipe=recipe, device="cuda", checkpoint=path) == first


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_device_is_one_line():
    with pytest.raises(TrainingError, match="this machine offers no CUDA device"):
        trained(device="cuda")


def test_float16_on_a_cpu_is_refused_before_anything_is_trained():
    with pytest.raises(TrainingError, match="float16 needs a CUDA device") as caught:
        trained(recipe=Recipe(precision="float16"))
    assert "\n" not in str(caught.value)


def test_bfloat16_runs_the_layers_in_bfloat16_and_judges_in_float32():
    types = []

    class Spy(nn.Linear):
        def forward(self, x):
            made = super().forward(x)
            types.append((self.training, made.dtype))
            return made

    with seeded(0):
        module = nn.Sequential(nn.Flatten(), Spy(64, 3))
    train(module, tiny_task(), Recipe(epochs=1, precision="bfloat16"), 0)
    assert (True, torch.bfloat16) in types
    assert (False, torch.float32) in types
    assert (True, torch.float32) not in types
    assert module[1].weight.dtype == torch.float32
