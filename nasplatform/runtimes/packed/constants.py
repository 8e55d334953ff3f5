"""What the kernels need of a program and that does not change: weights interleaved, thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.runtimes.base import Arrays
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.reference import apply_maps, unpacked
from nasplatform.runtimes.packed.steps import BLOCK, Step

Words = NDArray[np.uint32]
Ints = NDArray[np.int32]
NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Thresholds:
    """From which sum on each output channel is +1 for the layer that reads it, in blocks of 16.

    flips: one number a block; bits of channels that are +1 below their threshold instead.
    """

    values: Ints
    flips: Ints


def words_of(channels: int) -> int:
    """Return how many 32-bit words hold the bits of some channels."""
    return -(-channels // 32)


def interleaved_floats(program: Program, step: Step) -> Arrays:
    """Return a convolution's weight as (groups, blocks, depth, 16), depth-wise (depth, groups)."""
    weight = program.tensors[step.weight or ""]
    if is_depthwise(step):
        return np.ascontiguousarray(weight.reshape(step.outputs, -1).T)
    return _blocks(weight.reshape(step.outputs, -1), step.groups)


def is_depthwise(step: Step) -> bool:
    """Say whether a convolution in floats has one kernel for each channel."""
    return step.op == "conv" and step.inputs == 1 and step.outputs == step.groups


def interleaved_bits(program: Program, step: Step) -> tuple[Words, Ints]:
    """Return a binary weight as words (groups, blocks, depth, 16), and how many are +1 by place.

    The latter is (groups, blocks, places, 16); each place begins a word.
    """
    bits = unpacked(program, step) > 0
    places = step.window.kernel[0] * step.window.kernel[1]
    words = _packed(bits.reshape(step.outputs, places, step.inputs))
    counts = bits.reshape(step.outputs, places, step.inputs).sum(2, dtype=np.int32)
    return _blocks(words.reshape(step.outputs, -1), step.groups), _blocks(counts, step.groups)


def offsets(step: Step, padded_width: int, channels: int, each: int) -> Ints:
    """Return where each number under a kernel lies from its corner: (rows * columns * each,).

    channels: numbers of a pixel; each: those that a group takes.
    """
    rows, columns = np.indices(step.window.kernel)
    down, across = step.window.dilation
    places = (rows * down * padded_width + columns * across) * channels
    found: Ints = (places.reshape(-1, 1) + np.arange(each)).ravel().astype(np.int32)
    return found


def thresholds(program: Program, step: Step, reader: Step) -> Thresholds | None:
    """Find from which sum of signs on the reader sees +1; None where it is no single threshold.

    What follows the sums is done to every possible sum, as the reference does it: hence exact.
    """
    most = step.window.kernel[0] * step.window.kernel[1] * step.inputs
    sums = np.arange(-most, most + 1, dtype=np.float32)
    values = np.broadcast_to(sums[:, None], (len(sums), step.outputs))
    values = apply_maps(step.maps, values, program, [])
    if reader.shift is not None:
        values = values + program.tensors[reader.shift]
    positive = values >= 0
    changes = (positive[1:] != positive[:-1]).sum(0)
    if (changes > 1).any():
        return None
    falls = positive[0]
    first = np.where(changes == 0, NEVER, (positive != falls).argmax(0) - most).astype(np.int32)
    blocks = -(-step.outputs // BLOCK)
    padded = np.full(blocks * BLOCK, NEVER, np.int32)
    padded[: step.outputs] = first
    flips = np.zeros(blocks * BLOCK, bool)
    flips[: step.outputs] = falls
    packed = np.packbits(flips, bitorder="little").view("<u2").astype(np.int32)
    return Thresholds(padded, packed)


def _packed(bits: NDArray[np.bool_]) -> Words:
    """Pack the last axis into words, lowest bit first."""
    spare = -bits.shape[-1] % 32
    padded = np.pad(bits, ((0, 0),) * (bits.ndim - 1) + ((0, spare),))
    words: Words = np.packbits(padded, axis=-1, bitorder="little").view("<u4")
    return words


def _blocks(values: NDArray[Any], groups: int) -> NDArray[Any]:
    """Put 16 rows of (out, n) side by side: (groups, blocks, n, 16), filled up with 0."""
    rows = values.reshape(groups, -1, values.shape[1])
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % BLOCK), (0, 0)))
    blocks = padded.reshape(groups, -1, BLOCK, values.shape[1])
    return np.ascontiguousarray(blocks.transpose(0, 1, 3, 2))
