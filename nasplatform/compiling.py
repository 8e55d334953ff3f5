"""C sources that are compiled on first use and kept in a cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasplatform.atomic_io import cache_folder
from nasplatform.errors import KernelError

_SHARED = ("-fPIC", "-fvisibility=hidden", "-shared")


@dataclass(frozen=True)
class Sources:
    """What a library is made of.

    name:    of the library, for its file.
    folder:  of the sources, ``*.c`` and ``*.h``.
    flags:   of the compiler.
    purpose: what needs the library, for messages: ``"... needs a C compiler (cc)"``.
    """

    name: str
    folder: Path
    flags: Sequence[str]
    purpose: str

    def load(self) -> ctypes.CDLL:
        """Load the library, compiled now unless the cache folder holds it; raise KernelError."""
        path = self.compiled()
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelError(f"cannot load the compiled {self.name}: {error}") from error

    def compiled(self) -> Path:
        """Return the compiled file; raise KernelError where there is none and none can be made."""
        target = cache_folder() / f"{self.name}-{self._digest()}.so"
        if target.exists():
            return target
        compiler = shutil.which("cc")
        if compiler is None:
            raise KernelError(f"{self.purpose} needs a C compiler (cc)")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                built = Path(folder) / target.name
                self._compile(compiler, built)
                built.replace(target)
        except OSError as error:
            raise KernelError(f"cannot write the compiled {self.name}: {error}") from error
        return target

    def _compile(self, compiler: str, built: Path) -> None:
        code = map(str, sorted(self.folder.glob("*.c")))
        done = subprocess.run(
            [compiler, *self.flags, *_SHARED, "-o", str(built), *code],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            reason = lines[0] if lines else f"exit status {done.returncode}"
            raise KernelError(f"{compiler} cannot compile {self.name}: {reason}")

    def _digest(self) -> str:
        """Return what names a compiled file: of the flags and of all sources, headers too."""
        digest = hashlib.sha256("\0".join((*self.flags, *_SHARED)).encode())
        for source in sorted(self.folder.glob("*.[ch]")):
            digest.update(b"\0" + source.name.encode() + b"\0" + source.read_bytes())
        return digest.hexdigest()
