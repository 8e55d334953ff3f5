"""What networks of every kind of cell in the C kernel are held to, against torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nasplatform.benchmarks.cellnet import BATCH, Images, LearningCurve, Recipe, learning_rates

Side = tuple[Any, torch.nn.Module, list[torch.Tensor]]
"""The kernel's network, torch's of the same parameters, and these in the kernel's order."""


def batch(shape: tuple[int, int, int], seed: int = 0, count: int = BATCH) -> Images:
    """Images with exact ties, as quantised inputs have."""
    r = np.random.default_rng(seed)
    images = np.round(r.standard_normal((count, *shape)) * 2).astype(np.float32) / 2
    return Images(images, r.integers(0, 10, count))


def perturbed(flat: NDArray[np.float32], r: np.random.Generator) -> NDArray[np.float32]:
    """Initial parameters with scales and shifts random too."""
    return flat + 0.1 * r.standard_normal(len(flat)).astype(np.float32)


def flatten(tensors: list[torch.Tensor]) -> NDArray[np.float32]:
    return torch.cat([t.flatten() for t in tensors]).detach().numpy()


def fields(curve: LearningCurve) -> list[list[float]]:
    """All of a curve but the seconds."""
    return [
        curve.epochs.tolist(),
        curve.train_loss.tolist(),
        curve.valid_correct.tolist(),
        curve.test_correct.tolist(),
    ]


def check_logits_and_gradients(side: Side, shape: tuple[int, int, int]) -> None:
    net, theirs, tensors = side
    data = batch(shape)
    x, y = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    # Gradients jump where a ReLU input or a pooling difference is within rounding of 0, so they
    # are compared with the same network in float64 and with an allowance per tensor.
    theirs = theirs.double().train()
    expected = theirs(x.double())
    loss = torch.nn.functional.cross_entropy(expected, y)
    loss.backward()
    logits, ours = net.loss_and_gradients(data)
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-4, rtol=1e-4)
    assert ours == pytest.approx(loss.item(), abs=1e-5)
    gradients, at = net.state()[1], 0
    whole = float(np.linalg.norm(gradients))
    for tensor in tensors:
        # a parameter that no path to the loss reads has no gradient in torch
        grad = (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).flatten().numpy()
        part = gradients[at : at + len(grad)]
        assert np.linalg.norm(part - grad) <= 1e-3 * np.linalg.norm(grad) + 1e-5 * whole
        at += len(grad)
    # evaluation with running statistics of two batches
    other = batch(shape, 1)
    net.logits(other, training=True)
    with torch.no_grad():
        theirs(torch.from_numpy(other.images).double())
        expected = theirs.eval()(x.double()).numpy()
    np.testing.assert_allclose(net.logits(data, training=False), expected, atol=1e-4, rtol=1e-4)
    # counting, with an incomplete last block
    some = Images(data.images[:37], data.labels[:37])
    assert net.correct(some) == (expected.argmax(1) == data.labels)[:37].sum()


def check_steps(side: Side, shape: tuple[int, int, int]) -> None:
    net, theirs, tensors = side
    data = batch(shape, 5, 4 * BATCH)
    order = np.random.default_rng(0).permutation(len(data.images))
    rates = learning_rates(Recipe(epochs=1, learning_rate=0.05), 4)
    sgd = torch.optim.SGD(
        tensors, lr=1.0, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False
    )
    before = flatten(tensors)
    losses = []
    theirs.train()
    for step, rate in enumerate(rates):
        sgd.param_groups[0]["lr"] = float(rate)
        some = order[step * BATCH : (step + 1) * BATCH]
        out = theirs(torch.from_numpy(data.images[some]))
        loss = torch.nn.functional.cross_entropy(out, torch.from_numpy(data.labels[some]))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert net.train(data, order, rates) == pytest.approx(np.mean(losses), abs=1e-4)
    after = flatten(tensors)
    assert np.linalg.norm(net.state()[0] - after) < 2e-3 * np.linalg.norm(after - before)


def check_training(train: Callable[[Recipe, int], LearningCurve]) -> None:
    """It learns the digits, and the seed decides everything."""
    recipe = Recipe(evaluate_at=(1, 5, 10))
    first, again, other = (train(recipe, seed) for seed in (0, 0, 1))
    assert fields(first) == fields(again)
    assert first.train_loss.tolist() != other.train_loss.tolist()
    assert first.epochs.tolist() == [1, 5, 10]
    assert first.train_loss[-1] < first.train_loss[0]
    assert first.valid_correct[-1] > 0.93 * 449
    assert first.test_correct[-1] > 0.93 * 450
    assert (np.diff(first.seconds) > 0).all()
