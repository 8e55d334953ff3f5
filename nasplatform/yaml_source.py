"""YAML that knows the line of each of its keys, and overrides of them, for complaints that help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from nasplatform import faults
from nasplatform.complaints import explain, in_short, key_path, shortened, telling, validated
from nasplatform.errors import ConfigError, InputError
from nasplatform.foreign import read_text

M = TypeVar("M", bound=BaseModel)
Key = str | int
_MOST_VALUES = 100_000
_DEEPEST = 2_000  # levels that a text could have and libyaml, which recurses, is given it
LARGEST = 1 << 18  # bytes of a file; PyYAML reads some 100 kB a second
_IMPOSSIBLE = (ValueError, TypeError, AttributeError, OverflowError)  # of a value, in PyYAML
_OCTAL = re.compile(r"[-+]?0[0-9_]+")


@dataclass(frozen=True)
class Source:
    """Where values came from, so that a complaint can say it.

    file:      the search file, as the user wrote its name.
    lines:     path of each key -> its line, counted from 1.
    overrides: path of each override -> its text.
    """

    file: str
    lines: Mapping[tuple[Key, ...], int] = field(default_factory=dict)
    overrides: Mapping[tuple[Key, ...], str] = field(default_factory=dict)

    def where(self, path: Sequence[Key], section: int | None = None) -> str:
        """Return the override of a key, or ``file:line`` of it or of the nearest key above it.

        section: how many parts of the path lead to the section that is blamed as a whole, by
        default all of them: overrides inside it are named beside the line.
        """
        heads = [tuple(path[:length]) for length in range(len(path), 0, -1)]
        for head in heads:
            if head in self.overrides:
                return f"override {self.overrides[head]}"
        blamed = tuple(path[: len(path) if section is None else section])
        told = [
            f"override {text}"
            for key, text in self.overrides.items()
            if blamed and key[: len(blamed)] == blamed
        ]
        lines = [f"{self.file}:{self.lines[head]}" for head in heads if head in self.lines]
        return " with ".join([(lines or [self.file])[0], *told])

    @contextmanager
    def blame(self, *path: Key) -> Iterator[None]:
        """Put the place of a key before whatever InputError the block raises."""
        try:
            yield
        except InputError as error:
            key = ".".join(str(part) for part in path)
            own = str(error).startswith(f"{key}.")  # it names the very key, further in
            text = str(error) if own else f"{key}: {error}"
            raise ConfigError(f"{self.where(path)}: {text}") from error

    def validate(self, model: type[M], values: Mapping[str, Any], *section: Key) -> M:
        """Validate one section of the file; raise ConfigError with file, line and key."""
        try:
            return validated(model, values)
        except ValidationError as error:
            finding = telling(error)
            path = (*section, *key_path(finding, values))
            text = explain(error, model, ".".join(str(part) for part in section), values)
            # a validator of ours may have compared the key with others of its section
            compared = finding["type"] == "value_error"
            whole = isinstance(finding["input"], (dict, list)) and not compared
            place = self.where(path, len(section) if compared else len(path) if whole else 0)
            if compared and path not in self.lines and path not in self.overrides:
                text += " (the default)"
            raise ConfigError(f"{place}: {text}") from None


def read_yaml(
    file: Path, overrides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], Source]:
    """Read a file of keys and values and lay overrides over it; return where each came from.

    overrides: dotted key -> value, e.g. ``{"search.budget": 20, "stages.0.epochs": 3}``.
    Raises ConfigError with file and line for broken YAML and for a key that stands twice.
    """
    values, lines = _read(file)
    told = {}
    if not isinstance(overrides, Mapping | None):
        raise ConfigError(
            f"overrides: expected dotted keys and values such as {{'search.budget': 20}}, "
            f"got {type(overrides).__name__}"
        )
    for dotted, given in (overrides or {}).items():
        value = _as_yaml(given)
        path = _set(values, dotted, value)
        shown = "" if value is None else value if isinstance(value, str) else shortened(value)
        told[path] = in_short(f"{dotted}={shown}")
    return values, Source(str(file), lines, told)


def parse_overrides(
    texts: Sequence[str], option: str = "--set", example: str = "search.budget=20"
) -> dict[str, Any]:
    """Turn ``["search.budget=20"]`` into ``{"search.budget": 20}``; the values are YAML."""
    found = {}
    for text in texts:
        where = f"{option} {in_short(text)}"
        key, equals, value = text.partition("=")
        if not (equals and key.strip()):
            raise ConfigError(f"{where}: expected KEY=VALUE such as {example}")
        try:
            found[key.strip()] = plain_yaml(value)
        except _AmbiguousError as error:
            raise ConfigError(f"{where}: {error.problem}") from None
        except yaml.YAMLError:
            raise ConfigError(f"{where}: what follows '=' is not a YAML value") from None
    return found


class _AmbiguousError(yaml.constructor.ConstructorError):
    """What YAML reads otherwise than people do, such as a key that stands twice."""


class _Loader(yaml.SafeLoader):
    """YAML's plain values; dates stay texts, and numbers are as people read them."""


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either
    """The same by libyaml, ten times as fast, where PyYAML was built with it."""


