"""The network of a cell, as in D-X-Y/AutoDL-Projects (``TinyNetwork`` of NAS-Bench-201).

The modules are plain and the forward pass branches on no tensor, so that it can be traced,
exported and taken apart by stages.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from nasplatform.spaces.nasbench201.cells import CELL_OUTPUT, EDGES, Cell
from nasplatform.spaces.nasbench201.costs import Skeleton


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch normalisation."""

    def __init__(self, incoming: int, outgoing: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outgoing),
        )


class SearchedCell(nn.Module):
    """The cell: (B, c, h, w) -> (B, c, h, w).

    Every operation has its parameters, as in the benchmark; those that cannot reach the output
    are not computed. A node without an edge in is zero.
    """

    def __init__(self, operations: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        plan: dict[int, list[tuple[str, int]]] = {}
        for name, (source, target) in zip(operations, EDGES, strict=True):
            if name != "none":
                edge = f"from_{source}_to_{target}"
                self.edges[edge] = _operation(name, channels)
                plan.setdefault(target, []).append((edge, source))
        needed = {CELL_OUTPUT}
        for target in range(CELL_OUTPUT, 0, -1):
            if target in needed:
                needed |= {source for _, source in plan.get(target, [])}
        self._plan = [(node, plan.get(node, [])) for node in sorted(needed - {0})]

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the nodes in order and return the last."""
        nodes = {0: inputs}
        for node, incoming in self._plan:
            terms = [self.edges[edge](nodes[source]) for edge, source in incoming]
            nodes[node] = reduce(add, terms) if terms else torch.zeros_like(inputs)
        return nodes[CELL_OUTPUT]


class Reduction(nn.Module):
    """ResNet's basic block with stride 2: (B, c, h, w) -> (B, 2 c, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ReLUConvBN(channels, 2 * channels, 3, stride=2)
        self.second = ReLUConvBN(2 * channels, 2 * channels, 3)
        # The ceiling matters on sides of odd length only, which the benchmark does not have.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(channels, 2 * channels, 1, bias=False),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Add the block to the pooled and widened input."""
        changed: Tensor = self.second(self.first(inputs))
        shortcut: Tensor = self.shortcut(inputs)
        return changed + shortcut


class Network(nn.Module):
    """Stem, stages of cells with reductions between, and a linear classifier of the mean map."""

    def __init__(self, cell: Cell, skeleton: Skeleton) -> None:
        super().__init__()
        width = skeleton.stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(skeleton.input_shape[0], width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        body: list[nn.Module] = []
        for stage in range(skeleton.stages):
            if stage:
                body.append(Reduction(skeleton.width(stage - 1)))
            width = skeleton.width(stage)
            body += [SearchedCell(cell.operations, width) for _ in range(skeleton.cells_per_stage)]
        self.body = nn.Sequential(*body)
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(width, skeleton.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, colours, h, w) -> (B, classes) logits."""
        features: Tensor = self.last(self.body(self.stem(images)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def _operation(name: str, channels: int) -> nn.Module:
    match name:
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return ReLUConvBN(channels, channels, 1)
        case "nor_conv_3x3":
            return ReLUConvBN(channels, channels, 3)
        case _:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
