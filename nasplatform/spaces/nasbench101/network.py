"""The network of a cell, as nasbench-pytorch makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from nasbench_pytorch.model import Network
from nasbench_pytorch.model.model import Cell as SlicingCell
from torch import nn

from nasplatform.spaces.nasbench101.cells import Cell
from nasplatform.spaces.nasbench101.costs import Skeleton


class NarrowableCell(SlicingCell):  # type: ignore[misc]  # the package has no types
    """A cell that can be told the new widths of its vertices, to which it cuts what flows in."""

    def fit_widths(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the widths from what is left of the layers below: name -> inputs, outputs."""
        for vertex in range(1, self.num_vertices - 1):
            prefix = f"vertex_op.{vertex}."
            entries = [entry for name, entry in kept.items() if name.startswith(prefix)]
            widths = [len(entry["inputs"]) for entry in entries if "inputs" in entry]
            widths += [len(entry["outputs"]) for entry in entries]  # of a pooling: no inputs
            if widths:
                self.vertex_channels[vertex] = widths[0]


def build(cell: Cell, skeleton: Skeleton) -> nn.Module:
    """Make the network, freshly initialised from torch's generator."""
    network: nn.Module = Network(
        (np.array(cell.matrix), cell.ops),
        num_labels=skeleton.classes,
        in_channels=skeleton.input_shape[0],
        stem_out_channels=skeleton.stem_channels,
        num_stacks=skeleton.stacks,
        num_modules_per_stack=skeleton.modules_per_stack,
        momentum=0.1,  # its default, 0.997, is TensorFlow's convention and forgets everything
    )
    for child in network.modules():
        if isinstance(child, SlicingCell):
            child.__class__ = NarrowableCell  # the package makes its cells itself
    return network
