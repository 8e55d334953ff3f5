"""What a layer does for the logits: makes features, makes the logits, or only weighs others.

A walk goes backwards from the logits. It does not enter the operand of a product that is a gate:
one that is spread over the other (squeeze-excite) or was squashed between 0 and 1 (attention
maps); nor that of a sum which is spread over all places (global context). So gates, shifts and what
computes them are never reached.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from enum import Flag, auto

from nasplatform.stages.dataflow.nodes import (
    PRODUCTS,
    SQUASHING,
    WEIGHTED,
    Edge,
    Node,
    bounds_of,
    inputs_of,
    is_a,
    kind_of,
)
from nasplatform.stages.dataflow.record import Record


class Role(Flag):
    """By what a layer is reached from the logits."""

    LOGITS = auto()
    """Nothing with weights comes after it."""
    FEATURES = auto()
    """Another layer reads it."""
    OPERAND = auto()
    """Only the products of attention read it: queries, keys and values."""
    MIXTURE = auto()
    """Only the weights by which attention mixes are made of it: queries and keys."""


def roles(record: Record, pooled: Mapping[Node, bool | None]) -> dict[Edge, Role]:
    """Return the roles of every layer that the logits are made of, by what it made."""
    layers, found = record.layers, dict[Edge, Role]()
    stack = [(end, Role.LOGITS) for end in record.outputs]
    seen: set[tuple[Edge, Role]] = set()
    while stack:
        edge, role = stack.pop()
        if (edge, role) in seen:
            continue
        seen.add((edge, role))
        if edge in layers:
            found[edge] = found.get(edge, Role(0)) | role
            stack.extend((given, Role.FEATURES) for given in layers[edge].given)
            continue
        if role != Role.MIXTURE:
            if is_a(edge.node, WEIGHTED):
                role = Role.FEATURES
            elif is_a(edge.node, PRODUCTS) and role != Role.LOGITS:
                role = Role.OPERAND
        for given in _not_gates(edge.node, pooled):
            mixes = role == Role.OPERAND and _squashed(given.node, pooled)
            stack.append((given, Role.MIXTURE if mixes else role))
    return found


def makes_features(role: Role | None) -> bool:
    """Say whether a layer is read by others, and its output is not the logits."""
    return role is not None and Role.FEATURES in role and Role.LOGITS not in role


def _not_gates(node: Node, pooled: Mapping[Node, bool | None]) -> list[Edge]:
    given = inputs_of(node)
    activations = [edge for edge in given if pooled[edge.node] is not None]
    product = is_a(node, ("MulBackward",))
    spreads = product or (is_a(node, ("AddBackward", "SubBackward")) and len(_shape(node)) > 2)
    if not spreads or len(activations) < 2:
        return activations
    largest = max(math.prod(edge.shape) for edge in activations)
    kept = [
        edge
        for edge in activations
        if math.prod(edge.shape) == largest and not (product and _squashed(edge.node, pooled))
    ]
    return kept or activations


def _shape(node: Node) -> tuple[int, ...]:
    return Edge(node, 0).shape


def _squashed(node: Node, pooled: Mapping[Node, bool | None]) -> bool:
    """Say whether an operand was put between 0 and 1, and only scaled and laid out since."""
    passed: set[str] = set()
    while not _squashes(node, passed):
        given = [edge.node for edge in inputs_of(node) if pooled[edge.node] is not None]
        if len(given) != 1 or is_a(node, (*WEIGHTED, *PRODUCTS)):
            return False
        passed.add(kind_of(node))
        node = given[0]
    return True


def _squashes(node: Node, passed: Collection[str]) -> bool:
    """Say whether a node puts numbers between 0 and 1, given the kinds of the nodes after it.

    By hand: a hyperbolic tangent that is lifted, and what is cut at 0 and 1, at 0 and then scaled,
    or lifted and then cut at 0 and 6.
    """
    if is_a(node, SQUASHING):
        return True
    if is_a(node, ("TanhBackward",)):
        return "AddBackward" in passed
    if not is_a(node, ("HardtanhBackward", "ClampBackward")):
        return False
    low, high = bounds_of(node)
    scaled = not {"DivBackward", "MulBackward"}.isdisjoint(passed)
    before = inputs_of(node)[0].node
    lifted = high == 6 and is_a(before, ("AddBackward",)) and len(inputs_of(before)) == 1
    return low == 0 and high is not None and (high == 1 or scaled or lifted)
