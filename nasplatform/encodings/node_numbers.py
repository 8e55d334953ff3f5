"""The numbers of a node: its attributes, those of its operation, its width, resolution and cost.

A space of cells has none beside the operation itself. Where a space has attributes, or operations
that differ in more than kind and window, every encoding reads them here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch, Operation

Floats = NDArray[np.floating[Any]]


def has_numbers(graphs: GraphBatch) -> bool:
    """Whether nodes differ in more than their operation, as far as these graphs' kind tells."""
    return bool(graphs.attribute_schema) or any(
        op.parts or op.residual or op.stride > 1 or op.expansion != 1 or op.groups != "full"
        for op in graphs.vocabulary
    )


def has_flat_numbers(graphs: GraphBatch) -> bool:
    """Whether ``flat_numbers`` say all of an architecture: nodes have attributes and a place."""
    return bool(graphs.attribute_schema) and graphs.positional


def flat_numbers(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, P) float32, the decisions of an architecture as anybody would write them down.

    Logarithms of parameters, FLOPs and the number of nodes that compute; then at each place the
    operation and the attributes from 0 to 1, -1 for one that is not there.
    """
    values, told = scaled_attributes(graphs)
    computing = (graphs.flops.sum(1) > 0).sum(1)
    costs = np.log(np.stack([graphs.total_params, graphs.total_flops, computing], axis=1) + 1.0)
    numbers = np.where(told > 0, values, -1).reshape(len(graphs), -1)
    return np.concatenate([costs, graphs.ops, numbers], axis=1).astype(np.float32)


def scaled_attributes(graphs: GraphBatch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return attributes (B, N, A) from 0 to 1 over their range, 0 for none, and 1 where told."""
    if graphs.attributes is None:
        nothing = np.zeros((*graphs.ops.shape, 0), np.float32)
        return nothing, nothing
    low = np.array([attribute.low for attribute in graphs.attribute_schema], np.float32)
    high = np.array([attribute.high for attribute in graphs.attribute_schema], np.float32)
    told = np.isfinite(graphs.attributes)
    width = np.maximum(high - low, np.float32(1e-12))
    values = np.where(told, (np.nan_to_num(graphs.attributes) - low) / width, 0)
    return values.astype(np.float32), told.astype(np.float32)


def node_numbers(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, N, D) float32, about 0 to 1, 0 for padding and for what a node has not.

    Attributes and where they are told; kernel, stride, expansion and further traits of the
    operation; logarithms of channels, resolution, parameters and FLOPs.
    """
    values, told = scaled_attributes(graphs)
    traits = np.array([*(_traits(op) for op in graphs.vocabulary), [0.0] * 6], np.float32)
    there = (graphs.ops >= 0)[:, :, None]
    sizes = np.stack(
        [
            np.log2(np.maximum(graphs.channels[:, 0], 1)) / 10,
            np.log2(np.maximum(graphs.resolution[:, 0], 1)) / 10,
            np.log2(graphs.params.sum(1) + 1.0) / 20,
            np.log2(graphs.flops.sum(1) + 1.0) / 30,
        ],
        axis=2,
    )
    found = np.concatenate([values, told, traits[graphs.ops], sizes * there], axis=2)
    return found.astype(np.float32)


def _traits(operation: Operation) -> list[float]:
    """Return kernel, stride, expansion, and whether channels are mixed, inputs added, ReLU met."""
    steps = operation.steps
    return [
        max(operation.kernel, *(step.kernel for step in steps)) / 7,
        float(np.log2(max(operation.stride, *(step.stride for step in steps)))) / 2,
        float(np.log2(operation.expansion)) / 3,
        float(operation.mixes_channels),
        float(operation.residual or any(step.residual for step in steps)),
        float(any(step.nonlinear for step in steps)),
    ]
