"""Graph networks that learn from a teacher's predictions first and from the labels then.

Few labels are too few for a network with no hand-made features; what another predictor says of
thousands of unlabelled architectures is plenty. The network imitates its teacher on those, is
then trained on the labels, and errs in other places than the teacher: their mean is better than
either. The layers let signals flow along and against the edges, gated by the operation that
receives them, as NN-Former (CVPR 2025) argues they should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.encodings.active_subgraph import ActiveSubgraphs, active_subgraphs
from nasplatform.encodings.node_numbers import has_numbers, node_numbers
from nasplatform.predictors.serialization import load_network, network_state
from nasplatform.spaces.graph import GraphBatch
from nasplatform.training.descent import Descent

Floats = NDArray[np.float64]
EPOCHS_TEACHER, EPOCHS_LABELS = 12, 40


class _Recipe(NamedTuple):
    """How one part of the training goes; an epoch shows ``most`` architectures at most."""

    epochs: int
    rate: float
    decay: float
    batch: int
    most: int = 16_000


_IMITATION = _Recipe(EPOCHS_TEACHER, 3e-3, 1e-3, 128)
_MANY_LABELS = _Recipe(EPOCHS_LABELS, 1e-3, 1e-2, 128, 5000)
_FEW_LABELS = _Recipe(EPOCHS_LABELS, 5e-4, 1e-2, 64)
_WIDTH, _LAYERS, _DROPOUT = 64, 4, 0.1
_CHUNK = 2048  # architectures scored at once
_SOFTNESS = 0.3  # a pair of labels this far apart is ordered with probability sigmoid(1.7)


@dataclass(frozen=True)
class Nodes:
    """B graphs as a network reads them.

    nodes:  (B, N, D) operation, place and width of each node, and its numbers where it has any.
    edges:  (B, N, N) 1 where an edge runs from row to column.
    active: (B, N, 1) 1 for nodes that compute.
    """

    nodes: Tensor
    edges: Tensor
    active: Tensor

    @classmethod
    def of(cls, graphs: GraphBatch) -> Nodes:
        """Read B graphs."""
        active = active_subgraphs(graphs)
        nodes = np.ascontiguousarray(_described(active).transpose(2, 1, 0))
        if has_numbers(graphs):
            numbers = node_numbers(graphs) * active.active.T[:, :, None]
            nodes = np.concatenate([nodes, numbers], axis=2)
        edges = np.ascontiguousarray(active.edges.transpose(2, 0, 1))
        alive = np.ascontiguousarray(active.active.T[:, :, None], dtype=np.float32)
        return cls(torch.from_numpy(nodes), torch.from_numpy(edges), torch.from_numpy(alive))

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, rows: slice | Tensor) -> Nodes:
        return Nodes(self.nodes[rows], self.edges[rows], self.active[rows])


def _described(active: ActiveSubgraphs) -> NDArray[np.float32]:
    """Return (D, N, B): K + 2 indicators of what a node is, then seven numbers."""
    n, _, count = active.edges.shape
    ends = np.zeros((2, n, count), np.float32)
    ends[0, 0] = ends[1, -1] = 1
    widths = np.log2(np.maximum(active.shares, 2.0**-10)) / 3 * active.active
    degrees = np.stack([active.edges.sum(0), active.edges.sum(1)]) / 2
    distances = np.stack([_longest(active.edges), _longest(_turned(active.edges))[::-1]]) / 2
    beside_ends = np.stack([active.edges[0], active.edges[:, -1]])
    parts = [active.has, ends, widths[None], degrees, distances, beside_ends]
    return np.concatenate(parts).astype(np.float32)


def _longest(edges: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return (N, B): the number of edges on the longest path that arrives at each node."""
    far = np.zeros(edges.shape[1:], np.float32)
    for node in range(1, len(edges)):
        far[node] = (edges[:node, node] * (far[:node] + 1)).max(0)
    return far