def _number(loader: Any, node: yaml.ScalarNode) -> int | float:
    """Refuse octal and sexagesimal numbers, and underscores in numbers; read all others."""
    text = str(node.value)
    if _OCTAL.fullmatch(text) or ":" in text:
        read = "base 60" if ":" in text else "octal"
        problem = f"{in_short(text)} would be read as a number in {read}: quote it if it is text"
        raise _AmbiguousError(None, None, problem, node.start_mark)
    if "_" in text:
        text, plain = in_short(text), in_short(text.replace("_", ""))
        problem = f"{text} would be read as {plain}: write {plain}, or quote it if it is text"
        raise _AmbiguousError(None, None, problem, node.start_mark)
    whole = node.tag.endswith(":int")
    found: int | float = (loader.construct_yaml_int if whole else loader.construct_yaml_float)(node)
    return found


def _text(loader: Any, node: yaml.ScalarNode) -> str:
    return str(node.value)


for _kind, _read_as in (("int", _number), ("float", _number), ("timestamp", _text)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _read_as)
    _QuickLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _read_as)


def _read(file: Path) -> tuple[dict[str, Any], dict[tuple[Key, ...], int]]:
    text = _contents(file)
    lines: dict[tuple[Key, ...], int] = {}

    def look(node: yaml.Node) -> None:
        lines.update(_lines(node, ()))

    try:
        values = plain_yaml(text, look)
    except yaml.YAMLError as error:
        raise ConfigError(yaml_complaint(error, file)) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected keys and values such as 'name: my-search'")
    return values, lines


