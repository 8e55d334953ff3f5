"""What was done to the layers of a network, in a form that a file can hold and repeat.

A kind of edit is a function ``(module, payload) -> module``, registered as an entry point of the
group ``nasplatform.edits`` under ``KIND.VERSION``, e.g. ``channels-removed.1``. It does the edit
again on a module that is as it was before; the weights are loaded afterwards. A function that
reads its payload in another way is registered under the next version, beside the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import nn

from nasplatform import plugins
from nasplatform.errors import NetworkError, did_you_mean

PerformEdit = Callable[[nn.Module, Mapping[str, Any]], nn.Module]


@dataclass(frozen=True)
class Edit:
    """One change of layers.

    kind:    what was done, e.g. ``channels-removed``.
    version: of the payload's form, from 1.
    payload: what the registered function needs to do it again; values that JSON can hold.
    """

    kind: str
    version: int
    payload: Mapping[str, Any]

    def apply(self, module: nn.Module) -> nn.Module:
        """Do the edit; raise NetworkError for a kind or version that is not registered."""
        perform: PerformEdit = plugins.get("edits", self._entry())
        return perform(module, self.payload)

    def to_dict(self) -> dict[str, Any]:
        """Return the edit as a mapping that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read ``to_dict`` back; raise TypeError for anything else."""
        return cls(**values)

    def _entry(self) -> str:
        entry, known = f"{self.kind}.{self.version}", plugins.names("edits")
        if entry in known:
            return entry
        versions = [name for name in known if re.fullmatch(rf"{re.escape(self.kind)}\.\d+", name)]
        if versions:
            raise NetworkError(
                f"edit {self.kind!r} of version {self.version!r} is not known here; "
                f"known are {', '.join(versions)}"
            )
        kinds = {name.rpartition(".")[0] for name in known}
        raise NetworkError(f"unknown edit {self.kind!r}{did_you_mean(self.kind, kinds)}")
