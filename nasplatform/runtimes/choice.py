"""Which runtime computes a network, and whether it computes what torch does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nasplatform import plugins
from nasplatform.errors import BuildError, MissingExtraError
from nasplatform.plugin_contracts import check_reason
from nasplatform.runtimes.base import Arrays, Runtime, Session
from nasplatform.runtimes.eager import Torch
from nasplatform.training.flops import threads as computing_with

TOLERANCE = 1e-4
"""Largest difference of logits from torch's, as a share of the largest logit, or of 1."""
JITTER, JITTERS = 1e-5, 3
"""By which share of themselves, and how often, images are changed to see how firm logits are."""


@dataclass(frozen=True)
class Chosen:
    """A session whose logits are torch's.

    note: why torch computes although another runtime was wanted, or what the session itself has
          to say; else empty.
    """

    session: Session
    note: str = ""


def choose_runtime(name: str | None = None, module: nn.Module | None = None) -> Runtime:
    """Return a runtime that is available here.

    name:   None takes the one of highest preference among those that suit the module.
    module: the network that is to be run; None for any.
    Raises PluginError for an unknown name, MissingExtraError for one that is not available.
    """
    if name is not None:
        runtime: Runtime = plugins.make("runtimes", name)
        why = check_reason(f"runtime {name!r}: available", runtime.available())
        if why is not None:
            raise MissingExtraError(f"runtime {name!r} {why}")
        return runtime
    every: list[Runtime] = [kind() for kind in plugins.working("runtimes").values()]
    network = nn.Identity() if module is None else module
    usable = [r for r in every if r.available() is None and r.suits(network)]
    return max(usable, key=lambda runtime: runtime.preference, default=Torch())


def open_session(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    runtime: str | None = None,
    batches: Iterable[int] = (1,),
    threads: int = 1,
) -> Chosen:
    """Make a module ready in a runtime, and see that it computes what torch does.

    batches: sizes for which it is tried out; only such are certain to work.
    Where the runtime cannot express the network, or answers something else than torch, torch takes
    its place and the note says why. Raises as ``choose_runtime`` does.
    """
    wanted = choose_runtime(runtime, module)
    try:
        session = _compiled(wanted, module, input_shape, threads)
        for batch in batches:
            check_session(session, module, input_shape, batch)
    except BuildError as error:
        note = f"{wanted.name} was not used: {error}"
        return Chosen(Torch().compile(module, input_shape, threads), note)
    return Chosen(session, session.note)


def _compiled(
    runtime: Runtime, module: nn.Module, input_shape: tuple[int, int, int], threads: int
) -> Session:
    """Compile; whatever a third party's runtime raises or returns instead is a BuildError."""
    try:
        session = runtime.compile(module, input_shape, threads)
    except BuildError:
        raise
    except Exception as error:
        raise BuildError(f"it cannot compile the network: {_told(error)}") from error
    if not isinstance(session, Session):
        raise BuildError(f"it compiles to a {type(session).__name__}, expected a Session")
    check_words(session)
    return session


def check_words(session: Session) -> None:
    """Raise BuildError unless a session says what its base promises."""
    told = {name: getattr(session, name, None) for name in ("runtime", "threads", "note")}
    for name, value in told.items():
        if name == "threads":
            right, expected = type(value) is int and value >= 1, "a whole number of at least 1"
        else:
            right, expected = isinstance(value, str), "text"
        if not right:
            kind = type(session).__name__
            raise BuildError(f"its session {kind} has {name} = {value!r:.40}, expected {expected}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def check_session(
    session: Session, module: nn.Module, input_shape: tuple[int, int, int], batch: int
) -> float:
    """Return the largest difference of logits from torch's on random images.

    Raises BuildError where the session does not answer for every image, or otherwise than torch.
    Where a network decides by the sign of something, a rounding may turn the decision and all that
    hangs on it: such a network may differ as much as torch does from itself on images that differ
    by ``JITTER``.
    """
    images = noise(input_shape, batch)
    expected = _of_torch(module, images, session.threads)
    try:
        made = session.run(images)
    except Exception as error:  # whatever a third party's runtime raises
        raise BuildError(f"it fails on a batch of {batch}: {_told(error)}") from None
    if not isinstance(made, np.ndarray) or made.dtype != np.float32:
        kind = made.dtype if isinstance(made, np.ndarray) else type(made).__name__
        raise BuildError(f"it makes {kind}, expected an array float32")
    if made.shape != expected.shape:
        raise BuildError(f"it makes {made.shape} of {batch} images, torch {expected.shape}")
    difference = float(np.abs(made - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed and not difference <= _own(module, images, expected, session):
        raise BuildError(f"its logits differ from torch's by {difference:.1e}")
    return difference


def _own(module: nn.Module, images: Arrays, expected: Arrays, session: Session) -> float:
    """Return twice the most by which logits of torch change when its images change a little."""
    rng = np.random.Generator(np.random.PCG64(1))
    found = 0.0
    for _ in range(JITTERS):
        moved = images * (1 + JITTER * rng.standard_normal(images.shape, np.float32))
        made = _of_torch(module, moved.astype(np.float32), session.threads)
        found = max(found, float(np.abs(made - expected).max()))
    return 2 * found


def _of_torch(module: nn.Module, images: Arrays, threads: int) -> Arrays:
    with computing_with(threads), torch.inference_mode():
        logits: Arrays = module.eval()(torch.from_numpy(images)).numpy()
    return logits


def noise(input_shape: tuple[int, int, int], batch: int) -> Arrays:
    """Return the same random images (B, c, h, w) each time."""
    rng = np.random.Generator(np.random.PCG64(0))
    images: Arrays = rng.standard_normal((batch, *input_shape), np.float32)
    return images
