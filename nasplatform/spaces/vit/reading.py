"""Rows of a sub-space, read back from graphs."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch
from nasplatform.spaces.vit.choices import Choice, Decision
from nasplatform.spaces.vit.graphs import ABSENT, OF_ENTRY, OF_LAYER, Graphs
from nasplatform.spaces.vit.population import Rows

Bools = NDArray[np.bool_]


def read_rows(batch: GraphBatch, graphs: Graphs) -> Rows:
    """Return the rows (B, D) of which ``graphs`` made a batch."""
    decisions = graphs.subspace.decisions
    rows = np.zeros((len(batch), len(decisions)), np.uint8)
    for column, decision in enumerate(decisions):
        parts = [part for _, part in graphs.subspace.parts(decision)]
        there = batch.ops[:, [node for part in parts for node in _nodes(part, graphs)]] != ABSENT
        fits = np.concatenate([_fitting(batch, graphs, part) for part in parts], axis=-1)
        if decision.field != "depth":  # (choices, B, nodes): in every node that is there
            fits = (fits | ~there).all(2)
        rows[:, column] = np.where(there.any(1), fits.argmax(0) + 1, 0)
    return rows


def _fitting(batch: GraphBatch, graphs: Graphs, decision: Decision) -> Bools:
    """Return (choices, B, nodes), of a depth (choices, B): what can be what was chosen."""
    return np.stack([_fits(batch, graphs, decision, at) for at in range(len(decision.choices))])


def _nodes(decision: Decision, graphs: Graphs) -> list[int]:
    """Return the nodes that show a decision."""
    if decision.field == "readout":
        return [max(at for at, (_, layer) in enumerate(graphs.nodes, 1) if layer is None)]
    of_layers = decision.field not in (*OF_ENTRY, "width")
    return [
        at
        for at, (stage, layer) in enumerate(graphs.nodes, 1)
        if stage == decision.stage
        and (layer is not None) == of_layers
        and decision.layer in (None, layer)
    ]


def _fits(batch: GraphBatch, graphs: Graphs, decision: Decision, at: int) -> Bools:
    """Return (B, nodes), of a depth (B,): where a choice can be what was chosen."""
    nodes, choice = _nodes(decision, graphs), decision.choices[at]
    if decision.field == "depth":
        found: Bools = (batch.ops[:, nodes] != ABSENT).sum(1) == choice
        return found
    if decision.field in (*OF_ENTRY, *OF_LAYER):
        return np.stack([_shows(batch, graphs, decision, choice, node) for node in nodes], 1)
    if decision.field == "readout":
        name, value = "tokens", graphs.subspace.readout[str(choice)]["tokens"]
    else:
        name, value = {"width": "embedding"}.get(decision.field, decision.field), choice
    return np.isclose(_attribute(batch, name)[:, nodes], float(value))


def _shows(
    batch: GraphBatch, graphs: Graphs, decision: Decision, choice: Choice, node: int
) -> Bools:
    """Return (B,): whether operation and reduction of a node are of such a choice."""
    number, layer = graphs.nodes[node - 1]
    stage = graphs.subspace.stages[number]
    names = OF_ENTRY if layer is None else OF_LAYER
    ids = {op: place for place, op in enumerate(graphs.vocabulary)}
    found = np.zeros(len(batch), bool)
    made = zip(
        product(*(tuple(getattr(stage, name)) for name in names)),
        graphs.choices(number, layer),
        strict=True,
    )
    for chosen, operation in made:
        if chosen[names.index(decision.field)] != choice:
            continue
        same = batch.ops[:, node] == ids[operation]
        if layer is not None and any(one.name == "reduction" for one in graphs.attributes):
            kinds = stage.attention[str(chosen[0])]
            same &= _attribute(batch, "reduction")[:, node] == kinds[layer % len(kinds)].reduction
        found |= same
    return found


def _attribute(batch: GraphBatch, name: str) -> NDArray[np.float32]:
    assert batch.attributes is not None  # what a decision chooses varies, so the schema has it
    place = [one.name for one in batch.attribute_schema].index(name)
    values: NDArray[np.float32] = batch.attributes[:, :, place]
    return values