def plain_yaml(text: str, look: Callable[[yaml.Node], None] = lambda node: None) -> Any:
    """Return the plain values of a YAML text; ``look`` sees its tree before they are made.

    Raises YAMLError, also for what PyYAML lets through as other exceptions: dates and numbers that
    cannot be, nests without end, and aliases that stand for more values than a file may have.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _require_few(node)
        look(node)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply, or in itself") from None
    except _IMPOSSIBLE as error:
        if isinstance(error, InputError):
            raise
        mark = loader.get_mark()  # of the end: PyYAML does not say where such a value stands
        words = f"a value that cannot be: {faults.short(error)}"
        raise yaml.MarkedYAMLError(problem=words, problem_mark=mark) from None
    finally:
        loader.dispose()


def quick_yaml(text: str) -> Any:
    """Return what ``plain_yaml`` does, sooner; what is wrong with a text is told by that one."""
    deepest = text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0)
    if deepest > _DEEPEST:
        return plain_yaml(text)
    loader = _QuickLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _require_few(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, InputError, *_IMPOSSIBLE, RecursionError):
        return plain_yaml(text)
    finally:
        loader.dispose()


def _require_few(node: yaml.Node) -> None:
    """Count the values with each alias written out; raise YAMLError for too many."""
    sizes: dict[int, int] = {}

    def size(each: yaml.Node) -> int:
        known = sizes.get(id(each))
        if known is not None:
            return known
        sizes[id(each)] = _MOST_VALUES  # until it is known: a node within itself is too large
        inner = [1]
        if isinstance(each, yaml.MappingNode):
            _require_single_keys(each)
            inner += [size(part) for pair in each.value for part in pair]
        elif isinstance(each, yaml.SequenceNode):
            inner += [size(part) for part in each.value]
        sizes[id(each)] = sum(inner)
        return sizes[id(each)]

    if size(node) > _MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"more than {_MOST_VALUES:,} values, with each alias written out",
            problem_mark=node.start_mark,
        )


def _require_single_keys(node: yaml.MappingNode) -> None:
    """Raise _AmbiguousError for a key that stands twice in one mapping."""
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if node.flow_style and _comma_of_number(key, value):
            problem = f"{key.value}: no key: a number has a point, if any, and no comma"
            raise _AmbiguousError(None, None, problem, key.start_mark)
        line = key.start_mark.line + 1
        before = lines.get(key.value)
        if before is not None:
            where = "twice" if before == line else f"in line {before} already"
            problem = f"{in_short(key.value)}: stands {where}"
            raise _AmbiguousError(None, None, problem, key.start_mark)
        lines[key.value] = line


def _comma_of_number(key: yaml.ScalarNode, value: yaml.Node) -> bool:
    """Say whether a comma has cut a number in two, as in ``{target: 0,5}``."""
    return key.value.isdecimal() and value.tag.endswith(":null") and not value.value


def _contents(file: Path) -> str:
    shipped = {path.name: path for path in shipped_searches().glob("*.yaml")}
    meant = shipped.get(file.name) if file.parent == Path("searches") else None
    try:
        found = read_text(file if meant is None or file.exists() else meant, LARGEST)
        return found.removeprefix("\ufeff")
    except FileNotFoundError:
        names = ", ".join(sorted(shipped))
        raise ConfigError(f"{file}: no such file; searches/ everywhere has {names}") from None
    except (OSError, ValueError) as error:
        words = faults.short(error)
        raise ConfigError(f"{file}: cannot be read as a text file ({words})") from None


def shipped_searches() -> Path:
    """Return the folder of the search files that ship: in the package, or beside it in a clone."""
    package = Path(__file__).resolve().parent
    inside = package / "searches"
    return inside if inside.is_dir() else package.parent / "searches"


def yaml_complaint(error: yaml.YAMLError, file: Path) -> str:
    """Return what is wrong with a text of YAML, with its file and line."""
    problem = getattr(error, "problem", None) or faults.short(error)
    if isinstance(error, yaml.reader.ReaderError):
        problem = f"character number {error.position + 1} is not allowed"
    if problem.startswith("could not determine a constructor"):
        problem = "tags with '!' are not read: plain values only"
    mark = getattr(error, "problem_mark", None)
    place = f"{file}:{mark.line + 1}" if mark else str(file)
    if isinstance(error, _AmbiguousError):
        return f"{place}: {problem}"
    column = f", column {mark.column + 1}" if mark else ""
    return f"{place}: broken YAML{column}: {problem}"


def _lines(node: yaml.Node, path: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], int]]:
    """Walk a YAML tree: the path and line of each key."""
    children: list[tuple[Key, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, value, value) for index, value in enumerate(node.value)]
    for key, place, value in children:
        yield (*path, key), place.start_mark.line + 1
        yield from _lines(value, (*path, key))


def _as_yaml(value: Any) -> Any:
    """Return what Python has and YAML has not as what a file would have: paths, numpy's numbers."""
    if isinstance(value, PurePath):
        return str(value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _set(values: dict[str, Any], dotted: str, value: Any) -> tuple[Key, ...]:
    """Set a dotted key in nested mappings and lists; return its path."""
    path: list[Key] = []
    inner: Any = values
    if not isinstance(dotted, str):
        raise ConfigError(f"overrides: expected dotted keys such as 'seed', got {dotted!r:.40}")
    if not all(dotted.split(".")):
        raise ConfigError(f"override {dotted}: expected keys with '.' between them, one is empty")
    *heads, last = dotted.split(".")
    for part in heads:
        key = _key(inner, part, dotted)
        if isinstance(inner, dict) and not isinstance(inner.get(key), (dict, list)):
            inner[key] = {}
        inner = inner[key]
        path.append(key)
    key = _key(inner, last, dotted)
    inner[key] = value
    return (*path, key)


def _key(inner: Any, part: str, dotted: str) -> Key:
    if isinstance(inner, dict):
        return part
    if not isinstance(inner, list):
        raise ConfigError(f"override {dotted}: {part!r} lies below a plain value")
    if not (part.isascii() and part.isdigit()) or int(part) >= len(inner):
        raise ConfigError(
            f"override {dotted}: {part!r} is not an index of a list of {len(inner)}, counted from 0"
        )
    return int(part)
