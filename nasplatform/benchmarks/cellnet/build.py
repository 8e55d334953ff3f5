"""The C kernels of the training, compiled on first use."""

import ctypes
import functools
import platform
from pathlib import Path

from nasplatform.compiling import Sources
from nasplatform.errors import KernelError

SOURCES = Sources(
    "cellnet",
    Path(__file__).with_name("source"),
    ("-std=gnu11", "-O3", "-mavx2", "-mfma", "-ffp-contract=off"),
    "building a benchmark, unlike reading the ready tables,",
)


def _check_machine() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise KernelError("building a benchmark needs an x86-64 processor with AVX2 and FMA")
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:  # not Linux: nothing to ask
        return
    if "avx2" not in words or "fma" not in words:
        raise KernelError("building a benchmark needs a processor with AVX2 and FMA")


@functools.cache
def kernel() -> ctypes.CDLL:
    """The loaded kernel, its functions' types declared."""
    _check_machine()
    library = SOURCES.load()
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    real, double = ctypes.c_float, ctypes.c_double
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "cellnet_new101": (pointer, [integer, pointer, pointer, *[integer] * 7]),
        "cellnet_new201": (pointer, [pointer, *[integer] * 7]),
        "cellnet_free": (None, [pointer]),
        "cellnet_nparams": (long, [pointer]),
        "cellnet_nstats": (long, [pointer]),
        "cellnet_set_params": (None, [pointer, pointer]),
        "cellnet_get": (None, [pointer] * 4),
        "cellnet_train": (
            double,
            [pointer, pointer, pointer, pointer, long, pointer, real, real],
        ),
        "cellnet_forward": (double, [pointer, pointer, pointer, integer, pointer]),
        "cellnet_correct": (long, [pointer, pointer, pointer, long]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
