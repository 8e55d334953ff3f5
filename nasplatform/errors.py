"""The one exception tree of the platform.

    NasplatformError
    ├── InputError (also a ValueError): what the user gave cannot be used; exit code 2
    │   ├── ConfigError         a search file: unknown key, impossible value
    │   ├── ArchitectureError   a text or a matrix that is no architecture of the space
    │   │   └── PlaceError      (also an IndexError) places that a population does not have
    │   ├── GraphError          arrays of a space that are not what a GraphBatch promises
    │   ├── PluginError         an unknown, broken or clashing plug-in
    │   │   └── ContractError   one that is there and does not do what its kind promises
    │   ├── DataError           a data set or table that is missing, broken or not what it says
    │   ├── PredictorError      labels or graphs that a predictor cannot learn from
    │   ├── TrainingError       a training that diverged, or a checkpoint of another training
    │   ├── NetworkError        a network that cannot be built, trained or saved as it is
    │   ├── StageError          a stage that cannot do what it was asked
    │   ├── MissingExtraError   an optional dependency that is not installed
    │   └── RunError            a run folder that exists, is broken or belongs to another search
    ├── BuildError              a tool of this machine (a compiler) failed us; exit code 1
    │   └── KernelError         C code of ours cannot be compiled, loaded or used here
    ├── NotReadyError           something is being made that takes its time; exit code 1
    └── EvaluationError         an evaluator broke, whatever the architecture; exit code 1

Messages are one line: what was given, what was expected, and where (file and key, index).
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LISTED = 40  # names that a message holds


class NasplatformError(Exception):
    """Root of everything that the platform raises on purpose."""


class InputError(NasplatformError, ValueError):
    """Something that the user gave cannot be used as it is."""


class ConfigError(InputError):
    """A search file (or an override of it) that cannot be understood."""


class ArchitectureError(InputError):
    """A text, a matrix or a set of parameters that is no architecture of the space."""


class PlaceError(ArchitectureError, IndexError):
    """Places that a population does not have, or that are none."""


class GraphError(InputError):
    """Arrays of graphs of a wrong shape, type or range, or that an encoding cannot see."""


class PluginError(InputError):
    """A plug-in that is unknown, does not import, or takes a name that is taken."""


class ContractError(PluginError):
    """A plug-in that takes or returns something else than its kind promises: no file's fault."""


class DataError(InputError):
    """A data set or a benchmark table that is missing, damaged or not what it claims to be."""


class PredictorError(InputError):
    """Labels or graphs from which a predictor cannot learn, or a model that does not fit them."""


class TrainingError(InputError):
    """A training that diverged, or a checkpoint that belongs to another training."""


class NetworkError(InputError):
    """A network that cannot be built, or that cannot be trained, run or saved as it is."""


class StageError(InputError):
    """A stage that cannot do what it was asked, or that would have changed nothing."""


class RunError(InputError):
    """A run folder that is in the way, is damaged, or belongs to another search."""


class MissingExtraError(InputError):
    """An optional dependency that is not installed; the message says how to install it."""


class BuildError(NasplatformError):
    """A tool outside Python, such as the C compiler, is missing or failed."""


class KernelError(BuildError):
    """C code of the platform cannot be compiled, loaded or used on this machine."""


class NotReadyError(NasplatformError):
    """Something that takes long to make is being made, and nobody was to wait for it."""


class EvaluationError(NasplatformError):
    """An evaluator that broke in a way that is no architecture's fault; its traceback is a note."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, else the list of known names.

    >>> did_you_mean("rando", ["tpe", "random"])
    "; did you mean 'random'?"
    >>> did_you_mean("x", ["tpe", "random"])
    '; known are random, tpe'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r:.80}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (
        f"; known are {', '.join(f'{each:.80}' for each in names[:_LISTED])}{more}" if names else ""
    )
