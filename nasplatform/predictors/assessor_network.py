"""The network of the semi-supervised assessor, its training, and its inductive scoring.

In the paper an architecture is a node of a graph that holds labelled and unlabelled ones; edges
join similar representations. Here the graph is sparse: each architecture looks at its k nearest
in the mini-batch while training and, once trained, at its k nearest among fixed anchors, so that
a new architecture is scored without training again and whatever else is asked.

The paper's convolution adds an architecture to its neighbours under the same weights. With eight
neighbours that blurs it (Kendall's tau .66 in place of .76, 1,000 labels of ``tnasp``): in
PyTorch Geometric's GraphConv what is its own and what comes from the neighbours have weights of
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.encodings.adjacency import adjacency_one_hot
from nasplatform.encodings.node_permutation import permute_nodes
from nasplatform.predictors.early_stopping import EarlyStopping, held_apart
from nasplatform.predictors.serialization import load_network, network_state
from nasplatform.spaces.graph import GraphBatch, concatenate
from nasplatform.training.descent import Descent

if TYPE_CHECKING:
    from nasplatform.predictors.assessor import AssessorOptions

Floats = NDArray[np.float64]
_CHUNK = 2048  # architectures scored at once: bounds the matrix of distances to the anchors


class AssessorNetwork(nn.Module):
    """Auto-encoder (inputs -> width -> width -> code, and back) and two graph convolutions."""

    def __init__(self, inputs: int, width: int, code: int, neighbours: int) -> None:
        from torch_geometric.nn import GraphConv  # takes a second to import

        super().__init__()
        self.neighbours = neighbours
        self.encoder = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, code), nn.LayerNorm(code),
        )  # fmt: skip
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.SiLU(), nn.Linear(width, inputs))
        self.first = GraphConv(code, width)
        self.second = GraphConv(width, 1)

    def relations(self, codes: Tensor, anchors: Tensor, own: bool) -> Relations:
        """Join each architecture to its k nearest anchors.

        The weight of an edge is its share in the similarities of the k, which are
        exp(-d^2 / 2 s^2) with s^2 the mean squared distance to these k.
        own: whether architecture i is anchor i, which then is no neighbour of its own.
        """
        k = min(self.neighbours, len(anchors) - own)
        library = NearestNeighbors(n_neighbors=k).fit(anchors.detach().numpy())
        asked = None if own else codes.detach().numpy()
        near = torch.from_numpy(library.kneighbors(asked, return_distance=False))
        squared = ((codes[:, None] - anchors[near]) ** 2).sum(2)
        scale = squared.detach().mean(1, keepdim=True).clamp_min(1e-6)
        rows = torch.arange(len(codes)).repeat_interleave(k)
        return Relations(
            torch.stack([near.flatten(), rows]), torch.softmax(-squared / (2 * scale), 1).flatten()
        )

    def hidden(self, codes: Tensor, anchors: Tensor, relations: Relations) -> Tensor:
        """Return (B, width): the first graph convolution."""
        made: Tensor = functional.silu(self.first((anchors, codes), *relations))
        return made

    def assess(self, hidden: Tensor, others: Tensor, relations: Relations) -> Tensor:
        """Return (B,): the second graph convolution."""
        assessed: Tensor = self.second((others, hidden), *relations).squeeze(1)
        return assessed


class Relations(NamedTuple):
    """Edges of the graph of relations.

    edges:  (2, E) the anchor that an edge comes from, the architecture that it goes to.
    weight: (E,) in [0, 1]; those that go to one architecture sum to one.
    """

    edges: Tensor
    weight: Tensor

    @classmethod
    def none(cls) -> Relations:
        """Return a graph without edges."""
        return cls(torch.zeros((2, 0), dtype=torch.long), torch.zeros(0))


class Assessment:
    """A trained network with its anchors: inputs of architectures, labelled ones first."""

    def __init__(self, network: AssessorNetwork, anchors: Tensor, options: AssessorOptions) -> None:
        self.network = network.eval()
        self.anchors = anchors
        self.options = options
        with torch.inference_mode():
            self._codes = network.encoder(anchors)
            relations = self._relations(self._codes, own=True)
            self._hidden = network.hidden(self._codes, self._codes, relations)

    def score(self, graphs: GraphBatch) -> Floats:
        """Return (B,) scores; each depends on its architecture and the anchors alone."""
        parts = [self._score(graphs[i : i + _CHUNK]) for i in range(0, len(graphs), _CHUNK)]
        return np.concatenate(parts)

    def _score(self, graphs: GraphBatch) -> Floats:
        with torch.inference_mode():
            codes = self.network.encoder(_inputs(graphs))
            relations = self._relations(codes, own=False)
            hidden = self.network.hidden(codes, self._codes, relations)
            assessed = self.network.assess(hidden, self._hidden, relations)
        scores: Floats = assessed.numpy().astype(np.float64)
        return scores

    def _relations(self, codes: Tensor, own: bool) -> Relations:
        if not self.options.graph:
            return Relations.none()
        return self.network.relations(codes, self._codes, own)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return weights and anchors as arrays."""
        return network_state(self.network) | {"anchors": self.anchors.numpy()}

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]], options: AssessorOptions) -> Assessment:
        """Take back what ``state`` returned."""
        anchors = torch.from_numpy(state["anchors"])
        network = _network(anchors.shape[1], options)
        load_network(network, state)
        return cls(network, anchors, options)


