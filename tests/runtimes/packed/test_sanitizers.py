"""The kernels under the address and undefined-behaviour sanitizers, in a process of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
import numpy as np
from binary_networks import Gated, SmallResNet, SmallVGG, all_outputs, made
from nasplatform.runtimes.choice import noise
from nasplatform.runtimes.packed import library
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.reference import run_reference
more = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
flags = (*(flag for flag in library.SOURCES.flags if flag != "-O3"), "-O1", *more)
library.SOURCES = replace(library.SOURCES, flags=flags)
images = noise((1, 8, 8), 3)
for kind in (SmallResNet, SmallVGG, Gated):
    program = lowered(made(kind), (1, 8, 8))
    expected = run_reference(program, images)
    assert all(np.array_equal(found, expected) for found in all_outputs(program, images))
print("clean")
"""


@pytest.mark.slow
def test_kernels_are_clean_under_the_sanitizers(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    found = [
        subprocess.run(
            ["cc", f"-print-file-name={name}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    if not all(Path(path).is_absolute() for path in found):
        pytest.skip("needs the sanitizers' libraries")
    done = subprocess.run(
        [sys.executable, "-c", CODE, Path(__file__).parent],
        env={
            "LD_PRELOAD": " ".join(found),
            "ASAN_OPTIONS": "detect_leaks=0",
            "NASPLATFORM_CACHE": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "clean", done.stderr[-3000:]
