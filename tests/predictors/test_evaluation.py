"""Protocols and metrics, on the platform's own embedded table."""

import json

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from nasplatform.cli import main
from nasplatform.errors import PredictorError
from nasplatform.predictors.baselines import BASELINES
from nasplatform.predictors.evaluation import (
    coverage,
    evaluate,
    rank_metrics,
    summarise,
    table,
)
from nasplatform.predictors.protocols import draw, get_protocol, protocols


def test_every_protocol_reads() -> None:
    assert {"tnasp", "nb201", "digits", "fashion"} <= set(protocols())
    with pytest.raises(PredictorError, match="did you mean 'tnasp'"):
        get_protocol("tnaps")


def test_rank_metrics_by_hand() -> None:
    truth = np.linspace(0, 1, 300)
    predicted = truth.copy()
    predicted[:20] += 2  # the twenty worst are taken for the best
    found = rank_metrics(predicted, truth)
    assert found["kendall"] == pytest.approx(kendalltau(predicted, truth)[0])
    assert found["precision@100"] == pytest.approx(0.8)
    assert found["precision@10"] == 0
    assert found["regret@10"] == pytest.approx(1 - truth[19])
    gains, most = np.sort(predicted)[:-11:-1] - 2, np.sort(truth)[:-11:-1]
    discount = 1 / np.log2(np.arange(2, 12))
    assert found["ndcg@10"] == pytest.approx((gains @ discount) / (most @ discount))
    assert rank_metrics(truth, truth)["ndcg@10"] == 1
    moved = rank_metrics(predicted, 5 + 2 * truth)  # the worst gains nothing in any unit
    assert moved["ndcg@10"] == pytest.approx(found["ndcg@10"])
    assert moved["regret@10"] == pytest.approx(2 * found["regret@10"])
    assert found["spearman"] == pytest.approx(spearmanr(predicted, truth)[0])
    assert rank_metrics(np.ones(300), truth)["kendall"] == 0
    with pytest.raises(PredictorError, match="at least 2"):
        rank_metrics(truth[:1], truth[:1])


def test_coverage_of_a_normal_distribution() -> None:
    noise = np.random.default_rng(0).standard_normal(50_000)
    assert coverage(np.zeros(50_000), np.ones(50_000), noise) == pytest.approx(0.9, abs=0.005)


def test_a_draw_keeps_labels_and_truth_apart() -> None:
    protocol = get_protocol("digits")
    one, again, other = draw(protocol, 50, 0), draw(protocol, 50, 0), draw(protocol, 50, 1)
    assert len(one.train) == len(one.labels) == 50
    assert len(one.test) == len(one.truth) == len(one.unique)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert not np.array_equal(one.labels, other.labels)
    known = {bytes(a) + bytes(o) for a, o in zip(one.train.adjacency, one.train.ops, strict=True)}
    asked = {bytes(a) + bytes(o) for a, o in zip(one.test.adjacency, one.test.ops, strict=True)}
    assert not known & asked
    with pytest.raises(PredictorError, match="labels"):
        draw(protocol, 10**6, 0)


def test_evaluate_sets_the_simple_ones_beside() -> None:
    told = []
    results = evaluate(
        {"gp": {"steps": 10}}, get_protocol("digits"), [30, 30], 2, lambda *step: told.append(step)
    )
    names = {*BASELINES, "gp", "gp-trees"}  # cells have no flat numbers
    assert told[-1] == (2 * len(names), 2 * len(names))
    assert set(results["predictor"]) == names
    summary = summarise(results)
    assert (summary["draws"] == 2).all()
    assert len(table(summary)) == len(names)
    tau = summary.set_index(["predictor", "labels"])["kendall_mean"]
    assert tau["gp", 30] > tau["random", 30] + 0.2
    for labels in ([], [1], [10**6]):
        with pytest.raises(PredictorError):
            evaluate({"gp": {}}, get_protocol("digits"), labels, 1)


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["predictors", "evaluate", "-p", "gp", "--protocol", "digits", "--draws", "1"]
    assert main([*asked, "--labels", "20", "--set", "steps=5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {row["predictor"] for row in answer["summary"]} >= {"gp", "gp-trees", "random"}
    bad = [
        [*asked[:5], "nonsense"],
        [*asked, "--labels", "20,x"],
        [*asked, "--labels", "9999999"],
        [*asked, "--set", "nonsense=3"],
        ["predictors", "evaluate", "-p", "nonsense", "--protocol", "digits"],
    ]
    for arguments in bad:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.splitlines()[-1].startswith("error: ")
