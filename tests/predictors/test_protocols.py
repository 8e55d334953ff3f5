"""What a protocol lets a predictor see, on a table in which no two values are alike."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from nasplatform.benchmarks.table import BenchmarkTable, read_table, save_table
from nasplatform.errors import PredictorError
from nasplatform.predictors.evaluation import differences, evaluate, measure, paired
from nasplatform.predictors.protocols import (
    Measurement,
    Protocol,
    draw,
    get_protocol,
    most_labels,
)
from nasplatform.spaces import get_space

EPOCHS = (12, 200)
RUNS = 3
METRICS = ("valid", "test")
SPACE = get_space("nasbench201")
UNTESTED = 30  # the last architectures have no test value


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTable:
    """200 cells, some of which are isomorphic; metric, epochs and run can be read off a value.

    A value is its place in the table and, behind the point, 100, 10 and 1 thousandths of them.
    """
    every = SPACE.from_codes(np.arange(15_625, dtype=np.uint64)[:, None])
    _, first, count = np.unique(every.keys, return_index=True, return_counts=True)
    key = every.keys[first[np.argmax(count)]]  # of the largest class of isomorphic cells
    rng = np.random.default_rng(0)
    some = np.flatnonzero(every.keys == key)[:60]
    others = rng.choice(np.flatnonzero(every.keys != key), 140, replace=False)
    cells = every[rng.permutation(np.concatenate([some, others]))]
    place = np.arange(len(cells), dtype=np.float32)[:, None, None]
    epochs, runs = np.arange(2)[:, None] / 100, np.arange(RUNS) / 1000
    measured = {
        metric: (place + m / 10 + epochs + runs).astype(np.float32)
        for m, metric in enumerate(METRICS)
    }
    measured["test"][-UNTESTED:] = np.nan
    folder = tmp_path_factory.mktemp("table")
    save_table(BenchmarkTable("own", SPACE, cells, EPOCHS, measured), folder / "own.parquet")
    return read_table(folder / "own.parquet")


@pytest.fixture(scope="module")
def protocol(table: BenchmarkTable, tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    """Validation of run 0 after 12 epochs -> mean test accuracy after 200."""
    path = tmp_path_factory.mktemp("again") / "own.parquet"
    save_table(table, path)
    return Protocol(
        name="own",
        source="a test",
        about="one to another",
        table=(str(path),),
        train=Measurement(metric="valid", fidelity=12, seed=0),
        test=Measurement(metric=("absent", "test"), fidelity=None, seed=None),
        train_rows="any",
        labels=(20,),
    )


def whole(values: np.ndarray) -> np.ndarray:
    """Return the places in the table."""
    return np.floor(values + 1e-4).astype(int)


def behind(values: np.ndarray) -> set[float]:
    return set(np.round(values - whole(values), 3).tolist())


def test_labels_are_the_run_the_epochs_and_the_metric_that_are_learnt(protocol: Protocol) -> None:
    drawn = draw(protocol, 20, 0)
    assert behind(drawn.labels) == behind(drawn.held_out_labels) == {0.0}
    assert behind(drawn.truth) == {0.111}  # test, 200 epochs, the mean of runs 0, 1 and 2


def test_what_is_judged_was_not_learnt(protocol: Protocol, table: BenchmarkTable) -> None:
    drawn = draw(protocol, 20, 0)
    learnt, judged, held_out = map(whole, (drawn.labels, drawn.truth, drawn.held_out_labels))
    assert len(set(learnt)) == 20
    assert sorted({*learnt, *judged}) == sorted({*range(170), *learnt})
    assert not {*learnt} & {*judged}
    assert sorted(held_out) == sorted({*range(200)} - {*learnt})
    for graphs, rows in ((drawn.train, learnt), (drawn.test, judged), (drawn.held_out, held_out)):
        expected = SPACE.graphs(table.architectures[rows])
        np.testing.assert_array_equal(graphs.ops, expected.ops)


def test_isomorphic_twins_of_what_was_learnt_are_not_unique(
    protocol: Protocol, table: BenchmarkTable
) -> None:
    drawn = draw(protocol, 20, 0)
    keys = table.architectures.keys
    known = set(keys[whole(drawn.labels)].tolist())
    alone = [key not in known for key in keys[whole(drawn.truth)].tolist()]
    assert drawn.unique.tolist() == alone
    assert 20 < alone.count(False) < 60


def test_of_a_partial_table_labels_are_what_nobody_judges(protocol: Protocol) -> None:
    partial = protocol.model_copy(update={"train_rows": "unlabelled"})
    drawn = draw(partial, 20, 0)
    assert set(whole(drawn.labels)) <= {*range(200 - UNTESTED, 200)}
    assert sorted(whole(drawn.truth)) == list(range(200 - UNTESTED))
    assert most_labels(partial) == UNTESTED
    with pytest.raises(PredictorError, match="has 30 labels, 31 were asked for"):
        draw(partial, 31, 0)
    assert most_labels(protocol) == 198  # two are left to be judged


def test_a_draw_follows_from_seed_and_number_of_labels(protocol: Protocol) -> None:
    drawn = [whole(draw(protocol, n, seed).labels).tolist() for n, seed in ((20, 0), (20, 1))]
    assert drawn[0] != drawn[1]
    assert set(drawn[0]) != set(whole(draw(protocol, 21, 0).labels)[:20])


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("tnasp", ("valid_accuracy", 108, 0), ("test_accuracy", 108, None)),
        ("nb201", ("c10_valid_accuracy", 200, 0), ("c10_test_accuracy", 200, None)),
        ("digits", ("valid_accuracy", 10, 0), ("test_accuracy", 10, None)),
        ("fashion", ("valid_accuracy", 4, 0), ("test_accuracy", 4, None)),
    ],
)
def test_published_protocols_are_written_down_right(name: str, train: tuple, test: tuple) -> None:
    """One validation run teaches, the mean of all test runs judges (TNASP, section 4.1)."""
    found = get_protocol(name)
    assert (found.train.metric, found.train.fidelity, found.train.seed) == train
    assert (found.test.metric[0], found.test.fidelity, found.test.seed) == test
    assert found.train_rows == ("unlabelled" if name == "tnasp" else "any")


class Recorded:
    """A predictor that keeps what it is shown, and says the number of parameters."""

    def __init__(self) -> None:
        self.shown: list = []

    def fit(self, graphs, scores, unlabelled=None, progress=None):  # type: ignore[no-untyped-def]
        self.shown = [graphs, scores, unlabelled]
        return self

    def predict(self, graphs):  # type: ignore[no-untyped-def]
        from nasplatform.predictors.base import Prediction

        mean = graphs.total_params.astype(float)
        return Prediction(mean, np.full(len(mean), 0.5))


def test_a_predictor_is_shown_labels_of_the_drawn_and_graphs_alone_of_the_judged(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, recorded = draw(protocol, 20, 0), Recorded()
    monkeypatch.setattr(
        "nasplatform.predictors.evaluation.get_predictor", lambda name, **options: recorded
    )
    found = measure("recorded", drawn, 0)
    graphs, scores, unlabelled = recorded.shown
    assert graphs is drawn.train
    assert scores is drawn.labels
    assert unlabelled is drawn.test
    params = drawn.test.total_params.astype(float)
    assert found["kendall"] == pytest.approx(kendalltau(params, drawn.truth)[0])
    alone = kendalltau(params[drawn.unique], drawn.truth[drawn.unique])[0]
    assert found["kendall_unique"] == pytest.approx(alone)
    assert found["kendall_unique"] != pytest.approx(found["kendall"], abs=1e-6)
    gap = np.abs(drawn.held_out.total_params - drawn.held_out_labels)
    assert found["coverage90"] == pytest.approx((gap <= 1.6449 * 0.5).mean())


def test_gains_are_paired_by_draw(protocol: Protocol) -> None:
    results = evaluate({"gp": {"steps": 2}}, protocol, [20], 2)
    tau = results.pivot(index="draw", columns="predictor", values="kendall")
    gaps = paired(results, "gp").set_index("predictor")
    expected = (tau["random"] - tau["gp"]).to_numpy()
    assert gaps.loc["random", "difference"] == pytest.approx(expected.mean())
    assert gaps.loc["random", "difference_sem"] == pytest.approx(expected.std(ddof=1) / 2**0.5)
    assert gaps.loc["gp", "difference"] == 0


def test_a_predictor_without_the_reference_has_no_difference() -> None:
    results = pd.DataFrame(
        {
            "predictor": ["own", "own", "reference", "reference", "own"],
            "labels": [10, 10, 10, 10, 20],
            "draw": [0, 1, 0, 1, 0],
            "kendall": [0.5, 0.7, 0.4, 0.4, 0.9],
        }
    )
    asked = pd.DataFrame({"predictor": ["own", "own"], "labels": [20, 10]})
    summary = asked.merge(paired(results, "reference"), how="left")
    assert differences(summary) == ["", "0.2000 ± 0.1000"]