def train(
    graphs: GraphBatch,
    targets: Floats,
    unlabelled: GraphBatch | None,
    options: AssessorOptions,
    seed: int,
    progress: Callable[[int], None],
) -> Assessment:
    """Train end to end on labelled graphs (n), targets (n,), and graphs without labels."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(_inputs(graphs[:1]).shape[1], options)
        anchors = _inputs(_anchors(graphs, unlabelled, options.anchors, rng))
        learnt, held_out = held_apart(targets, options.early_stopping, rng)

        def score() -> Floats:
            return Assessment(network, anchors, options).score(graphs[held_out])

        stopping = EarlyStopping(network, score, targets[held_out])
        labels = graphs[learnt], targets[learnt]
        _descend(network, labels, unlabelled, options, stopping, rng, progress)
    return Assessment(network, anchors, options)


def _anchors(
    graphs: GraphBatch, unlabelled: GraphBatch | None, count: int, rng: np.random.Generator
) -> GraphBatch:
    """Return up to ``count`` architectures, labelled ones first."""
    anchors = graphs[rng.permutation(len(graphs))[:count]]
    room = count - len(anchors)
    if unlabelled is not None and room and len(unlabelled):
        anchors = concatenate([anchors, unlabelled[rng.permutation(len(unlabelled))[:room]]])
    return anchors


def _descend(
    network: AssessorNetwork,
    labels: tuple[GraphBatch, Floats],
    unlabelled: GraphBatch | None,
    options: AssessorOptions,
    stopping: EarlyStopping,
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> None:
    graphs, targets = labels
    wanted = torch.from_numpy(targets).float()
    size = min(options.batch_size, len(targets))
    batches = len(targets) // size

    def shown(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = rng.permutation(len(targets))
        inputs = _inputs(permute_nodes(graphs[order], rng))
        others = _drawn(unlabelled, batches * size, rng)
        for start in range(0, batches * size, size):
            rows = slice(start, start + size)
            joined = inputs[rows] if others is None else torch.cat([inputs[rows], others[rows]])
            yield joined, wanted[order[rows]]

    def after_epoch(epoch: int) -> bool:
        progress(epoch + 1)
        return stopping.enough()

    descent = Descent(options.epochs, options.learning_rate, options.weight_decay, steps=batches)
    descent.train(network, shown, lambda batch: _loss(network, *batch, options), after_epoch)
    progress(options.epochs)
    stopping.restore()


def _loss(
    network: AssessorNetwork, inputs: Tensor, wanted: Tensor, options: AssessorOptions
) -> Tensor:
    """(1 - lambda) regression on the labelled, which come first, + lambda reconstruction of all."""
    codes = network.encoder(inputs)
    relations = network.relations(codes, codes, own=True) if options.graph else Relations.none()
    hidden = network.hidden(codes, codes, relations)
    assessed = network.assess(hidden, hidden, relations)
    regression = functional.mse_loss(assessed[: len(wanted)], wanted)
    if not options.autoencoder:
        return regression
    rebuilt = functional.binary_cross_entropy_with_logits(network.decoder(codes), inputs)
    return (1 - options.reconstruction) * regression + options.reconstruction * rebuilt


def _network(inputs: int, options: AssessorOptions) -> AssessorNetwork:
    return AssessorNetwork(inputs, options.width, options.code, options.neighbours)


def _inputs(graphs: GraphBatch) -> Tensor:
    """Return (B, D): the adjacency matrix, the operations and attributes, from 0 to 1."""
    return torch.from_numpy(adjacency_one_hot(graphs))


def _drawn(graphs: GraphBatch | None, count: int, rng: np.random.Generator) -> Tensor | None:
    """Return the inputs of ``count`` random graphs in random orders of their nodes."""
    if graphs is None or not len(graphs):
        return None
    return _inputs(permute_nodes(graphs[rng.integers(len(graphs), size=count)], rng))