def _turned(edges: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Turn all edges round and number the nodes from the output on."""
    return edges.transpose(1, 0, 2)[::-1, ::-1]


class _Layer(nn.Module):
    """Adds to each node what flows into it from either side, through its operation's gates."""

    def __init__(self, kinds: int) -> None:
        super().__init__()
        self.linear = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.gate = nn.Linear(kinds, 2 * _WIDTH)
        self.norm = nn.LayerNorm(_WIDTH)
        self.drop = nn.Dropout(_DROPOUT)

    def forward(self, hidden: Tensor, kinds: Tensor, along: Tensor, against: Tensor) -> Tensor:
        own, ahead, back = self.linear(hidden).chunk(3, -1)
        open_ahead, open_back = torch.sigmoid(self.gate(kinds)).chunk(2, -1)
        mixed = own + open_ahead * (along @ ahead) + open_back * (against @ back)
        added: Tensor = hidden + self.drop(functional.silu(self.norm(mixed)))
        return added


class GatedGNN(nn.Module):
    """Scores (B,) from (B, N, D) nodes of K + 2 kinds."""

    def __init__(self, columns: int, kinds: int) -> None:
        super().__init__()
        self.kinds = kinds
        self.enter = nn.Linear(columns, _WIDTH)
        self.layers = nn.ModuleList(_Layer(kinds) for _ in range(_LAYERS))
        self.head = nn.Sequential(
            nn.Linear(3 * _WIDTH, _WIDTH), nn.SiLU(), nn.Dropout(_DROPOUT), nn.Linear(_WIDTH, 1)
        )

    def forward(self, batch: Nodes) -> Tensor:
        """Return (B,) scores."""
        against = batch.edges / batch.edges.sum(2, keepdim=True).clamp_min(1)
        along = batch.edges.transpose(1, 2)
        along = along / along.sum(2, keepdim=True).clamp_min(1)
        hidden = self.enter(batch.nodes) * batch.active
        kinds = batch.nodes[:, :, : self.kinds]
        for layer in self.layers:
            hidden = layer(hidden, kinds, along, against) * batch.active
        highest = hidden.masked_fill(batch.active == 0, -torch.inf).amax(1)
        read = torch.cat([hidden[:, -1], hidden.sum(1) / 3, highest], 1)
        scores: Tensor = self.head(read).squeeze(1)
        return scores


class DistilledGNN:
    """A trained network; its scores have the scale of the teacher's predictions."""

    def __init__(self, network: GatedGNN, scale: NDArray[np.float64]) -> None:
        self._network = network.eval()
        self._scale = scale

    def score(self, graphs: GraphBatch) -> Floats:
        """Return (B,) scores."""
        centre, slope = self._scale
        scores: Floats = _raw(self._network, Nodes.of(graphs)) * slope + centre
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the network as arrays."""
        sizes = np.array([self._network.enter.in_features, self._network.kinds])
        return network_state(self._network) | {"sizes": sizes, "scale": self._scale}

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> DistilledGNN:
        """Take back what ``state`` returned."""
        network = GatedGNN(*(int(size) for size in state["sizes"]))
        load_network(network, state)
        return cls(network, state["scale"])


def distill(
    labelled: tuple[GraphBatch, Floats],
    imitated: tuple[GraphBatch, Floats],
    seed: int,
    progress: Callable[[], None],
) -> DistilledGNN:
    """Distil a graph network from a teacher.

    labelled: architectures and their labels (n,).
    imitated: others and the teacher's predictions of them (m,), on the scale of the labels.
    progress: called after each of the EPOCHS_TEACHER + EPOCHS_LABELS epochs.
    """
    graphs, targets = labelled
    pool, wanted = imitated
    shown, asked = Nodes.of(graphs), Nodes.of(pool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kinds = len(active_subgraphs(graphs[:1]).classes) + 2
        network = GatedGNN(shown.nodes.shape[2], kinds)
        _descend(network, asked, _standard(wanted), _IMITATION, progress, values=0.3)
        how = _MANY_LABELS if len(targets) >= 2000 else _FEW_LABELS
        _descend(network, shown, _standard(targets), how, progress)
    raw = _raw(network.eval(), asked)
    slope = wanted.std() / max(float(raw.std()), 1e-12)
    return DistilledGNN(network, np.array([wanted.mean() - slope * raw.mean(), slope]))


def _descend(
    network: GatedGNN,
    shown: Nodes,
    targets: Tensor,
    how: _Recipe,
    progress: Callable[[], None],
    values: float = 0.0,
) -> None:
    """Train in place; ``values`` weighs the squared error of the scores."""
    size = min(how.batch, len(targets))
    steps = min(len(targets), how.most) // size

    def batches(epoch: int) -> Iterable[Tensor]:
        return torch.randperm(len(targets))[: steps * size].view(steps, size)

    def loss(rows: Tensor) -> Tensor:
        scores = network(shown[rows])
        ranking = soft_ranking_loss(scores, targets[rows])
        return ranking + values * functional.mse_loss(scores, targets[rows]) if values else ranking

    def after_epoch(epoch: int) -> bool:
        progress()
        return False

    Descent(how.epochs, how.rate, how.decay, steps).train(network, batches, loss, after_epoch)


def soft_ranking_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy between how sure scores and targets are of the order of each pair.

    scores, targets: (B,), targets of unit deviation. A pair closer than the labels' noise counts
    for little, other than in ``losses.pairwise_ranking_loss``, where each pair has an order.
    """
    rows, columns = torch.triu_indices(len(targets), len(targets), offset=1)
    order = torch.sigmoid(1.7 / _SOFTNESS * (targets[rows] - targets[columns]))
    return functional.binary_cross_entropy_with_logits(3 * (scores[rows] - scores[columns]), order)


def _raw(network: GatedGNN, batch: Nodes) -> Floats:
    with torch.inference_mode():
        parts = [network(batch[at : at + _CHUNK]) for at in range(0, len(batch), _CHUNK)]
    scores: Floats = torch.cat(parts).numpy().astype(np.float64)
    return scores


def _standard(values: Floats) -> Tensor:
    return torch.from_numpy((values - values.mean()) / values.std()).float()
