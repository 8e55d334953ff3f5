"""ReNAS (Xu et al., CVPR 2021): a small convolutional network trained to rank feature tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, update_bn

from nasplatform.encodings.node_permutation import permute_nodes, reordered
from nasplatform.encodings.renas import renas_tensor
from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.calibration import Rows, cross_fitted, slope_and_spread
from nasplatform.predictors.early_stopping import EARLY_STOPPING, EarlyStopping, held_apart
from nasplatform.predictors.losses import PairLoss, pairwise_ranking_loss, refinement_loss
from nasplatform.predictors.serialization import load_network, network_state
from nasplatform.predictors.target_maps import Floats, MonotoneMap, normal_scores
from nasplatform.spaces.graph import GraphBatch
from nasplatform.training.descent import Descent
from nasplatform.training.layout import laid_out

_VIEWS = 8  # orders of the nodes from which scales and running statistics are learnt
_LARGEST = 30_000_000  # weights of the first linear layer
_CHUNK = 256  # architectures scored at once: what fits into the cache of a core


class ReNASOptions(BaseModel):
    """Network, loss, optimiser and rate are those of the authors' demo, the rest is ours.

    The demo (renas.py of huawei-noah/Efficient-Computing) trains for 200 epochs in batches of 1024
    without weight decay and keeps the epoch that ranks the training cells best: ``epochs=200,
    batch_size=1024, weight_decay=0, averaged=False, relabel=False`` but for that. It is far from
    converged by then with few labels, and overfits with many. ``relabel``: the tensor depends on
    the order of the nodes, which means nothing, and a few hundred labels do not teach that
    (isomorphic augmentation, HAAP, ICCV 2021). ``averaged``: a constant rate leaves the last
    weights beside the minimum, their mean is in it (stochastic weight averaging, Izmailov et al.,
    UAI 2018).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1, description="passes over the labels")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW")
    batch_size: int = Field(128, ge=2, description="architectures whose pairs are compared")
    loss: PairLoss = Field("logistic", description="phi of the pairwise ranking loss")
    refinement: float = Field(
        0.0, ge=0, description="weight of the representation-refining term; the paper's is unknown"
    )
    relabel: bool = Field(
        True,
        description="show each cell in another order of its nodes every epoch, and score it in two",
    )
    averaged: bool = Field(
        True, description="keep the mean of the weights after each epoch of the second half"
    )
    weight_decay: float = Field(1.0, ge=0, description="of AdamW")
    early_stopping: float = Field(0.0, ge=0, lt=1, description=EARLY_STOPPING)


class ReNASNetwork(nn.Sequential):
    """conv3x3 to 2 channels' number, conv3x3 to 128, then 120, 84 and 1 linear units.

    Shapes: (B, channels, N, N) -> (B, 1). For the paper's 19 channels the first convolution has
    38; both are followed by batch normalisation and ReLU; there is no pooling and no dropout.
    """

    def __init__(self, channels: int, nodes: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 128, 3, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * nodes * nodes, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 1),
        )


class ReNAS(Predictor):
    """Small convolutional network that ranks feature tensors by a pairwise loss (ReNAS).

    Standardisation (per element, over the labelled architectures alone) and network follow the
    authors' demo, the training is that of ``ReNASOptions``. The network's score has no unit; it is
    mapped to the labels through their ranks, with a spread measured by two-fold cross-fitting:
    that part is ours.
    """

    name: ClassVar[str] = "renas"
    Options: ClassVar[type[ReNASOptions]] = ReNASOptions
    options: ReNASOptions
    min_labels: ClassVar[int] = 4

    def supports(self, graphs: GraphBatch) -> str | None:
        """Refuse graphs so large that the network would be: it grows with N^2."""
        weights = 128 * graphs.n_nodes**2 * 120
        if weights <= _LARGEST:
            return None
        return (
            f"its network would hold {weights / 1e6:.0f} million weights for {graphs.n_nodes} "
            f"nodes, at most {_LARGEST / 1e6:.0f} million are allowed"
        )

    def _fit(
        self, graphs: GraphBatch, scores: Floats, unlabelled: GraphBatch | None, progress: Progress
    ) -> None:
        targets = normal_scores(scores)
        epochs = self.options.epochs

        def trained(rows: Rows, turn: int) -> _Ranker:
            return _Ranker.train(
                graphs[rows],
                targets[rows],
                self.options,
                self.seed,
                lambda epoch: progress(turn * epochs + epoch, 3 * epochs),
            )

        held_out = cross_fitted(
            lambda learnt, asked, turn: trained(learnt, turn).score(graphs[asked]),
            targets,
            self.seed,
        )
        self._ranker = trained(np.arange(len(scores)), 2)
        self._slope, self._spread = slope_and_spread(held_out, targets)
        self._ranks = MonotoneMap.of(scores)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        mean = self._slope * self._ranker.score(graphs)
        return self._ranks.prediction(mean, np.full(len(mean), self._spread))

    def _state(self) -> Mapping[str, NDArray[Any]]:
        calibration = np.array([self._slope, self._spread])
        return self._ranker.state() | self._ranks.state() | {"calibration": calibration}

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._ranker = _Ranker.restore(state)
        self._ranks = MonotoneMap.restore(state)
        self._slope, self._spread = (float(value) for value in state["calibration"])


