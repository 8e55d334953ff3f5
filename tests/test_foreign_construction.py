"""Typical mistakes in a plug-in of one's own, each told in one line when it is made or asked.

Each is a plug-in of ``docs/plugins`` with one change.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from nasplatform import plugins
from nasplatform.errors import ContractError, InputError, RunError
from nasplatform.evaluators.base import Evaluation
from nasplatform.executors import EvaluationRequest, EvaluatorSpec
from nasplatform.executors.measure import measure
from nasplatform.foreign import blaming
from nasplatform.models.network import Network
from nasplatform.predictors import get_predictor
from nasplatform.runtimes.choice import choose_runtime
from nasplatform.search.base import SamplerContext
from nasplatform.spaces import get_space
from nasplatform.stages.pipeline import make_stage
from nasplatform.testing.samplers import CostEvaluator
from nasplatform.training.datasets import load_task

SHOWN = Path(__file__).parents[1] / "docs" / "plugins"
WHERE = {
    "spaces": ("towers", "my_space", "TowerSpace"),
    "predictors": ("ridge", "my_predictor", "Ridge"),
    "samplers": ("annealing", "my_sampler", "Annealing"),
    "datasets": ("stripes", "my_dataset", "stripes"),
    "networks": ("plain", "my_network", "plain"),
    "stages": ("round-weights", "my_stage", "RoundWeights"),
    "runtimes": ("traced", "my_runtime", "Traced"),
    "encodings": ("node-choices", "my_encoding", "encoding"),
}
SPACE = get_space("macro-chain")
GRAPHS = SPACE.graphs(SPACE.sample(6, np.random.default_rng(0)))


def sampler():
    kind = plugins.get("samplers", "annealing")
    context = SamplerContext(SPACE, 0)
    return plugins.make("samplers", "annealing", kind.Options(), context, by="from_options")


def fit_and_save(folder):
    predictor = get_predictor("ridge").fit(GRAPHS, np.arange(6.0))
    predictor.save(folder / "model")


USE = {
    "spaces": lambda folder: get_space("towers"),
    "predictors": fit_and_save,
    "samplers": lambda folder: sampler(),
    "datasets": lambda folder: load_task("stripes", {}, "task"),
    "networks": lambda folder: Network.named("plain"),
    "stages": lambda folder: make_stage("round-weights", {}, "stages"),
    "runtimes": lambda folder: choose_runtime("traced"),
    "encodings": lambda folder: plugins.get("encodings", "node-choices")(GRAPHS),
}
NO_INIT = "\n    def __init__(self, *args, **kwargs):\n        pass\n"
SELFISH = "\n    def __init__(self):\n        pass\n"


def after(line: str, more: str) -> tuple[str, str]:
    return (line, line + more)


SPACE_NAME = '    prior: ClassVar[str] = "uniform over all towers"\n'
RIDGE_NAME = '    name: ClassVar[str] = "ridge"\n'
STAGE_NAME = '    name: ClassVar[str] = "round-weights"\n'
RUNTIME_NAME = '    name: ClassVar[str] = "traced"\n'
GRAPHS_LINE = "    def graphs(self, architectures: Sequence[Tower]) -> GraphBatch:\n"
MISTAKES = {
    # constructors and factories
    "space-init": ("spaces", after(SPACE_NAME, SELFISH), r"TowerSpace\(\) is called as"),
    "space-no-super": ("spaces", after(SPACE_NAME, NO_INIT), "must call super"),
    "predictor-init": (
        "predictors",
        after(RIDGE_NAME, "\n    def __init__(self, options):\n        pass\n"),
        r"'ridge': Ridge\(options\) is called as .*'seed'",
    ),
    "predictor-no-super": ("predictors", after(RIDGE_NAME, NO_INIT), "must call super"),
    "sampler-init": (
        "samplers",
        ("        cooling: float = 0.9,\n    ) ->", "    ) ->"),
        r"'annealing'.*cooling=\): got an unexpected keyword argument 'cooling'",
    ),
    "sampler-factory": (
        "samplers",
        (
            "    def propose",
            "    @classmethod\n    def from_options(cls, options, context):\n"
            "        cls(context.space)\n\n    def propose",
        ),
        "is made as a NoneType, expected an ArchitectureSampler",
    ),
    "stage-init": ("stages", after(STAGE_NAME, SELFISH), r"RoundWeights\(\) is called as"),
    "stage-no-super": ("stages", after(STAGE_NAME, NO_INIT), "must call super"),
    "runtime-init": (
        "runtimes",
        after(RUNTIME_NAME, "\n    def __init__(self, threads):\n        pass\n"),
        r"Traced\(threads\) is called as Traced\(\)",
    ),
    # methods and functions that take other arguments
    "stage-apply": (
        "stages",
        ("def apply(self, network: Network, task: Task, context: StageContext)", "def apply(self)"),
        r"apply\(self\) is called as .*apply\(self, network, task, context\)",
    ),
    "sampler-propose": (
        "samplers",
        ("def propose(self, number: int, history", "def propose(self, history"),
        r"propose\(self, history\) is called as .*\(self, number, history\)",
    ),
    "predictor-fit": (
        "predictors",
        ("unlabelled: Any, progress: Any)", "unlabelled: Any)"),
        r"_fit\(self, graphs, scores, unlabelled\) is called as",
    ),
    "space-graphs": (
        "spaces",
        ("def graphs(self, architectures: Sequence[Tower])", "def graphs(self)"),
        r"graphs\(self\) is called as",
    ),
    "dataset-two": (
        "datasets",
        ("def stripes(options: StripesOptions)", "def stripes(options: StripesOptions, seed)"),
        r"stripes\(options, seed\) is called as stripes\(options\)",
    ),
    "dataset-none": (
        "datasets",
        ("def stripes(options: StripesOptions)", "def stripes()"),
        r"stripes\(\) is called as stripes\(options\)",
    ),
    "dataset-bare": (
        "datasets",
        ("def stripes(options: StripesOptions)", "def stripes(options)"),
        "'options' is not annotated with a pydantic model",
    ),
    "dataset-unknown": (
        "datasets",
        ("def stripes(options: StripesOptions)", "def stripes(options: StripeOptions)"),
        "annotations cannot be read: name 'StripeOptions' is not defined",
    ),
    "network-two": (
        "networks",
        ("def plain(options: PlainOptions)", "def plain(options: PlainOptions, width)"),
        r"plain\(options, width\) is called as plain\(options\)",
    ),
    "network-none": ("networks", ("    return nn.Sequential(", "    nn.Sequential("), "NoneType"),
    "network-shape": (
        "networks",
        ("    input_shape: tuple[int, int, int] = Field((1, 8, 8)", "    shape: int = Field(8"),
        "its options have no input_shape",
    ),
    # answers
    "graphs-none": (
        "spaces",
        after(GRAPHS_LINE, "        return None\n"),
        "graphs returned a NoneType, expected a GraphBatch",
    ),
    "graphs-elsewhere": (
        "spaces",
        ("            space=self.name,", '            space="nasbench101",'),
        "graphs says they are of space 'nasbench101'",
    ),
    "graphs-fewer": (
        "spaces",
        (
            "= self.population(architectures).layers\n        b,",
            "= self.population(architectures).unique().layers\n        b,",
        ),
        "graphs returned 2 of 3 architectures",
    ),
    "sample-list": (
        "spaces",
        ("return Towers(rng.integers(", "return list(rng.integers("),
        "sample returned a list, expected a Population",
    ),
    "sample-none": (
        "spaces",
        ("        return Towers(rng.integers(", "        Towers(rng.integers("),
        "sample returned a NoneType",
    ),
    "parse-other": (
        "spaces",
        ("(int(layer[1]), int(layer[2]))", "(int(layer[1]), 4)"),
        "parse makes Tower",
    ),
    "params-other": (
        "spaces",
        ('(f"kernel{i}", a)', '(f"kernels{i}", a)'),
        "to_params has 'kernels0', which is not among distributions",
    ),
    "distributions-none": (
        "spaces",
        (
            '        return {\n            f"{what}{place}"',
            '        {\n            f"{what}{place}"',
        ),
        "distributions returned a NoneType",
    ),
    "state-number": (
        "predictors",
        ("np.array([self.centre, self.std])}", "self.centre}"),
        "'numbers' is a float64, expected an array",
    ),
    "state-none": (
        "predictors",
        ('        return {"weights"', '        {"weights"'),
        "_state of predictor 'ridge' returned a NoneType",
    ),
    "supports-true": (
        "predictors",
        after(RIDGE_NAME, "\n    def supports(self, graphs):\n        return True\n"),
        "supports returned True, expected None, or why not in words",
    ),
    "available-true": (
        "runtimes",
        (
            'return None if hasattr(torch.jit, "trace") else "needs a torch that can trace"',
            "return True",
        ),
        "available returned True",
    ),
    "why-not-false": (
        "encodings",
        (
            "return None if (graphs.adjacency == chain).all() else "
            '"they are wired in different ways"',
            "return False",
        ),
        "why_not of encoding 'node_choices' returned False",
    ),
    "dataset-fewer": (
        "datasets",
        (
            'return standardised_task("stripes", splits, "data set \'stripes\'")',
            'from dataclasses import replace\n    return replace(standardised_task("stripes", '
            'splits, ""), classes=5)',
        ),
        "says 5 classes, no training image is of class 4",
    ),
    "dataset-more": (
        "datasets",
        (
            'return standardised_task("stripes", splits, "data set \'stripes\'")',
            'from dataclasses import replace\n    return replace(standardised_task("stripes", '
            'splits, ""), classes=3)',
        ),
        "labels of train run from 0 to 3, expected 0 to 2, as it says 3 classes",
    ),
    "dataset-names": (
        "datasets",
        (
            'return standardised_task("stripes", splits, "data set \'stripes\'")',
            'return standardised_task("stripes", splits, "", class_names=("a", "b"))',
        ),
        "2 class_names for 4 classes",
    ),
}


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Return a function that registers a plug-in of ``docs/plugins`` with one change."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def register(kind: str, change: tuple[str, str]) -> None:
        name, module, attribute = WHERE[kind]
        text = (SHOWN / f"{module}.py").read_text()
        assert text.count(change[0]) == 1
        (tmp_path / f"changed_{module}.py").write_text(text.replace(*change))
        entry = EntryPoint(name, f"changed_{module}:{attribute}", f"nasplatform.{kind}")
        known = plugins.entry_points
        monkeypatch.setattr(
            plugins,
            "entry_points",
            lambda group: [*known(group=group), *([entry] if entry.group == group else [])],
        )
        plugins._entries.cache_clear()

    yield register
    monkeypatch.undo()
    plugins._entries.cache_clear()
    plugins._load.cache_clear()
    for name in [name for name in sys.modules if name.startswith("changed_")]:
        del sys.modules[name]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake, registered, tmp_path):
    kind, change, words = MISTAKES[mistake]
    registered(kind, change)
    with pytest.raises(InputError, match=words) as caught:
        USE[kind](tmp_path)
    assert "\n" not in str(caught.value)
    assert WHERE[kind][0].replace("-", "_") in str(caught.value).replace("-", "_")


@pytest.mark.parametrize("kind", WHERE)
def test_without_a_mistake_there_is_no_complaint(kind, registered, tmp_path):
    registered(
        kind, ("from __future__ import annotations\n", "from __future__ import annotations\n\n")
    )
    USE[kind](tmp_path)


class Promising(CostEvaluator):
    """Promises a metric beside the one it measures."""

    delivers = True

    def metrics(self):
        return ("edges", "latency")

    def evaluate(self, architecture, fidelity, seed):
        found = super().evaluate(architecture, fidelity, seed)
        more = {"latency": 1.0} if self.delivers else {}
        return Evaluation(found.score, {**found.metrics, **more})


@pytest.mark.parametrize("delivers", [True, False])
def test_an_evaluator_measures_what_it_promises(delivers):
    evaluator = Promising(SPACE)
    evaluator.delivers = delivers
    spec = EvaluatorSpec.of(evaluator)
    text = SPACE.format(SPACE.sample(1, np.random.default_rng(0))[0])
    request = EvaluationRequest(spec=spec, architecture=text, fidelity=1, seed=0)
    found = measure(request, {spec.key: evaluator})
    if delivers:
        assert found.error is None
    else:
        assert found.error_class == "fatal"
        assert "'cost' measured no latency, which its metrics() promises" in found.error


def test_the_fault_of_a_plugin_is_no_damage_of_a_file():
    fault = ContractError("space 'towers': graphs returned a NoneType")
    with pytest.raises(ContractError, match=r"^space 'towers'"), blaming("t.parquet", RunError):
        raise fault
