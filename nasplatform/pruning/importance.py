"""How much the output channels of a layer count, by the criteria of the field.

Every importance gives one number per output channel, low for the dispensable; ``group_scores``
averages them over the channels that can only be removed together.

``random``, ``l1`` and ``bn_scale`` are torch-pruning's, value for value, written out here because
its own take no groups but those of its dependency graph, which does not follow searched cells.
``fpgm`` and ``taylor`` are as published: torch-pruning measures the distances between magnitudes of
weights, and for Taylor sums |weight x gradient| of one batch over the weights of the filter.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplatform.pruning.graph import ChannelGraph
from nasplatform.training.task import Task

Scores = NDArray[np.float64]
TAYLOR_BATCH = 64


def group_scores(graph: ChannelGraph, scores: Mapping[str, Tensor]) -> Scores:
    """Return the mean score of the channels of each removable group, (G,).

    scores: layer name -> score of each output channel, (out,); all that make a group.
    """
    totals, counts = np.zeros((2, int(graph.removable.max()) + 1))
    for layer in graph.producers:
        channels, groups = graph.units(layer.outputs)
        inside = np.isin(groups, graph.removable)
        own = scores[layer.name].double().numpy()[channels[inside]]
        np.add.at(totals, groups[inside], own)
        np.add.at(counts, groups[inside], 1)
    mean: Scores = totals[graph.removable] / counts[graph.removable]
    return mean


def bn_scale(module: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """Return |gamma| of the normalisation after each layer, 1 where there is none."""
    found = {}
    for layer in graph.producers:
        norm = module.get_submodule(graph.norms[layer.name]) if layer.name in graph.norms else None
        gamma = getattr(norm, "weight", None)
        ones = torch.ones(len(layer.outputs))
        found[layer.name] = ones if gamma is None else gamma.detach().abs().cpu()
    return found


def l1(module: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """Return the sum of the magnitudes of each filter's weights (Li et al. 2017)."""
    return {name: filters.abs().sum(1) for name, filters in _filters(module, graph).items()}


def fpgm(module: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """Return each filter's sum of distances from the others (geometric median, He et al. 2019)."""
    return {name: torch.cdist(f, f).sum(1) for name, f in _filters(module, graph).items()}


def taylor(
    module: nn.Module, graph: ChannelGraph, task: Task, device: str = "cpu"
) -> dict[str, Tensor]:
    """Return the first-order Taylor importance of a gate on each channel (Molchanov et al. 2019).

    The gate multiplies what the normalisation after the layer makes (Taylor-FO-BN), or the filter
    where there is none; the square of its gradient is averaged over batches of the training
    split, in evaluation mode. (The sum of |weight x gradient| of the whole split ranks far worse on
    networks that are trained to the end.)
    """
    copied = copy.deepcopy(module).to(device).requires_grad_(True).eval()
    gates = {
        layer.name: copied.get_submodule(graph.norms.get(layer.name, layer.name))
        for layer in graph.producers
    }
    found = {layer.name: torch.zeros(len(layer.outputs)) for layer in graph.producers}
    for start in range(0, len(task.train), TAYLOR_BATCH):
        part = slice(start, start + TAYLOR_BATCH)
        labels = task.train.labels[part].to(device)
        copied.zero_grad()
        loss = task.loss(copied(task.train.inputs[part].to(device)), labels)
        torch.autograd.backward(loss)
        for name, gated in gates.items():
            terms = [
                _rows(gated, weight.detach() * weight.grad).sum(1)
                for weight in gated.parameters()
                if weight.grad is not None
            ]
            slope = sum(terms)
            found[name] += torch.as_tensor(slope).square().cpu() * len(labels) / len(task.train)
    return found


def random(graph: ChannelGraph, seed: int) -> dict[str, Tensor]:
    """Return uniform random numbers."""
    rng = torch.Generator().manual_seed(seed)
    return {layer.name: torch.rand(len(layer.outputs), generator=rng) for layer in graph.producers}


def _filters(module: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    layers: dict[str, Any] = {
        layer.name: module.get_submodule(layer.name) for layer in graph.producers
    }
    return {
        name: _rows(layer, layer.weight.detach()).cpu()  # computed of others, perhaps
        for name, layer in layers.items()
    }


def _rows(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return one row per output channel, (out, n)."""
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd) and weight.dim() > 1
    return (weight.transpose(0, 1) if transposed else weight).reshape(
        weight.shape[int(transposed)], -1
    )


OF_WEIGHTS = {"l1": l1, "bn_scale": bn_scale, "fpgm": fpgm}
"""Those that need nothing but the network."""
