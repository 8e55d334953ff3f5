"""The kernels under the address and undefined-behaviour sanitizers, in a process of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from dataclasses import replace
sys.path[:0] = sys.argv[1:]
import numpy as np
import torch
from binary_networks import Gated, SmallResNet, SmallVGG, all_outputs, made
from binary_transformers import Transformer
from test_kernel_corners import POOLS
from test_transformers import PARTS, Computed
from nasplatform.runtimes.choice import noise
from nasplatform.runtimes.packed import library
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.reference import run_reference
from nasplatform.runtimes.packed.steps import MAPS, OPS
more = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
flags = (*(flag for flag in library.SOURCES.flags if flag != "-O3"), "-O1", *more)
library.SOURCES = replace(library.SOURCES, flags=flags)


def compare(module, shape, batch=3):
    program, images = lowered(module.eval(), shape), noise(shape, batch)
    expected = run_reference(program, images)
    seen.update(step.op for step in program.steps)
    seen.update(each.kind for step in program.steps for each in step.maps)
    assert all(np.array_equal(found, expected) for found in all_outputs(program, images))


seen = set()
for kind in (SmallResNet, SmallVGG, Gated):
    compare(made(kind), (1, 8, 8))
for gate in (torch.tanh, torch.nn.functional.gelu, torch.nn.functional.hardswish):
    compare(made(lambda: Gated(gate)), (1, 8, 8))
for kind in ("swin", "cmt"):
    compare(made(lambda: Transformer(kind)), (1, 8, 8))
for function in (*PARTS.values(), *POOLS.values()):
    compare(Computed(function), (6, 5, 7))
lacking = {*OPS, *MAPS} - seen
assert not lacking, lacking
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
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", CODE, here, here.parents[1]],
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
