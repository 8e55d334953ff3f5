"""Complaints in the user's words: which key, what would be right, and what was given, in short."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from nasplatform.errors import did_you_mean
from nasplatform.passwords import without_password
from nasplatform.paths import impossible

M = TypeVar("M", bound=BaseModel)
_LONGEST = 160  # characters of a value that a message shows
_SEARCHED = 4096  # characters of a text that may hold a password

_EXPECTED = {
    "bool": "true or false",
    "bytes": "bytes",
    "date": "a date",
    "dict": "keys and values",
    "finite_number": "a finite number",
    "float": "a number",
    "frozen_set": "a list",
    "int": "a whole number",
    "int_from_float": "a whole number",
    "iteration": "a list",
    "list": "a list",
    "mapping": "keys and values",
    "model": "keys and values",
    "model_attributes": "keys and values",
    "none_required": "nothing",
    "path": "a path",
    "set": "a list",
    "string": "text",
    "tuple": "a list",
}  # kind of pydantic's finding -> what would be right
_BOUNDS = {
    "greater_than": ("a number greater than {gt}", "gt"),
    "greater_than_equal": ("a number of at least {ge}", "ge"),
    "less_than": ("a number less than {lt}", "lt"),
    "less_than_equal": ("a number of at most {le}", "le"),
    "multiple_of": ("a multiple of {multiple_of}", "multiple_of"),
    "string_pattern_mismatch": ("text that matches {pattern}", "pattern"),
    "string_too_short": ("text of at least {min_length} characters", "min_length"),
    "string_too_long": ("text of at most {max_length} characters", "max_length"),
    "too_short": ("{min_length} or more values", "min_length"),
    "too_long": ("no more than {max_length} values", "max_length"),
    "literal_error": ("{expected}", "expected"),
    "enum": ("{expected}", "expected"),
    "union_tag_invalid": ("one of {expected_tags} as {discriminator}", "expected_tags"),
    "union_tag_not_found": ("a key {discriminator}", "discriminator"),
}  # kind -> what would be right, and the key of its context that must be there


_OF_NUMBERS = frozenset(kind for kind in _BOUNDS if "than" in kind)


class _Shortener(reprlib.Repr):
    """Shows values as a file has them, and only the beginnings of long and deep ones."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, 80, 80
        self.maxdict = self.maxlist = self.maxtuple = 8

    def repr1(self, x: Any, level: int) -> str:
        if x is None:
            return "nothing"
        if isinstance(x, bool):
            return str(x).lower()
        if isinstance(x, date):
            return x.isoformat()
        return super().repr1(x, level)

    def repr_str(self, x: str, level: int) -> str:
        """Leave passwords out before the middle goes, without which they are not known as such."""
        return super().repr_str(without_password(x[:_SEARCHED]), level)

    def repr_dict(self, x: Mapping[Any, Any], level: int) -> str:
        """Keep the order of the keys, as a file has them."""
        if level <= 0:
            return "{...}" if x else "{}"
        shown = [f"{key!r}: {self.repr1(x[key], level - 1)}" for key in islice(x, self.maxdict)]
        return "{" + ", ".join([*shown, *["..."][: len(x) > self.maxdict]]) + "}"


def shortened(value: Any) -> str:
    """Return a value in at most ``_LONGEST`` characters, without the passwords in it."""
    return _cut(without_password(_Shortener().repr(value)), _LONGEST)


def in_short(text: str) -> str:
    """Return a user's text on one line, at most ``_LONGEST`` characters, without passwords."""
    return _cut(without_password(text[:_SEARCHED]), _LONGEST)


def validated(model: type[M], values: Mapping[str, Any]) -> M:
    """Validate values; raise ValidationError also for what is only read as a number."""
    made = model.model_validate(dict(values))
    for kind, *path in _misread_numbers(values, made):
        found = PydanticCustomError(kind, "no path") if kind == "path_type" else kind
        given = {"type": found, "loc": tuple(path), "input": _at(values, path)}
        raise ValidationError.from_exception_data(model.__name__, [given])  # type: ignore[list-item] # a plain dict is one
    return made


def explain(
    error: ValidationError, model: type[BaseModel], where: str, values: Mapping[str, Any]
) -> str:
    """Turn the telling finding of pydantic into one line: the key, and what would be right."""
    finding = telling(error)
    path = ".".join(str(part) for part in (where, *key_path(finding, values)) if str(part))
    if finding["type"] == "extra_forbidden":
        key = str(finding["loc"][-1])
        near = _inner_section(model, finding["loc"]) or did_you_mean(
            key, known_keys(model, finding["loc"][:-1])
        )
        return f"{path}: unknown key {shortened(key)}{near}"
    if finding["type"] == "missing":
        return f"{path}: {expected(finding)}"
    beside = [one for one in error.errors() if key_path(one, values) == key_path(finding, values)]
    words = " or ".join(dict.fromkeys(expected(one) for one in beside))
    example = _example(model, finding)
    return f"{path}: {words}{example}, got {shortened(finding['input'])}{meant(finding)}"


