"""The network of a visual transformer: plain modules of PyTorch, tokens with channels last.

The forward pass branches on no value of a tensor, so that it can be traced, exported and taken
apart by stages. Linear layers start from a truncated normal of 0.02, as in ViT and DeiT.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nasplatform.errors import NetworkError
from nasplatform.spaces.vit.architecture import VisionTransformer
from nasplatform.spaces.vit.embedding import Stem
from nasplatform.spaces.vit.stages import Before, StageLayers, WordStage
from nasplatform.spaces.vit.tokens import Grid, as_map
from nasplatform.spaces.vit.validation import sides, validate

HEAD_DROPOUT = 0.1


class Network(nn.Module):
    """(B, colours, h, w) -> (B, classes) logits.

    Raises ArchitectureError for an architecture that cannot be built for images of this shape.
    """

    def __init__(
        self, architecture: VisionTransformer, input_shape: tuple[int, int, int], classes: int
    ) -> None:
        super().__init__()
        validate(architecture, input_shape)
        width = architecture.stages[-1].width
        self.input_shape = input_shape
        self.stem = Stem(input_shape[0], architecture.stem) if architecture.stem else None
        stages = list(_stages(architecture, input_shape))
        self.stages, self.grids = nn.ModuleList(stages), [stage.grid for stage in stages]
        self.norm: nn.Module = nn.Identity()
        if architecture.norm == "pre" and not architecture.head:
            self.norm = nn.LayerNorm(width, 1e-6)
        self.widen = Widen(width, architecture.head) if architecture.head else None
        self.by_token = architecture.readout == "class"
        self.classifiers = nn.ModuleList(
            nn.Linear(architecture.head or width, classes)
            for _ in range(architecture.tokens if self.by_token else 1)
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits, the mean of those of all classifiers."""
        logits = self.classifier_logits(images)
        return logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)

    def classifier_logits(self, images: Tensor) -> list[Tensor]:
        """Compute the logits of each classifier: of the class token, then of the distillation.

        Trainings with a teacher let it teach the last of them (``training.distillation.heads``).
        """
        features = self._features(images)
        pairs = zip(self.classifiers, features, strict=True)
        return [classifier(feature) for classifier, feature in pairs]

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return what each classifier reads, (B, C)."""
        if tuple(images.shape[1:]) != self.input_shape:
            given, made = (_words(shape) for shape in (images.shape[1:], self.input_shape))
            raise NetworkError(f"images are {given}, the network is made for input_shape {made}")
        maps = images if self.stem is None else self.stem(images)
        first, places = None, maps
        for stage, grid in zip(self.stages, self.grids, strict=True):
            places = stage(maps, first)
            if grid.tokens:  # no slice without a place, which not every runtime can express
                first, places = places[:, : grid.tokens], places[:, grid.tokens :]
            maps = as_map(places, grid)
        if self.widen is not None:
            return [self.widen(maps)]
        if self.by_token and first is not None:
            return list(self.norm(first).unbind(1))
        return [self.norm(places).mean(1)]


class Widen(nn.Sequential):
    """The head of CMT: 1x1 convolution, batch normalisation, swish, mean, dropout."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__(
            nn.Conv2d(width, head, 1),
            nn.BatchNorm2d(head),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(HEAD_DROPOUT),
        )


def _stages(
    architecture: VisionTransformer, input_shape: tuple[int, int, int]
) -> Iterator[StageLayers]:
    channels, *side = input_shape
    before = Before(channels, (side[0], side[1]))
    if architecture.stem:
        before = Before(architecture.stem, (-(-side[0] // 2), -(-side[1] // 2)))
    drops, made = _drop_rates(architecture), 0
    for place, found in enumerate(sides(architecture, input_shape)):
        stage = architecture.stages[place]
        grid = Grid(*found, architecture.tokens_in(place))
        share = drops[made : made + len(stage.layers)]
        if stage.inner is None:
            yield StageLayers(stage, architecture, before, grid, share)
        else:
            yield WordStage(stage, architecture, before, grid, share, stage.inner)
        before, made = Before(stage.width, found, grid.tokens), made + len(stage.layers)


def _drop_rates(architecture: VisionTransformer) -> list[float]:
    """Return a share for each layer, rising linearly from 0."""
    last = max(1, architecture.depth - 1)
    return [architecture.drop_path / 100 * place / last for place in range(architecture.depth)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(str(int(length)) for length in shape)
