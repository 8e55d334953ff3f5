"""The compiled kernels: loading them, and the form in which they take steps."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

from nasplatform.compiling import Sources
from nasplatform.errors import KernelError

SOURCES = Sources(
    "packed",
    Path(__file__).with_name("source"),
    (
        "-std=gnu11",
        "-O3",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-strict-aliasing",
        "-pthread",
    ),
    "counting bits fast",
)
PORTABLE = "portable"
INSTRUCTIONS = (PORTABLE, "avx2", "avx512")
"""The paths of the kernels, slowest first."""
KINDS = (
    *("layout", "pad", "pack", "binary_conv", "conv", "depthwise", "product", "map", "max_pool"),
    *("avg_pool", "layer_norm", "softmax", "gather"),
)
_NUMBERS = (
    *("kind", "images", "groups", "in_h", "in_w", "in_c", "padded_h", "padded_w"),
    *("out_h", "out_w", "out_c", "kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("pad_top", "pad_left", "dilation_h", "dilation_w", "to_h", "to_w", "to_top", "to_left"),
    *("depth", "count"),
)
_ADDRESSES = (
    *("source", "made", "weights", "offsets", "tap_counts", "thresholds", "flips", "shift"),
    "ops",
)


class MapOp(ctypes.Structure):
    """``map_op`` of packed.h."""

    _fields_ = (("kind", ctypes.c_int64), ("values", ctypes.c_void_p))


class KernelStep(ctypes.Structure):
    """``step`` of packed.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _ADDRESSES),
        ("n_ops", ctypes.c_int64),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """Return the kernels, compiled now unless they were before; raise KernelError."""
    if sys.byteorder != "little":
        raise KernelError("counting bits fast needs a little-endian processor")
    found = SOURCES.load()
    found.packed_best.restype = found.packed_step_bytes.restype = ctypes.c_int64
    found.packed_pool_new.restype = ctypes.c_void_p
    found.packed_pool_new.argtypes = [ctypes.c_int64]
    found.packed_pool_free.restype, found.packed_pool_free.argtypes = None, [ctypes.c_void_p]
    found.packed_run.restype = None
    found.packed_run.argtypes = [
        *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p),
        ctypes.c_int64,
    ]
    if found.packed_step_bytes() != ctypes.sizeof(KernelStep):
        raise KernelError("the compiled packed kernels are of another version")
    return found


def instructions(wanted: str | None = None) -> int:
    """Return the number of the best path of this processor, or of the one asked for."""
    best: int = library().packed_best()
    if wanted is None:
        return best
    number = INSTRUCTIONS.index(wanted)
    if number > best:
        raise KernelError(f"this processor has no {wanted}, at best {INSTRUCTIONS[best]}")
    return number