def meant(finding: ErrorDetails) -> str:
    """Name the allowed word that is nearest to the one that was given, or why a path is none."""
    if finding["type"] == "path_type" and isinstance(finding["input"], str):
        why = impossible(Path(finding["input"])) if finding["input"] else None
        return f" ({why})" if why else ""
    if finding["type"] != "literal_error" or not isinstance(finding["input"], str):
        return ""
    allowed = re.findall("'(.*?)'", finding["ctx"]["expected"])
    near = get_close_matches(finding["input"], allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def expected(finding: ErrorDetails) -> str:
    """Say what would be right in place of what pydantic has found."""
    kind = finding["type"]
    context = {key: _plain(value) for key, value in finding.get("ctx", {}).items()}
    if kind == "missing":
        return "this key is required"
    if kind == "extra_forbidden":
        return "this key is not known"
    if kind == "value_error":
        return finding["msg"].removeprefix("Value error, ").removesuffix(".")
    if kind == "json_invalid":
        return f"no JSON: {context['error']}"
    if isinstance(finding["input"], bool) and kind in _OF_NUMBERS:
        return "expected a number"
    if kind in _BOUNDS and _BOUNDS[kind][1] in context:
        return f"expected {_BOUNDS[kind][0].format(**context)}"
    stem = kind.removesuffix("_type").removesuffix("_parsing")
    if stem in _EXPECTED:
        return f"expected {_EXPECTED[stem]}"
    return finding["msg"].replace("Input should be", "expected")


def key_path(finding: ErrorDetails, values: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return the keys that lead to a finding, without pydantic's names of a union's members."""
    loc, found = finding["loc"], list[int | str]()
    inner: Any = values
    for place, part in enumerate(loc):
        try:
            inner = inner[part]
        except (KeyError, IndexError, TypeError):
            wanting = finding["type"] == "missing" and place == len(loc) - 1
            if place and not wanting:
                continue
        found.append(part)
    return tuple(found)


def telling(error: ValidationError) -> ErrorDetails:
    """Return the first unknown key, of which a missing one may be the consequence, or the first."""
    findings = error.errors()
    return next((one for one in findings if one["type"] == "extra_forbidden"), findings[0])


def known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section to which a path leads; none where that is not known."""
    found = _model_at(model, path)
    return [] if found is None else list(found.model_fields)


def _model_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model of the section to which a path leads, where it is known."""
    found: type[BaseModel] | None = model
    for part in path:
        found = None if found is None else _section(found, str(part))
    return found


def _inner_section(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Name the section beside an unknown key in which that key would be right; else nothing."""
    here, key = _model_at(model, path[:-1]), str(path[-1])
    for name in () if here is None else here.model_fields:
        inner = _section(here, name) if here is not None else None
        if inner is not None and key in inner.model_fields:
            return f"; it belongs into {name}: {{{key}: ...}}"
    return ""


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of a key, where its values are those of a single one or nothing."""
    field = model.model_fields.get(key)
    annotation = field.annotation if field else None
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)]
    (kind,) = kinds if len(kinds) == 1 else (None,)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _example(model: type[BaseModel], finding: ErrorDetails) -> str:
    """Show how a name that was given alone is written."""
    given = finding["input"]
    if finding["type"] not in ("model_type", "model_attributes_type") or not isinstance(given, str):
        return ""
    for part in finding["loc"]:
        inner = _section(model, str(part))
        if inner is None:
            return ""
        model = inner
    first = next(iter(model.model_fields))
    return f" such as {{{first}: {in_short(given)}}}"


def _misread_numbers(given: Any, made: Any) -> Iterator[tuple[Any, ...]]:
    """Yield where something else was read as a number: YAML's yes and no, a text, 3.0 as 3.

    Each is pydantic's word for what was expected, and the path.

    Texts of numbers with a point or an exponent are none of them: YAML has 1e-3 as a text.
    """
    # an empty path is the folder that one stands in
    if isinstance(made, Path) and (given == "" or impossible(made)):
        yield ("path_type",)
    if isinstance(given, bytes) and isinstance(made, str):
        yield ("string_type",)
    number = isinstance(made, (int, float)) and not isinstance(made, bool)
    if isinstance(given, (bool, str, float)):
        whole = number and isinstance(made, int)
        if whole or (number and (isinstance(given, bool) or "_" in str(given))):
            yield ("int_type" if isinstance(made, int) else "float_type",)
        return
    pairs: list[tuple[int | str, Any, Any]] = []
    if isinstance(given, Mapping) and isinstance(made, BaseModel):
        pairs = [(key, one, getattr(made, str(key), None)) for key, one in given.items()]
    elif isinstance(given, Mapping) and isinstance(made, Mapping):
        pairs = [(key, one, made.get(key)) for key, one in given.items()]
    elif isinstance(given, (list, tuple)) and isinstance(made, (list, tuple)):
        pairs = [(place, *both) for place, both in enumerate(zip(given, made, strict=False))]
    for key, one, other in pairs:
        for kind, *path in _misread_numbers(one, other):
            yield kind, key, *path


def _at(values: Any, path: Sequence[int | str]) -> Any:
    for part in path:
        values = values[part]
    return values


def _cut(text: str, longest: int) -> str:
    begun = " ".join(text[: 4 * longest].split())
    words = "".join(each if each.isprintable() else repr(each)[1:-1] for each in begun)
    return words if len(words) <= longest else f"{words[:longest]} ..."


def _plain(value: Any) -> Any:
    """Return a whole number as one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
