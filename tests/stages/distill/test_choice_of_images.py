"""Choice of unlabelled images: risks and ranks against numpy, and that it finds what it should."""

import numpy as np
import pytest
import torch

from nasplatform.errors import StageError
from nasplatform.stages.distill.choice import (
    ConfidenceChoice,
    PUChoice,
    chosen_rows,
    nonnegative_risk,
    uncertainty,
)
from nasplatform.stages.distill.teachers import ModuleTeacher, Teacher
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.image_store import Images
from nasplatform.training.loop import predict, train
from nasplatform.training.recipe import Recipe

TASK = tiny_task()


def quiet(done, total, words):
    pass


@pytest.fixture(scope="module")
def teacher():
    network = tiny_network()
    train(network.module, TASK, Recipe(epochs=6, batch_size=16), 0)
    return Teacher.checked(ModuleTeacher.of(network, "tiny"), TASK)


def chosen(choice, teacher, images, folder, seed=0):
    return chosen_rows(choice, teacher, TASK.train.inputs, images, folder, seed, "cpu", quiet)


def test_uncertainty_is_the_cross_entropy_to_the_own_class():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = logits.numpy()
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(uncertainty(logits).numpy(), -np.log(p.max(1)))


def test_risk_is_that_of_the_paper():
    positive, unlabelled, prior = np.array([1.0, -2.0]), np.array([0.5, 3.0, -1.0]), 0.3

    def loss(z, label):
        return 1 / (1 + np.exp(label * z))

    first, rest = nonnegative_risk(torch.tensor(positive), torch.tensor(unlabelled), prior)
    assert float(first) == pytest.approx(prior * loss(positive, 1).mean())
    expected = loss(unlabelled, -1).mean() - prior * loss(positive, -1).mean()
    assert float(rest) == pytest.approx(expected)


@pytest.mark.parametrize(("keep", "count"), [(0.5, 12), (5, 5)])
def test_surest_images_are_kept(teacher, tmp_path, keep, count):
    rows = chosen(ConfidenceChoice(by="confidence", keep=keep), teacher, TASK.unlabelled, tmp_path)
    said = predict(teacher.inner.module, TASK.unlabelled).softmax(1).amax(1).numpy()
    expected = np.sort(np.argsort(-said, kind="stable")[:count])
    np.testing.assert_array_equal(rows, expected)


def test_pu_finds_the_images_like_the_labelled_ones(teacher, tmp_path):
    rng = np.random.default_rng(0)
    alike = TASK.valid.inputs.raw
    other = rng.integers(0, 30, (60, *TASK.input_shape))
    images = Images(np.concatenate([alike, other]), TASK.train.inputs.scale)
    choice = PUChoice(by="pu", prior=1 / 3, epochs=200)
    rows = chosen(choice, teacher, images, tmp_path)
    assert np.isin(np.arange(30), rows).mean() > 0.8
    assert np.isin(np.arange(30, 90), rows).mean() < 0.2
    np.testing.assert_array_equal(rows, chosen(choice, teacher, images, tmp_path))
    few = choice.model_copy(update={"keep": 10})
    assert len(chosen(few, teacher, images, tmp_path)) == 10


def test_choice_that_leaves_nothing_is_refused(teacher, tmp_path):
    with pytest.raises(StageError, match=r"choice\.keep: 0\.01 asks for 0 of 24 unlabelled images"):
        chosen(ConfidenceChoice(by="confidence", keep=0.01), teacher, TASK.unlabelled, tmp_path)


def test_more_than_there_are_is_refused(teacher, tmp_path):
    many = ConfidenceChoice(by="confidence", keep=100_000)
    with pytest.raises(StageError, match=r"choice\.keep: 100000 asks for 100000 of 24 unlabelled"):
        chosen(many, teacher, TASK.unlabelled, tmp_path)
