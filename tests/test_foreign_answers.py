"""What parts of third parties return is looked at where it enters: one line names the part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from nasplatform.encodings import Encoding
from nasplatform.errors import BuildError, DataError, GraphError, PredictorError, StageError
from nasplatform.evaluators.base import Evaluation
from nasplatform.executors.measure import _wrong
from nasplatform.models.edits import Edit
from nasplatform.predictors import Prediction, Predictor
from nasplatform.runtimes.base import Runtime, Session
from nasplatform.runtimes.choice import _compiled
from nasplatform.spaces import get_space
from nasplatform.stages.base import StageResult, check_result
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.task import check_task


@pytest.fixture(scope="module")
def graphs():
    space = get_space("macro-chain")
    return space.graphs(space.sample(6, np.random.default_rng(0)))


class Nothing(BaseModel):
    """No options."""


class Answering(Predictor):
    """Predicts what it was given."""

    name = "answering"
    Options = Nothing
    answer = None

    def _fit(self, graphs, scores, unlabelled, progress):
        progress(1, 1)

    def _predict(self, graphs):
        return self.answer

    def _state(self):
        return {}

    def _restore(self, state):
        return None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "predicts a NoneType"),
        (Prediction(np.zeros((6, 1)), np.ones(6)), r"mean as float64 \(6, 1\)"),
        (Prediction(np.zeros(6), np.ones(6, np.float32)), "std as float32"),
        (Prediction(np.full(6, np.nan), np.ones(6)), "not finite"),
        (Prediction(np.zeros(6), -np.ones(6)), "negative std"),
    ],
)
def test_a_prediction_is_a_number_for_each_graph(graphs, answer, words):
    predictor = Answering().fit(graphs, np.arange(6.0))
    predictor.answer = answer
    with pytest.raises(PredictorError, match=f"'answering'.*{words}"):
        predictor.predict(graphs)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([[1.0]] * 6, "makes list"),
        (np.ones((1, 3)), r"\(1, 3\) of 6 graphs"),
        (np.full((6, 3), np.nan), "not finite"),
        (np.ones((6, 3), object), "makes object"),
    ],
)
def test_an_encoding_makes_numbers_for_each_graph(graphs, made, words):
    with pytest.raises(GraphError, match=words):
        Encoding(lambda graphs: made)(graphs)


def test_graphs_are_arrays_wired_forward(graphs):
    with pytest.raises(GraphError, match="total_params is a list"):
        replace(graphs, total_params=graphs.total_params.tolist())
    with pytest.raises(GraphError, match="ops has 99"):
        replace(graphs, ops=np.full_like(graphs.ops, 99))
    with pytest.raises(GraphError, match="edges to later nodes only"):
        replace(graphs, adjacency=np.swapaxes(graphs.adjacency, 1, 2).copy())


def test_a_measurement_is_made_of_floats():
    assert _wrong(Evaluation(0.5, {"loss": 1})) is None
    assert "returned a float" in _wrong(0.5)
    assert "score is a str" in _wrong(Evaluation("0.5"))
    assert "loss is a Tensor" in _wrong(Evaluation(0.5, {"loss": torch.tensor(1.0)}))


def test_a_stage_leaves_a_network_that_its_structure_builds():
    network, task = tiny_network(), tiny_task()
    check_result(StageResult(network), "own", task)
    with pytest.raises(StageError, match="'own' returned a Network"):
        check_result(network, "own", task)
    with pytest.raises(StageError, match="metric 'x' is 'many'"):
        check_result(StageResult(network, {"x": "many"}), "own", task)
    wide = network.copy()
    wide.module.classifier = torch.nn.Linear(wide.module.classifier.in_features, 7)
    with pytest.raises(StageError, match="7 outputs, task 'tiny' has 3 classes"):
        check_result(StageResult(wide), "own", task)
    deep, last = network.copy(), network.module.classifier.in_features
    deep.module.classifier = torch.nn.Sequential(torch.nn.Linear(last, 3), torch.nn.Linear(3, 3))
    with pytest.raises(StageError, match="hand on what it did as an Edit"):
        check_result(StageResult(deep), "own", task)
    edited = network.edited(*(lambda e: (e.apply(network.copy().module), e))(_main_output()))
    check_result(StageResult(edited), "own", task)


def _main_output():
    return Edit("main-output", 1, {"classes": 3})


def test_the_parts_of_a_task_agree():
    task = tiny_task()
    check_task(task, "own")
    shifted = replace(task, train=replace(task.train, labels=task.train.labels + 1))
    short = replace(task, valid=replace(task.valid, labels=task.valid.labels[:-2]))
    floats = replace(task, test=replace(task.test, labels=task.test.labels.float()))
    for broken, words in (
        (None, "is a NoneType"),
        (shifted, "labels of train run from 1 to 3"),
        (short, "30 images and 28 labels"),
        (floats, "labels of test are torch.float32"),
        (replace(task, input_shape=(3, 8, 8)), "input_shape is"),
    ):
        with pytest.raises(DataError, match=f"own.*{words}"):
            check_task(broken, "own")


def test_raw_splits_are_pairs_of_arrays():
    images, labels = np.random.default_rng(0).normal(size=(9, 1, 4, 4)), np.arange(9) % 3
    for split, words in (
        ((images, labels, labels), "not a pair"),
        ((images.tolist(), labels.tolist()), "arrays of numpy"),
        ((images[:, 0], labels), "channels, height, width"),
        ((images, labels[:-1]), "channels, height, width"),
    ):
        with pytest.raises(DataError, match=words):
            standardised_task("own", [split] * 3, "own")


@pytest.mark.parametrize("answer", [None, ZeroDivisionError("by zero")])
def test_a_runtime_that_breaks_is_not_used(answer):
    class Own(Runtime):
        name = "own"

        def compile(self, module, input_shape, threads=1):
            if answer is None:
                return
            raise answer

    with pytest.raises(BuildError, match=r"NoneType, expected a Session|ZeroDivisionError"):
        _compiled(Own(), torch.nn.Identity(), (1, 8, 8), 1)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"runtime": "own"}, "session Own has threads = None, expected a whole number"),
        ({"threads": 1}, "session Own has runtime = None, expected text"),
        ({"runtime": "own", "threads": True}, "has threads = True, expected a whole number"),
        ({"runtime": "own", "threads": 0}, "has threads = 0, expected a whole number"),
        ({"runtime": "own", "threads": 1, "note": None}, "has note = None, expected text"),
    ],
)
def test_a_session_that_does_not_say_what_computes_is_not_used(attributes, words):
    class Own(Session):
        def run(self, images):
            return images

    class Runs(Runtime):
        name = "own"

        def compile(self, module, input_shape, threads=1):
            return Own()

    for name, value in attributes.items():
        setattr(Own, name, value)
    with pytest.raises(BuildError, match=words):
        _compiled(Runs(), torch.nn.Identity(), (1, 8, 8), 1)
