"""Every option as the models say it: key, type, default, meaning; and the schema for editors."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

Schema = dict[str, Any]
_KEY = re.compile(r"^(\w+):\s+(\S.*)$")
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "keys and values",
}
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)


@dataclass(frozen=True)
class Option:
    """One key of a section.

    key:     dotted below the section; ``optimizer{sgd}.momentum`` is the key of an alternative.
    type:    in words, with its bounds.
    default: as a file has it; None where the key is required.
    """

    key: str
    type: str
    default: Any
    required: bool
    meaning: str


def schema_of(model: type[BaseModel], prefix: str = "") -> Schema:
    """Return the JSON schema of a model, with the meaning of every key that its source says.

    prefix: of the names in ``$defs``, so that those of several models stand in one document.
    """
    made = model.model_json_schema(
        schema_generator=_Documented, ref_template=f"#/$defs/{prefix}{{model}}"
    )
    if "$defs" in made:
        made["$defs"] = {f"{prefix}{name}": inner for name, inner in made["$defs"].items()}
    return made


def options_in(schema: Mapping[str, Any]) -> list[Option]:
    """Return the keys of a schema, those of inner sections among them, in their order."""
    return list(_options(schema, schema.get("$defs", {}), ""))


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return key -> meaning, as class docstrings and docstrings below the keys say them."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _listed(inspect.cleandoc(kind.__doc__ or ""))
            found |= _below(kind)
    return {key: text for key, text in found.items() if key in model.model_fields}


class _Documented(GenerateJsonSchema):
    """Pydantic's generator, which reads descriptions; ours may stand in the source instead."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        made = super().model_schema(schema)
        for key, meaning in meanings(schema["cls"]).items():
            made.get("properties", {}).get(key, {}).setdefault("description", meaning)
        made.pop("title", None)
        return made

    def get_title_from_name(self, name: str) -> str:
        return name


def _listed(text: str) -> dict[str, str]:
    """Return the ``key: meaning`` lines of a docstring; meanings go on in indented lines."""
    found: dict[str, str] = {}
    key = None
    for line in text.split("\n"):
        if match := _KEY.match(line):
            key = match[1]
            found[key] = match[2]
        elif key is not None and line.startswith("  "):
            found[key] += f" {line.strip()}"
        else:
            key = None
    return found


def _below(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings that stand below the keys of a class."""
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # made at run time: no source
        return {}
    found, key = {}, None
    for line in getattr(node, "body", []):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            key = line.target.id
        elif key is not None and isinstance(line, ast.Expr):
            if isinstance(line.value, ast.Constant) and isinstance(line.value.value, str):
                found[key] = " ".join(line.value.value.split())
            key = None
        else:
            key = None
    return found


def _options(schema: Mapping[str, Any], defs: Mapping[str, Schema], head: str) -> Iterator[Option]:
    required = schema.get("required", [])
    for key, given in schema.get("properties", {}).items():
        yield Option(
            key=f"{head}{key}",
            type=in_words(given, defs),
            default=given.get("default", {} if given.get("type") == "object" else None),
            required=key in required,
            meaning=given.get("description", ""),
        )
        sections = [one for one in _alternatives(given, defs) if "properties" in one]
        for inner in sections:
            names = [one["const"] for one in inner["properties"].values() if "const" in one]
            label = f"{{{names[0]}}}" if names and len(sections) > 1 else ""
            yield from _options(inner, defs, f"{head}{key}{label}.")


def _alternatives(schema: Mapping[str, Any], defs: Mapping[str, Schema]) -> list[Schema]:
    """Return what a value may be, references followed."""
    if "$ref" in schema:
        return [defs[schema["$ref"].removeprefix("#/$defs/")]]
    several = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    return (
        [each for one in several for each in _alternatives(one, defs)] if several else [{**schema}]
    )


def in_words(schema: Mapping[str, Any], defs: Mapping[str, Schema]) -> str:
    """Say which values a schema allows."""
    said = [_plain(one, defs) for one in _alternatives(schema, defs)]
    return " or ".join(dict.fromkeys(said))


def _plain(schema: Schema, defs: Mapping[str, Schema]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array" and ("items" in schema or "prefixItems" in schema):
        inner = schema.get("prefixItems") or [schema["items"]]
        if isinstance(schema.get("items"), dict) or len(inner) == 1:
            return f"list of {in_words(inner[0], defs)}"
        return f"[{', '.join(in_words(one, defs) for one in inner)}]"
    words = _TYPES.get(str(schema.get("type")), "any value")
    bounds = ", ".join(f"{word} {_number(schema[key])}" for key, word in _BOUNDS if key in schema)
    return f"{words} {bounds}".rstrip()


def _number(bound: float) -> str:
    return f"{int(bound):,}" if 10_000 <= bound == int(bound) else f"{bound:g}"
