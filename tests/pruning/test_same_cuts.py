"""The same channels go as ever: digests of what is kept, and what it costs, on fixed weights.

``same_cuts.json``: network -> importance and goal -> digest, multiply-adds, parameters. Only a
change that is meant to cut otherwise may change it.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from test_surgery import CELLS, Bottleneck, Dense, Residual, Shared, made, stirred

from nasplatform.models.networks.resnet import ResNet, ResNetOptions
from nasplatform.pruning.budgets import Goal
from nasplatform.pruning.graph import ChannelGraph, cost
from nasplatform.pruning.importance import bn_scale, group_scores, l1, random
from nasplatform.pruning.selection import enough, ranked, uniform_rate
from nasplatform.pruning.surgery import kept_channels
from nasplatform.pruning.tracing import channel_graph
from nasplatform.spaces import get_space
from nasplatform.training.seeding import seeded

EXPECTED = json.loads((Path(__file__).parent / "same_cuts.json").read_text())


def network(name):
    """The module and its input shape."""
    kinds = {kind.__name__: kind for kind in (Residual, Bottleneck, Dense, Shared)}
    if name in kinds:
        return made(kinds[name], 1), (3, 8, 8)
    if name == "resnet20":
        with seeded(3):
            return stirred(ResNet(ResNetOptions(depth=20, input_shape=(1, 8, 8)))), (1, 8, 8)
    kind, index = name.split("-")
    if kind == "nasbench101":
        options = {"stem_channels": 10, "modules_per_stack": 2, "stacks": 2}
        space = get_space(kind, input_shape=(3, 8, 8), **options)
        architecture = space.parse(CELLS[int(index)])
    else:
        space = get_space(kind, input_shape=(1, 8, 8), stem_channels=6, cells_per_stage=2)
        architecture = space.sample(15, np.random.Generator(np.random.PCG64(5)))[int(index)]
    with seeded(int(index)):
        return stirred(space.build(architecture)), space.options.input_shape


def removed(graph: ChannelGraph, scores, goal: str):
    if goal == "rate":
        return uniform_rate(graph, scores, 0.3)
    allocation, metric, multiple = goal.split("-")
    most = 0.5 * getattr(cost(graph, np.zeros(0, np.int64)), metric)
    half = Goal("half", lambda groups: float(getattr(cost(graph, groups), metric) - most))
    return enough(ranked(graph, scores, allocation, int(multiple)), half)


def digest(kept) -> str:
    plain = {n: {k: v for k, v in e.items() if k != "vectors"} for n, e in kept.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_same_channels_go(name):
    module, shape = network(name)
    graph = channel_graph(module, shape)
    each = {"l1": l1(module, graph), "bn": bn_scale(module, graph), "random": random(graph, 3)}
    for what, expected in EXPECTED[name].items():
        importance, goal = what.split()
        groups = removed(graph, group_scores(graph, each[importance]), goal)
        found = [digest(kept_channels(graph, groups)), *cost(graph, groups)]
        assert found == expected, what
