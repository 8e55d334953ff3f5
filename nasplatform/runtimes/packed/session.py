"""Programs ready to run: by the compiled kernels, or by numpy where those cannot be had."""

from __future__ import annotations

from nasplatform.errors import KernelError
from nasplatform.runtimes.base import Arrays, Session, checked_images
from nasplatform.runtimes.packed.native import Native
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.reference import run_reference


class PackedSession(Session):
    """A program; ``note`` says why numpy computes it, where it does."""

    runtime = "packed"

    def __init__(self, program: Program, threads: int = 1) -> None:
        self.program, self.threads = program, threads
        self._native: Native | None = None
        try:
            self._native = Native(program, threads)
        except KernelError as error:
            self.note = f"packed computes with numpy, slowly: {error}"

    def run(self, images: Arrays) -> Arrays:
        """Compute the logits; raise NetworkError for what are no images of the network."""
        given = checked_images(images, self.program.image_shape)
        if self._native is None:
            return run_reference(self.program, given)
        return self._native.run(given)
