"""What torch computes within a block, operation by operation."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """A context manager that computes each operation by ``compute``, for subclasses to change."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]  # likewise

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.compute(func, args, kwargs or {})

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what an operation (a ``torch._ops.OpOverload``) makes of its arguments."""
        return func(*args, **kwargs)
