"""What a program costs, counted in its steps and tensors."""

from __future__ import annotations

import numpy as np

from nasplatform.runtimes.base import Costs
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.steps import Step


def program_costs(program: Program) -> Costs:
    """Count multiply-adds for one image, and the bytes of the tensors by what they are.

    Of a binary convolution the shift, the first factor and a number added right behind it are
    scales, as in the layer; what normalisations became is of full precision.
    """
    macs = {"conv": 0, "binary_conv": 0, "product": 0}
    bits, scales, weights = set(), set(), 0
    for step, shape in zip(program.steps, program.shapes[1:], strict=True):
        if step.op not in macs:
            continue
        depth = int(np.prod(step.window.kernel)) * step.inputs
        macs[step.op] += int(np.prod(shape)) * depth
        if step.op == "binary_conv":
            if step.weight not in bits:
                weights += step.outputs * depth
            bits.add(step.weight)
            scales |= _scales(step)
    sizes = {name: values.nbytes for name, values in program.tensors.items()}
    floats = sum(v.size for v in program.tensors.values() if v.dtype == np.float32)
    binary, of_scales = (sum(sizes[n] for n in names if n) for names in (bits, scales))
    return Costs(
        params=floats + weights,
        macs=macs["conv"] + macs["product"],
        binary_macs=macs["binary_conv"],
        bytes_binary=binary,
        bytes_scales=of_scales,
        bytes_full_precision=sum(sizes.values()) - binary - of_scales,
    )


def _scales(step: Step) -> set[str | None]:
    kinds = [each.kind for each in step.maps[:2]]
    many = 2 if kinds == ["mul", "add"] else int(kinds[:1] == ["mul"])
    return {step.shift, *(each.values for each in step.maps[:many])} - {None}
