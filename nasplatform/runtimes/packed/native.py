"""Programs run by the compiled kernels."""

from __future__ import annotations

import ctypes
import threading
import weakref

import numpy as np

from nasplatform.errors import KernelError
from nasplatform.runtimes.base import Arrays
from nasplatform.runtimes.packed.library import instructions, library
from nasplatform.runtimes.packed.plan import Constants, Plan
from nasplatform.runtimes.packed.program import Program

PIECE_BYTES = 2**24
"""About how much memory the maps of the images that are computed together may take."""


class Native:
    """A program ready to run; raises KernelError where the kernels cannot be compiled.

    threads: that compute. path: instructions to use, of ``library.INSTRUCTIONS``; None: the best.
    """

    def __init__(self, program: Program, threads: int = 1, path: str | None = None) -> None:
        self._library, self._path = library(), instructions(path)
        self._constants = Constants(program)
        largest = max(int(np.prod(shape)) for shape in program.shapes) * 4
        self._piece = min(max(PIECE_BYTES // (4 * largest), 1), 64)
        self._plans: dict[int, Plan] = {}
        self._lock = threading.Lock()
        self._pool = self._library.packed_pool_new(threads)
        if not self._pool:
            raise KernelError(f"no memory for {threads} threads")
        weakref.finalize(self, self._library.packed_pool_free, self._pool)

    def run(self, images: Arrays) -> Arrays:
        """Compute the logits of images that ``checked_images`` returned: (B, K)."""
        with self._lock:
            starts = range(0, len(images), self._piece)
            return np.concatenate([self._computed(images[i : i + self._piece]) for i in starts])

    def _computed(self, images: Arrays) -> Arrays:
        if len(images) not in self._plans:
            self._plans = {k: plan for k, plan in self._plans.items() if k == self._piece}
            self._plans[len(images)] = Plan(self._constants, len(images))
        plan = self._plans[len(images)]
        for index in plan.inputs:
            plan.steps[index].source = images.ctypes.data
        self._library.packed_run(
            self._pool, self._path, ctypes.addressof(plan.steps), len(plan.steps)
        )
        return plan.output.copy()
