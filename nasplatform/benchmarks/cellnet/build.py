"""Compiles the C kernels on first use and loads them."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from nasplatform.errors import KernelError

SOURCES = tuple(sorted(Path(__file__).with_name("source").glob("*.[ch]")))
FLAGS = (
    *("-std=gnu11", "-O3", "-mavx2", "-mfma", "-ffp-contract=off"),
    *("-fPIC", "-fvisibility=hidden", "-shared"),
)


def cache_folder() -> Path:
    """Folder of compiled kernels: $NASPLATFORM_CACHE, else ~/.cache/nasplatform."""
    chosen = os.environ.get("NASPLATFORM_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "nasplatform"


def _check_machine() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise KernelError("building a benchmark needs an x86-64 processor with AVX2 and FMA")
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:  # not Linux: nothing to ask
        return
    if "avx2" not in words or "fma" not in words:
        raise KernelError("building a benchmark needs a processor with AVX2 and FMA")


def _digest() -> str:
    """Return what names a compiled kernel: of the flags and of all sources, headers too."""
    digest = hashlib.sha256("\0".join(FLAGS).encode())
    for source in SOURCES:
        digest.update(b"\0" + source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def compile_kernel() -> Path:
    """Path of the compiled kernel, compiled now unless the cache folder holds it."""
    target = cache_folder() / f"cellnet-{_digest()}.so"
    if target.exists():
        return target
    code = [source for source in SOURCES if source.suffix == ".c"]
    compiler = shutil.which("cc")
    if compiler is None:
        raise KernelError("building a benchmark needs a C compiler (cc); the ready tables do not")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / "cellnet.so"
            done = subprocess.run(
                [compiler, *FLAGS, "-o", str(built), *map(str, code)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                lines = [line for line in done.stderr.splitlines() if "error" in line]
                reason = lines[0] if lines else f"exit status {done.returncode}"
                raise KernelError(f"{compiler} cannot compile the training kernel: {reason}")
            built.replace(target)
    except OSError as error:
        raise KernelError(f"cannot write the compiled training kernel: {error}") from error
    return target


@functools.cache
def kernel() -> ctypes.CDLL:
    """The loaded kernel, its functions' types declared."""
    _check_machine()
    path = compile_kernel()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelError(f"cannot load the compiled training kernel: {error}") from error
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