class _Ranker:
    """A trained network with the standardisation of its input and output."""

    def __init__(self, network: ReNASNetwork, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.network = network.eval()
        self.arrays = dict(arrays)
        self._fast = _folded(network)

    @classmethod
    def train(
        cls,
        graphs: GraphBatch,
        targets: Floats,
        options: ReNASOptions,
        seed: int,
        progress: Callable[[int], None],
    ) -> _Ranker:
        rng = np.random.default_rng(seed)
        views = _VIEWS if options.relabel else 0
        tensors = np.concatenate(
            [
                renas_tensor(graphs),
                *(renas_tensor(permute_nodes(graphs, rng)) for _ in range(views)),
            ]
        )
        centre, scale = tensors.mean(0), tensors.std(0)
        scale[scale == 0] = 1
        learnt, held_out = held_apart(targets, options.early_stopping, rng)
        taught = graphs[learnt]

        def images(shown: GraphBatch) -> Tensor:
            return _images((renas_tensor(shown) - centre) / scale)

        def inputs() -> Tensor:
            return images(permute_nodes(taught, rng) if options.relabel else taught)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = laid_out(ReNASNetwork(tensors.shape[1], tensors.shape[2]))
            judged = images(graphs[held_out])
            stopping = EarlyStopping(
                network, lambda: network(judged)[:, 0].numpy(), targets[held_out]
            )
            wanted = torch.from_numpy(targets[learnt]).float()
            _descend(network, inputs, wanted, options, stopping, progress)
        arrays = {
            "centre": centre,
            "scale": scale,
            "orders": _orders(graphs, options.relabel),
            "output": np.array([0.0, 1.0]),
        }
        ranker = cls(network, arrays)
        raw = ranker.score(graphs)
        ranker.arrays["output"] = np.array([raw.mean(), max(float(raw.std()), 1e-12)])
        return ranker

    def score(self, graphs: GraphBatch) -> Floats:
        """Return (B,) scores, of zero mean and unit deviation over the labelled ones."""
        mean, deviation = self.arrays["output"]
        raw = [self._raw(graphs[i : i + _CHUNK]) for i in range(0, len(graphs), _CHUNK)]
        standardised: Floats = (np.concatenate(raw).astype(np.float64) - mean) / deviation
        return standardised

    def _raw(self, graphs: GraphBatch) -> NDArray[np.float32]:
        orders = self.arrays["orders"]
        raw: NDArray[np.float32] = np.mean([self._seen(reordered(graphs, o)) for o in orders], 0)
        return raw

    def _seen(self, graphs: GraphBatch) -> NDArray[np.float32]:
        tensors = _images((renas_tensor(graphs) - self.arrays["centre"]) / self.arrays["scale"])
        with torch.inference_mode():
            scores: NDArray[np.float32] = self._fast(tensors).squeeze(1).numpy()
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        return network_state(self.network) | self.arrays

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> _Ranker:
        network = ReNASNetwork(*state["centre"].shape[:2])
        load_network(network, state)
        names = ("centre", "scale", "orders", "output")
        return cls(network, {name: state[name] for name in names})


def _orders(graphs: GraphBatch, several: bool) -> NDArray[np.float64]:
    """Return (1 or 2, N) priorities of the nodes: the order as given, and one far from it."""
    as_given = np.arange(graphs.n_nodes)[::-1] / graphs.n_nodes
    both = several and not graphs.positional
    return np.stack([as_given, as_given[::-1]] if both else [as_given])


def _images(tensors: NDArray[np.float32]) -> Tensor:
    """Return (B, C, N, N) in the layout in which convolutions run fastest."""
    return torch.from_numpy(tensors).contiguous(memory_format=torch.channels_last)


def _folded(network: ReNASNetwork) -> nn.Module:
    """Return the same function with each normalisation inside the convolution before it."""
    first, norm, relu, second, other, *rest = network
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(other, nn.BatchNorm2d)
    folded = fuse_conv_bn_eval(first, norm), relu, fuse_conv_bn_eval(second, other), *rest
    return laid_out(nn.Sequential(*folded).eval())


def _descend(
    network: ReNASNetwork,
    inputs: Callable[[], Tensor],
    targets: Tensor,
    options: ReNASOptions,
    stopping: EarlyStopping,
    progress: Callable[[int], None],
) -> None:
    """Train in place; ``inputs`` gives the tensors as an epoch shows them."""
    average = AveragedModel(network)
    body, head = nn.Sequential(*list(network)[:-1]), network[-1]
    first = inputs()

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        shown = inputs() if epoch and options.relabel else first
        return ((shown[rows], targets[rows]) for rows in _batches(targets, options.batch_size))

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        shown, wanted = batch
        hidden = body(shown)
        ranking = pairwise_ranking_loss(head(hidden).squeeze(1), wanted, options.loss)
        if not options.refinement:
            return ranking
        return ranking + options.refinement * refinement_loss(hidden, wanted)

    def after_epoch(epoch: int) -> bool:
        if epoch >= options.epochs // 2:
            average.update_parameters(network)
        progress(epoch + 1)
        return stopping.enough()

    descent = Descent(options.epochs, options.learning_rate, options.weight_decay)
    descent.train(network, batches, loss, after_epoch)
    progress(options.epochs)
    if stopping.watches:
        stopping.restore()
    elif options.averaged:
        parts = -(-len(targets) // options.batch_size)
        update_bn((one for _ in range(_VIEWS) for one in torch.chunk(inputs(), parts)), average)
        network.load_state_dict(average.module.state_dict())


def _batches(targets: Tensor, size: int) -> Iterator[Tensor]:
    """Yield shuffled batches; one without two distinct targets has nothing to rank."""
    order = torch.randperm(len(targets))
    for start in range(0, len(targets), size):
        batch = order[start : start + size]
        if bool((targets[batch] != targets[batch[0]]).any()):
            yield batch
