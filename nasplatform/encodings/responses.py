"""What an operation does to a signal in a wide network with random weights, read off its traits.

Wherever channels are mixed, what leaves is normal again (the central limit theorem); between two
mixings each channel acts for itself. An operation is therefore a sequence of phases, and all that
a phase does to the difference of two signals is one function of that difference: the dual
activation (Daniely et al., NeurIPS 2016) of what happens to a channel meanwhile. That of one
rectifier is the arc-cosine kernel (Cho and Saul, NeurIPS 2009). Behind a depth-wise convolution a
rectified channel is multiplied by a random number, normalised and rectified again: its function
has no closed form and is tabulated, as that of GELU is.

Attention with random weights looks at all positions alike: it is a mean over its window between
two mixings. Layer normalisation sets the energy of a position to one and leaves each channel its
mean over images, which all images share and batch normalisation takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nasplatform.spaces.graph import Operation

Floats = NDArray[np.floating[Any]]
WHOLE_MAP = 0  # the side of a window that holds all positions, as attention's does
Activation = Literal["relu", "gelu"]
CHI = np.float32(np.pi / (np.pi - 1))  # slope of h at d = 0: gain of a gradient in a convolution
_ANGLES = np.linspace(0, np.pi, 129)


@dataclass(frozen=True)
class Phase:
    """What happens to a channel until the channels are mixed again.

    windows:    side of each window that it passes; ``WHOLE_MAP`` for attention.
    rectified:  how often it is rectified; behind each but the last time it is scaled at random.
    normalised: whether it is normalised to unit variance before it is rectified.
    adds:       how many phases ago entered what is added at the end; 0 for nothing.
    centred:    whether its mean over images is taken away behind it.
    activation: which function rectifies it.
    """

    windows: tuple[int, ...] = ()
    rectified: int = 0
    normalised: bool = False
    adds: int = 0
    centred: bool = False
    activation: Activation = "relu"

    @property
    def acts(self) -> bool:
        """Whether it does more than pass windows."""
        return bool(self.rectified or self.normalised or self.adds)

    @property
    def slope(self) -> float:
        """The slope at d = 0: the gain of a gradient, but for the normalisation."""
        if self._tabulated:
            return float(self(np.zeros(1, np.float32))[1][0])
        return float(CHI) if self.rectified and self.centred else 1.0

    @property
    def _tabulated(self) -> bool:
        return self.rectified > 1 or bool(self.rectified and self.activation != "relu")

    def __call__(self, d: Floats) -> tuple[Floats, Floats]:
        """Return what it makes of differences d = 1 - correlation, in [0, 2], and its slope."""
        if not self.rectified:
            return d, np.ones_like(d)
        if self._tabulated:
            h, slope = _tabulated(d, self.rectified, self.activation)
            share = _share_of_variance(self.rectified, self.activation)
        else:
            (h, slope), share = relu_difference(d), 1 / CHI
        # He's scale keeps the whole energy of a rectifier, that of its mean included.
        return (h, slope) if self.centred else (h * share, slope * share)


_ONLY_NORMALISE = [(Phase(normalised=True, centred=centred),) for centred in (False, True)]


@cache
def response(operation: Operation) -> tuple[Phase, ...]:
    """Return the phases of an operation; its own ``residual`` is left to whoever knows the shapes.

    Parts may be blocks of their own; a part that is residual adds its input.
    """
    phases: list[Phase] = []
    for part in operation.steps:
        inner = response(part) if part.parts else (_phase(part),)
        adds = part.residual and part is not operation
        if phases and len(inner) == 1 and not (adds or part.mixes_channels or phases[-1].adds):
            phases[-1] = _joined(phases[-1], inner[0])
            continue
        idle = phases and phases[-1].normalised and not phases[-1].adds
        if adds:
            inner = (*inner[:-1], replace(inner[-1], adds=len(inner)))
        elif idle and inner in _ONLY_NORMALISE:
            continue  # what is normalised already stays as it is
        phases += inner
    return tuple(phases)


def _phase(operation: Operation) -> Phase:
    windows = (operation.kernel,) if operation.kernel > 1 else ()
    if operation.kind == "attention":
        windows = windows or (WHOLE_MAP,)
    return Phase(
        windows,
        int(operation.nonlinear),
        operation.normalised,
        centred=operation.normalised and operation.norm == "batch",
        activation=operation.activation,
    )


def _joined(first: Phase, second: Phase) -> Phase:
    return Phase(
        first.windows + second.windows,
        first.rectified + second.rectified,
        first.normalised or second.normalised,
        centred=first.centred or second.centred,
        activation=first.activation if first.rectified else second.activation,
    )


def window_gain(side: int, omega: Floats) -> Floats:
    """Return what is left of modes with ``omega`` radians per pixel behind a mean over a window."""
    if side == WHOLE_MAP:
        constant: Floats = (omega == 0).astype(np.float32)
        return constant
    odd = side % 2
    offsets = range(1, side // 2 + 1)
    total = np.full_like(omega, odd)
    for j in offsets:
        total = total + 2 * np.cos((j if odd else j - 0.5) * omega)
    gain: Floats = (total / side).astype(np.float32)
    return gain


def relu_difference(d: Floats) -> tuple[Floats, Floats]:
    """Return h(d) and its slope: the difference that ReLU makes of a normalised difference.

    d: any shape, 1 - correlation, in [0, 2]. The outputs of ReLU are centred, as batch
    normalisation does: h(0) = 0, h(1) = 1.
    """
    d = np.minimum(np.maximum(d, np.float32(1e-7)), np.float32(2))
    sine = np.sqrt(d * (2 - d))
    angle = np.arccos(1 - d)
    gap = angle - sine
    # For small angles arccos of a number near one is coarse, and angle - sine is its cube / 6.
    small = d < np.float32(1e-2)
    if small.any():
        few = d[small]
        fine = np.sqrt(2 * few) * (1 + few / 12 + few * few * np.float32(3 / 160))
        angle[small] = fine
        gap[small] = fine**3 / 6 * (1 - fine * fine / 20)
    slope = (np.float32(np.pi) - angle) / np.float32(np.pi - 1)
    return slope * d + gap / np.float32(np.pi - 1), slope


def _tabulated(d: Floats, rectified: int, activation: Activation) -> tuple[Floats, Floats]:
    ratios, slopes = _table(rectified, activation)
    angle = np.arccos(1 - np.clip(d, 0, 2))
    ratio = np.interp(angle, _ANGLES, ratios).astype(np.float32)
    return ratio * d, np.interp(angle, _ANGLES, slopes).astype(np.float32)


@cache
def _table(rectified: int, activation: Activation) -> tuple[Floats, Floats]:
    """Return h(d) / d and the slope of h at ``_ANGLES``, d = 1 - cos(angle), by quadrature."""
    grid, density = _normal_density()
    weights = density[:, None] * density
    functions = _channels(rectified, activation)
    variance = sum(_variance(f(grid), density) for f in functions)
    angles = _ANGLES[1:]  # none at 0, where the quotient has a limit only
    ratios = []
    for half in angles / 2:
        middle, apart = np.cos(half) * grid[:, None], np.sin(half) * grid
        gaps = [weights * (f(middle + apart) - f(middle - apart)) ** 2 for f in functions]
        ratios.append(np.sum(gaps) / (2 * variance * (1 - np.cos(2 * half))))
    ratio = np.array([2 * ratios[0] - ratios[1], *ratios])
    # dh / dd = h'(angle) / sin(angle); at either end its limit
    inner = np.gradient(ratio * (1 - np.cos(_ANGLES)), _ANGLES)[1:-1] / np.sin(_ANGLES[1:-1])
    return ratio, np.maximum([ratio[0], *inner, inner[-1]], 0)


@cache
def _share_of_variance(rectified: int, activation: Activation) -> np.float32:
    """Return the share of the energy of what leaves that is around its mean over images."""
    grid, density = _normal_density()
    values = [f(grid) for f in _channels(rectified, activation)]
    variance = sum(_variance(value, density) for value in values)
    return np.float32(variance / sum(float(density @ value**2) for value in values))


def _normal_density() -> tuple[Floats, Floats]:
    grid = np.linspace(-5, 5, 240)  # an even number: no kink at a point
    density = np.exp(-(grid**2) / 2)
    return grid, density / density.sum()


_Function = Callable[[Floats], Floats]


def _channels(rectified: int, activation: Activation) -> list[_Function]:
    """Return what may happen to a channel, one function of a normal number for each sign met."""
    grid, density = _normal_density()
    act = _ACTIVATIONS[activation]
    functions: list[_Function] = [act]
    for _ in range(rectified - 1):
        functions = [
            again
            for known in functions
            for again in _rescaled(
                act, known, float(density @ known(grid)), _variance(known(grid), density)
            )
        ]
    return functions


def _rescaled(act: _Function, known: _Function, mean: float, variance: float) -> list[_Function]:
    scale = np.sqrt(variance)
    return [
        lambda z: act((known(z) - mean) / scale),
        lambda z: act((mean - known(z)) / scale),
    ]


def _variance(values: Floats, density: Floats) -> float:
    return float(density @ values**2 - (density @ values) ** 2)


def _relu(values: Floats) -> Floats:
    rectified: Floats = np.maximum(values, 0)
    return rectified


def _gelu(values: Floats) -> Floats:
    rectified: Floats = values * ndtr(values)
    return rectified


_ACTIVATIONS: Mapping[Activation, _Function] = {"relu": _relu, "gelu": _gelu}
