"""Populations of a sub-space as graphs: one node for each entry and for each layer there may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import Attribute, GraphBatch, Operation
from nasplatform.spaces.vit.architecture import Stage
from nasplatform.spaces.vit.choices import SubSpace
from nasplatform.spaces.vit.costs import Costs
from nasplatform.spaces.vit.numbers import Ints, Numbers
from nasplatform.spaces.vit.operations import (
    IDENTITY,
    INPUT,
    OUTPUT,
    entry_operation,
    layer_operation,
)
from nasplatform.spaces.vit.population import Rows
from nasplatform.spaces.vit.validation import sides

OF_ENTRY, OF_LAYER = ("entry", "positions"), ("attention", "feed_forward", "perception")
"""What the operation of an entry, and that of a layer, is chosen by."""
ABSENT = 1
"""The op id of a place without a layer."""
_UNITS = {"embedding": "channels", "head_width": "channels", "reduction": "tokens"}
Table = NDArray[np.int8]


@dataclass(frozen=True)
class Graphs:
    """How the graphs of a sub-space are made.

    Nodes are the input (the image, or what leaves the stem), then for each stage its entry and as
    many places for layers as it may have, ``identity`` where there is none, and the output (what
    the classifier reads). A stage's positions and class tokens belong to its entry. The input is
    as large as the first map may be, so that another entry shows as another resolution.
    """

    subspace: SubSpace
    input_shape: tuple[int, int, int]

    @cached_property
    def nodes(self) -> tuple[tuple[int, int | None], ...]:
        """(stage, layer) of each inner node; layer None for an entry."""
        return tuple(
            (number, layer)
            for number, stage in enumerate(self.subspace.stages)
            for layer in (None, *range(stage.depth[-1]))
        )

    @cached_property
    def vocabulary(self) -> tuple[Operation, ...]:
        """Input, identity, entries, layers, output."""
        found = dict.fromkeys(op for node in self.nodes for op in self.choices(*node))
        return (INPUT, IDENTITY, *found, OUTPUT)

    def choices(self, number: int, layer: int | None) -> Iterator[Operation]:
        """Yield the operations that a node may have, in the order of the choices."""
        stage = self.subspace.stages[number]
        if layer is None:
            for entry, positions in product(stage.entry.values(), stage.positions):
                yield entry_operation(entry, positions)
        else:
            made = product(stage.attention.values(), stage.feed_forward, stage.perception)
            for kinds, feed_forward, perception in made:
                yield layer_operation(kinds[layer % len(kinds)], feed_forward, perception)

    @cached_property
    def attributes(self) -> tuple[Attribute, ...]:
        """Those of ``_values`` that vary in the sub-space."""
        stages = self.subspace.stages
        tokens = {int(fields["tokens"]) for fields in self.subspace.readout.values()}
        late = len(stages) > 1 and self.subspace.whole.get("tokens_from") != "first"
        kinds = [one for stage in stages for kind in stage.attention.values() for one in kind]
        ranges: Mapping[str, set[float]] = {
            "embedding": {width for stage in stages for width in stage.widths},
            "tokens": tokens | ({0} if late else set()),
            "heads": {heads for stage in stages for heads in stage.heads},
            "head_width": {width for stage in stages for width in stage.head_width},
            "ratio": {ratio for stage in stages for ratio in stage.ratio},
            "reduction": {one.reduction for one in kinds},
        }
        return tuple(
            Attribute(name, _UNITS.get(name, ""), min(values), max(values))
            for name, values in ranges.items()
            if len(values) > 1
        )

    @cached_property
    def _largest(self) -> int:
        """The longer side of the largest first map."""
        first = self.subspace.architecture([1] * len(self.subspace.decisions))
        made = (Stage(1, (), entry) for entry in self.subspace.stages[0].entry.values())
        return max(
            max(sides(replace(first, stages=(stage,)), self.input_shape)[0]) for stage in made
        )

    def batch(self, space: str, rows: Rows, numbers: Numbers, costs: Costs) -> GraphBatch:
        """Return the graphs of rows (B, D)."""
        b, n = len(rows), len(self.nodes) + 2
        there, width = numbers.layers["there"], numbers.width
        entering = numbers.example.stem or self.input_shape[0]
        side = np.maximum(costs.height, costs.width)
        stage, layer, entry = self._places
        ops = np.empty((b, n), np.int8)
        ops[:, 0], ops[:, -1] = 0, len(self.vocabulary) - 1
        ops[:, 1:-1] = np.where(entry | (there[:, stage, layer] > 0), self._inner_ops(rows), ABSENT)

        def spread(of_entries: Ints, of_layers: Ints, first: int = 0) -> Ints:
            values = np.empty((b, 1, n), np.int64)
            values[:, 0, 0] = first
            values[:, 0, 1:-1] = np.where(entry, of_entries[:, stage], of_layers[:, stage, layer])
            values[:, 0, -1] = values[:, 0, -2] if first else 0
            return values

        def carried(of_stages: Ints, first: int) -> NDArray[np.int32]:
            return spread(of_stages, of_stages[:, :, None] + 0 * there, first).astype(np.int32)

        return GraphBatch(
            space=space,
            vocabulary=self.vocabulary,
            stages=(0,),
            adjacency=np.repeat(np.eye(n, k=1, dtype=np.uint8)[None], b, axis=0),
            ops=ops,
            channels=carried(width, entering),
            flops=2 * spread(costs.entry_macs, costs.layer_macs),
            params=spread(costs.entry_params, costs.layer_params),
            total_flops=np.broadcast_to(2 * costs.macs, b).copy(),
            total_params=np.broadcast_to(costs.params, b).copy(),
            resolution=carried(side, self._largest),
            positional=True,
            attribute_schema=self.attributes,
            attributes=self._attributes(b, numbers),
        )

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Return (N - 2,) each: stage, layer (0 for an entry), and whether it is an entry."""
        stages = np.array([stage for stage, _ in self.nodes])
        layers = np.array([layer or 0 for _, layer in self.nodes])
        return stages, layers, np.array([layer is None for _, layer in self.nodes])

    def _inner_ops(self, rows: Rows) -> Table:
        """Return (B, N - 2) op ids, whether a layer is there or not."""
        ids = {op: place for place, op in enumerate(self.vocabulary)}
        columns = {(d.field, d.stage, d.layer): at for at, d in enumerate(self.subspace.decisions)}
        ops = np.empty((len(rows), len(self.nodes)), np.int8)
        for place, (number, layer) in enumerate(self.nodes):
            stage = self.subspace.stages[number]
            chosen = np.zeros(len(rows), np.intp)
            for field in OF_ENTRY if layer is None else OF_LAYER:
                own = layer if field in stage.by_layer else None
                column = columns.get((field, number, own))
                chosen = chosen * len(getattr(stage, field))
                if column is not None:
                    chosen = chosen + np.maximum(rows[:, column].astype(np.intp), 1) - 1
            table = np.array([ids[op] for op in self.choices(number, layer)], np.int8)
            ops[:, place] = table[chosen]
        return ops

    def _attributes(self, b: int, numbers: Numbers) -> NDArray[np.float32]:
        """Return (B, N, A), NaN where a node has none."""
        stage, layer, entry = self._places
        there = numbers.layers["there"][:, stage, layer] > 0
        values = np.full((b, len(self.nodes) + 2, len(self.attributes)), np.nan, np.float32)
        for place, attribute in enumerate(self.attributes):
            if attribute.name == "embedding":
                found = np.where(entry | there, numbers.width[:, stage], np.nan)
            elif attribute.name == "tokens":
                found = np.where(entry, numbers.tokens[:, stage], np.nan)
            else:
                scale = 100 if attribute.name == "ratio" else 1
                known = numbers.layers[attribute.name][:, stage, layer] / scale
                found = np.where(there & ~entry, known, np.nan)
            values[:, 1:-1, place] = found
        return values
