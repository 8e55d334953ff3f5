"""What people give to Python's functions: input -> what is returned, or the error and its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import nasplatform
from nasplatform.errors import (
    ArchitectureError,
    ConfigError,
    DataError,
    InputError,
    PlaceError,
    PluginError,
    PredictorError,
    RunError,
)
from nasplatform.models.network import Network
from nasplatform.predictors import Predictor, load_predictor
from nasplatform.runs.saved import save_predictor
from nasplatform.search import RandomSampler
from nasplatform.training.datasets import load_task

SPACE = nasplatform.get_space("nasbench101", stem_channels=8)
CELLS = nasplatform.get_space("nasbench201")
MACRO = nasplatform.get_space("macro-chain")
VIT = nasplatform.get_space("vit", subspace="digits")
RNG = np.random.default_rng(0)
TEXTS = ["[333]1101/110/10/1", "[3]11/1", "[33]110/10/1", "[3M3]1100/010/10/1"]
SCORES = [0.1, 0.4, 0.2, 0.3]
GRAPHS = SPACE.graphs([SPACE.parse(text) for text in TEXTS])
API = "nasbench-api"
ARC = "|none~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def read_back(texts: Any) -> list[str]:
    """Return what was read, as it is written."""
    population, errors = SPACE.parse_many(texts)
    assert not errors
    return [SPACE.format(one) for one in population]


def fitted(scores: Any, graphs: Any = GRAPHS, **options: Any) -> list[float]:
    """Return the order in which a predictor puts what it has learnt."""
    predictor = nasplatform.get_predictor("gp-trees", **options).fit(graphs, scores)
    return np.argsort(predictor.predict(GRAPHS).mean).tolist()


def cell(matrix: Any, ops: Any) -> str:
    value = {"module_adjacency": matrix, "module_operations": ops}
    return SPACE.format(SPACE.read(value, API))


def trained(**more: Any) -> Predictor:
    return nasplatform.get_predictor("gp-trees").fit(GRAPHS, SCORES, **more)


def network() -> Network:
    return Network.named("resnet", depth=8, width=4)


def arc(value: Any, form: str | None = "naslib") -> str:
    return CELLS.format(CELLS.read(value, form))


def ran(file: Any = "nowhere.yaml", **more: Any) -> Any:
    return nasplatform.run(file, "out", **more)


BY_POSITION = {
    "list": lambda: TEXTS,
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "array of objects": lambda: np.array(TEXTS, object),
    "array of text": lambda: np.array(TEXTS),
    "index": lambda: pd.Index(TEXTS),
    "sorted series": lambda: pd.Series(TEXTS, index=[2, 0, 3, 1]),
    "series of named rows": lambda: pd.Series(TEXTS, index=list("dcba")),
    "series of one label": lambda: pd.Series(TEXTS, index=[7] * 4),
    "string dtype": lambda: pd.Series(TEXTS, dtype="string"),
    "categories": lambda: pd.Series(TEXTS, dtype="category"),
    "blanks": lambda: [f"  {text}\n" for text in TEXTS],
}
LABELS = {
    "list": SCORES,
    "tuple": tuple(SCORES),
    "sorted series": pd.Series(SCORES, index=[3, 2, 1, 0]),
    "nullable": pd.array(SCORES, dtype="Float64"),
    "single precision": np.array(SCORES, np.float32),
    "texts of numbers": ["0.1", "0.4", "0.2", "0.3"],
    "unmasked": np.ma.array(SCORES, mask=[False] * 4),
}
WRONG: list[tuple[Callable[[], Any], type[InputError], str]] = [
    (lambda: SPACE.parse_many("[3]11/1"), ArchitectureError, "several .* the one text"),
    (lambda: SPACE.parse_many(b"[3]11/1"), ArchitectureError, "several .* the one text"),
    (lambda: SPACE.parse_many(set(TEXTS)), ArchitectureError, "in order, .* found set"),
    (lambda: SPACE.parse_many(frozenset(TEXTS)), ArchitectureError, "in order, .* frozenset"),
    (lambda: SPACE.parse_many({"[3]11/1": 1}), ArchitectureError, "in order, .* found dict"),
    (lambda: SPACE.parse_many(pd.DataFrame([TEXTS])), ArchitectureError, "found DataFrame"),
    (lambda: SPACE.parse_many(None), ArchitectureError, "several .* found NoneType"),
    (lambda: SPACE.parse_many(3), ArchitectureError, "several .* found int"),
    (lambda: CELLS.parse_many("134322"), ArchitectureError, "several .* the one text"),
    (lambda: SPACE.parse(None), ArchitectureError, "the text .* found NoneType"),
    (lambda: SPACE.parse(b"[3]11/1"), ArchitectureError, "the text .* found bytes"),
    (lambda: CELLS.parse(3), ArchitectureError, "the text .* found int 3"),
    (lambda: CELLS.parse(float("nan")), ArchitectureError, "the text .* found float nan"),
    (lambda: SPACE.graphs(TEXTS), ArchitectureError, r"architectures\[0\] is str .* by parse"),
    (lambda: CELLS.graphs([None]), ArchitectureError, "is NoneType None, expected Cell"),
    (lambda: SPACE.graphs(TEXTS[0]), ArchitectureError, "the one text"),
    (lambda: SPACE.graphs(CELLS.parse(ARC)), ArchitectureError, "several architectures"),
    (lambda: fitted([0.1, np.nan, 0.2, 0.3]), PredictorError, r"scores\[1\] is nan"),
    (lambda: fitted([0.1, None, 0.2, 0.3]), PredictorError, r"scores\[1\] is nan"),
    (lambda: fitted(np.ma.array(SCORES, mask=[0, 0, 1, 0])), PredictorError, r"\[2\] is nan"),
    (lambda: fitted(pd.array([1, None, 2, 3], "Float64")), PredictorError, r"\[1\] is nan"),
    (lambda: fitted([0.1, np.inf, 0.2, 0.3]), PredictorError, r"scores\[1\] is inf"),
    (lambda: fitted([1e300, 1, 2, 3]), PredictorError, "lie within 1e.12 of 0"),
    (lambda: fitted(list("abcd")), PredictorError, "one number for each graph"),
    (lambda: fitted([1j, 2, 3, 4]), PredictorError, "complex128 is no real number"),
    (lambda: fitted(pd.to_datetime(["2020"] * 4)), PredictorError, "is no real number"),
    (lambda: fitted({"a": 1}), PredictorError, "one number for each graph"),
    (lambda: fitted([[1], [2], [3], [4]]), PredictorError, r"shape \(4, 1\), expected \(4,\)"),
    (lambda: fitted(SCORES[:3]), PredictorError, r"shape \(3,\), expected \(4,\)"),
    (lambda: fitted([0.5] * 4), PredictorError, "nothing can be learnt"),
    (lambda: fitted(SCORES, TEXTS), PredictorError, "space.graphs.* found list"),
    (lambda: fitted(SCORES, None), PredictorError, "space.graphs.* found NoneType"),
    (lambda: fitted(SCORES, seed="x"), PredictorError, "seed: expected a whole .* got 'x'"),
    (lambda: fitted(SCORES, seed=1.5), PredictorError, "seed: expected a whole .* got 1.5"),
    (lambda: fitted(SCORES, seed=-1), PredictorError, "seed: expected a whole .* got -1"),
    (lambda: fitted(SCORES, seed=True), PredictorError, "seed: expected a whole .* got True"),
    (lambda: nasplatform.get_space("nasbench-101"), PluginError, "did you mean 'nasbench101'"),
    (lambda: nasplatform.get_space("nasbench101", stem=8), ConfigError, "unknown key 'stem'"),
    (lambda: nasplatform.get_predictor("GP"), PluginError, "unknown predictor 'GP'"),
    (lambda: arc((1, 3)), ArchitectureError, "naslib: expected 6 operations, found 2"),
    (lambda: arc((1, 3, 4, 3, 2, 5)), ArchitectureError, "operation 6 is 5"),
    (lambda: arc((1, 3, 4, 3, 2, True)), ArchitectureError, "operation 6 is True"),
    (lambda: arc(15_625, "nats-index"), ArchitectureError, "from 0 to 15624"),
    (lambda: arc(-1, "nats-index"), ArchitectureError, "from 0 to 15624"),
    (lambda: arc("nats-index:\u0663", None), ArchitectureError, "is no whole number from 0 to"),
    (lambda: arc(ARC, "NB201"), ArchitectureError, "unknown form 'NB201'"),
    (lambda: arc(ARC, 3), ArchitectureError, "unknown form '3'"),  # type: ignore[arg-type]
    (lambda: arc("nb201:|none~0|", None), ArchitectureError, "nb201: expected three nodes joined"),
    (lambda: arc(None), ArchitectureError, "naslib writes: expected NASLib's six operation indice"),
    (lambda: arc({"0_1": "none"}, "nni"), ArchitectureError, "nni: expected the keys 0_1, 0_2"),
    (lambda: SPACE.read({}, API), ArchitectureError, "writes: expected ``nasbench``'s records: "),
    (lambda: cell([[0, 0], [1, 0]], ["input", "output"]), ArchitectureError, "later vertices"),
    (lambda: cell([[0, 0.5], [0, 0]], ["input", "output"]), ArchitectureError, "expected 0 or 1"),
    (lambda: cell([[0, 1]], ["input", "output"]), ArchitectureError, "shape"),
    (lambda: ran(), ConfigError, "nowhere.yaml: no such file"),
    (lambda: ran({"name": "x"}), ConfigError, "expected the path of a file.*, got dict"),
    (lambda: ran(None), ConfigError, "expected the path of a file.*, got NoneType"),
    (lambda: ran("t.yaml", overrides=["seed=3"]), ConfigError, "overrides: expected dotted keys"),
    (lambda: ran("t.yaml", overrides={"seed": "x"}), ConfigError, "seed: expected a whole number"),
    (lambda: ran("t.yaml", resume=True), RunError, "no run stands here that could go on"),
    (lambda: nasplatform.compress("t.yaml", "out"), ConfigError, "starts from a search"),
    (lambda: nasplatform.Run("nowhere"), RunError, "nowhere: no run stands here"),
    (lambda: nasplatform.Run(None), RunError, "expected the path of a file or folder"),
    (lambda: nasplatform.read_runs("nowhere"), RunError, "no run stands here or below"),
    (lambda: nasplatform.read_runs(["t.yaml"]), RunError, "expected the path .*, got list"),
    (lambda: nasplatform.list_runs("t.yaml"), RunError, "no run stands here or below"),
    (lambda: nasplatform.read_stages("nowhere"), RunError, "no run stands here or below"),
    (lambda: ran("t.yaml", overrides={3: 4}), ConfigError, "dotted keys such as 'seed', got 3"),
    (lambda: nasplatform.run("t.yaml", 3), RunError, "expected the path .*, got int"),
    (lambda: SPACE.sample(-1, RNG), ArchitectureError, "n: expected a whole number .* got -1"),
    (lambda: MACRO.sample(1.5, RNG), ArchitectureError, "n: expected a whole number .* got 1.5"),
    (lambda: VIT.sample(True, RNG), ArchitectureError, "n: expected a whole number .* got True"),
    (lambda: CELLS.sample(3, 0), ArchitectureError, "rng: .* makes one, got int"),
    (lambda: SPACE.sample(3, None), ArchitectureError, "rng: .* got NoneType"),
    (lambda: CELLS.enumerate()[10**9], PlaceError, "no place 1,000,000,000 in a .* of 6,466"),
    (lambda: CELLS.enumerate()[-6467], PlaceError, "no place -6,467 in a population of 6,466"),
    (lambda: CELLS.enumerate()["a"], PlaceError, "no place 'a' in a population of 6,466"),
    (lambda: CELLS.enumerate()[1.5], PlaceError, "no place 1.5 in a population of 6,466"),
    (lambda: CELLS.enumerate()[[True]], PlaceError, r"no place \[true\] in a population"),
    (lambda: SPACE.build("[3]11/1"), ArchitectureError, "nasbench101's Cell, found str .* parse"),
    (lambda: SPACE.build(CELLS.parse(ARC)), ArchitectureError, "nasbench101's Cell, found Cell"),
    (lambda: CELLS.format(None), ArchitectureError, "nasbench201's Cell, found NoneType"),
    (lambda: MACRO.format(3), ArchitectureError, "macro_chain's Chain, found int 3"),
    (lambda: VIT.to_params("x"), ArchitectureError, "vit's VisionTransformer, found str 'x'"),
    (lambda: SPACE.from_params({}), ArchitectureError, "decision 'edge_0_1' is missing"),
    (lambda: CELLS.from_params({"x": 1}), ArchitectureError, "decision 'edge_0_1' is missing"),
    (lambda: MACRO.from_params({}), ArchitectureError, "is missing"),
    (lambda: VIT.from_params({}), ArchitectureError, "is missing"),
    (lambda: SPACE.from_codes(np.array([1.5])), ArchitectureError, "float64, expected whole"),
    (lambda: CELLS.from_codes(np.array([-1])), ArchitectureError, "expected whole numbers from 0"),
    (lambda: MACRO.from_codes(np.array(["a"])), ArchitectureError, "expected whole numbers from 0"),
    (lambda: VIT.from_codes(np.zeros((2, 9), int)), ArchitectureError, r"shape \(2, 9\), expected"),
    (lambda: nasplatform.get_space(None), PluginError, "the name of a space, got NoneType"),
    (lambda: nasplatform.get_space(3), PluginError, "the name of a space, got int"),
    (lambda: nasplatform.get_predictor(None), PluginError, "name of a predictor, got NoneType"),
    (lambda: nasplatform.get_predictor("gp", steps="5"), ConfigError, "whole number, got '5'"),
    (lambda: nasplatform.get_predictor("gp", steps="1_0"), ConfigError, "whole number, got '1_0'"),
    (lambda: nasplatform.get_space("nasbench101", classes=True), ConfigError, "got true"),
    (lambda: load_task(None, {}, "task"), PluginError, "the name of a dataset, got NoneType"),
    (lambda: load_task("digits", None, "task"), ConfigError, "keys and values, got NoneType"),
    (lambda: load_task("npz", {"path": "."}, "task"), DataError, "is no regular file"),
    (lambda: trained(unlabelled=["a"]), PredictorError, "graphs of architectures.* found list"),
    (lambda: trained(unlabelled=SPACE.parse_many(TEXTS)[0]), PredictorError, "found Cells"),
    (lambda: fitted(torch.ones(4, requires_grad=True)), PredictorError, "one number for each"),
    (lambda: trained().save(None), PredictorError, "expected the path .*, got NoneType"),
    (lambda: trained().save("t.yaml"), PredictorError, "t.yaml: is a file, expected the name of"),
    (lambda: trained().save("."), PredictorError, "holds 't.yaml', which is not of ours"),
    (lambda: load_predictor(3), PredictorError, "expected the path .*, got int"),
    (lambda: save_predictor(trained(), SPACE, "."), PredictorError, "holds 't.yaml', which is"),
    (lambda: Network.load(None), RunError, "expected the path .*, got NoneType"),
    (lambda: network().save("t.yaml"), RunError, "t.yaml: is a file, expected the name of"),
    (lambda: network().save("."), RunError, "holds 't.yaml', which is not of ours"),
    (lambda: RandomSampler("nasbench101"), ConfigError, "space is a str, expected a Space"),
    (lambda: RandomSampler(SPACE, seed="x"), ConfigError, "seed is 'x', expected a number from"),
    (lambda: RandomSampler(SPACE, seed=-1), ConfigError, "seed is -1, expected a number from"),
    (lambda: RandomSampler(SPACE, candidates=[]), ConfigError, "there are no candidates"),
    (lambda: RandomSampler(SPACE, candidates=TEXTS), ArchitectureError, "is str .* by parse"),
    (
        lambda: RandomSampler(SPACE, candidates=CELLS.sample(2, RNG)),
        ArchitectureError,
        "expected Cell",
    ),
]


@pytest.mark.parametrize("kind", BY_POSITION)
def test_texts_are_taken_by_position(kind: str) -> None:
    assert read_back(BY_POSITION[kind]()) == TEXTS


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_taken_by_position(kind: str) -> None:
    assert fitted(LABELS[kind]) == fitted(np.array(SCORES))


def test_an_array_is_a_list_of_an_option() -> None:
    space = nasplatform.get_space("nasbench101", input_shape=np.array([3, 8, 8]))
    assert "input_shape [3, 8, 8]" in repr(space)


def test_generators_of_labels_and_architectures_are_read_once() -> None:
    graphs = SPACE.graphs(SPACE.parse(text) for text in TEXTS)
    assert fitted((score for score in SCORES), graphs) == fitted(SCORES)


@pytest.mark.parametrize(
    "value",
    [(1, 3, 4, 3, 2, 2), [1, 3, 4, 3, 2, 2], "[1, 3, 4, 3, 2, 2]", np.array([1, 3, 4, 3, 2, 2])],
    ids=["tuple", "list", "text", "array"],
)
def test_digits_of_another_tool_are_read_by_its_name(value: Any) -> None:
    assert arc(value) == ARC


@pytest.mark.parametrize("text", [ARC, ARC.upper(), f" {ARC}", ARC.replace("|+|", "| + |")])
def test_the_fields_own_text_has_its_name(text: str) -> None:
    assert arc(text, "nb201") == arc(f"nb201:{text}", None) == ARC


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("call", "kind", "words"), WRONG, ids=range(len(WRONG)))
def test_wrong_values(
    call: Callable[[], Any],
    kind: type[InputError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(
        "name: t\nspace: {name: bits, n: 8}\nevaluator: {name: bits}\n"
        "search: {budget: 3, sampler: {name: random}}\n"
    )
    with pytest.raises(kind, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


@pytest.mark.usefixtures("toy")
def test_overrides_may_be_what_python_has(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("name: t\nspace: {name: bits, n: 8}\nevaluator: {name: bits}\nsearch: {}\n")
    asked = {"search.budget": np.int64(3), "search.sampler": {"name": "random"}}
    first = nasplatform.run(file, tmp_path / "first", asked)
    more = {**asked, "search.budget": 5, "search.warm_start": first.folder.path}
    assert len(nasplatform.run(str(file), tmp_path / "second", more).evaluations) == 5


def test_a_predictor_of_few_labels_is_kept_and_read(tmp_path: Path) -> None:
    predictor = nasplatform.get_predictor("gp-trees").fit(GRAPHS, SCORES)
    predictor.save(tmp_path / "kept")
    again = type(predictor).load(tmp_path / "kept")
    np.testing.assert_array_equal(again.predict(GRAPHS).mean, predictor.predict(GRAPHS).mean)
