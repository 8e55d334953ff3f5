"""Which of the things that a network returns are its logits.

The rule: a tensor is the logits; of a mapping it is the entry ``logits``, or else ``out``; of a
tuple or list it is the first tensor of shape (B, K). Auxiliary classifiers are thereby left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from nasplatform.errors import NetworkError

KEYS = ("logits", "out")


def main_output(made: Any, classes: int) -> Tensor:
    """Return the logits (B, K) among what a network made; raise NetworkError where none are."""
    if isinstance(made, Tensor):
        return made
    if isinstance(made, Mapping):
        for key in KEYS:
            if isinstance(made.get(key), Tensor):
                found: Tensor = made[key]
                return found
        names = ", ".join(str(key) for key in made)
        raise NetworkError(
            f"the network returns a mapping with {names}, expected 'logits' or 'out'"
        )
    if isinstance(made, tuple | list):
        for part in made:
            if isinstance(part, Tensor) and part.ndim == 2 and part.shape[1] == classes:
                return part
        raise NetworkError(
            f"the network returns {len(made)} things, none of them a tensor of shape (B, {classes})"
        )
    raise NetworkError(
        f"the network returns a {type(made).__name__}, expected a tensor (B, {classes})"
    )


class MainOutput(nn.Module):
    """A network whose other outputs are left out: (B, c, h, w) -> (B, K)."""

    def __init__(self, inner: nn.Module, classes: int) -> None:
        super().__init__()
        self.inner = inner
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        return main_output(self.inner(images), self.classes)

    def classifier_logits(self, images: Tensor) -> Sequence[Tensor]:
        """Compute the logits of each classifier (see ``training.distillation.heads``)."""
        if not hasattr(self.inner, "classifier_logits"):
            return [self(images)]
        found: Sequence[Tensor] = self.inner.classifier_logits(images)
        return found


def take_main_output(module: nn.Module, payload: Mapping[str, Any]) -> nn.Module:
    """Perform the edit ``main-output``; the payload holds the number of ``classes``."""
    return MainOutput(module, payload["classes"])
