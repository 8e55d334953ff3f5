"""Programs made shorter: maps done where their source is made, what is unused left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.steps import Map, Step

_MAPPED = ("conv", "binary_conv", "product", "map", "max_pool", "avg_pool", "layer_norm")


def fused(program: Program, output: int) -> Program:
    """Return a program of fewer steps that makes the same map ``output`` last, bit for bit."""
    nodes = [_Node(step, step.sources) for step in program.steps]
    order = _Fusion(nodes, output).order()
    numbers = {0: 0, **{old + 1: new + 1 for new, old in enumerate(order)}}
    steps = tuple(_renumbered(nodes[old].step, numbers) for old in order)
    used = {name for step in steps for name in step.constants}
    tensors = {name: values for name, values in program.tensors.items() if name in used}
    return Program(program.input_shape, steps, tensors)


@dataclass
class _Node:
    step: Step
    sources: tuple[int, ...] = field(default=())


class _Fusion:
    """Takes maps into the steps that make what they are done to.

    A step into which a map was taken stands where the map stood: its own sources are there, and
    nobody else reads it.
    """

    def __init__(self, nodes: list[_Node], output: int) -> None:
        self._nodes, self._output = nodes, output
        self._uses: dict[int, int] = {output: 1}
        for number in sorted(self._needed()):
            for source in nodes[number - 1].sources:
                self._uses[source] = self._uses.get(source, 0) + 1

    def order(self) -> list[int]:
        """Fuse, and return which steps are left, in order."""
        gone: set[int] = set()
        needed = self._needed()
        for number in sorted(needed):
            node = self._nodes[number - 1]
            if node.step.op != "map":
                continue
            source, maps = self._joined(node.step)
            if source is None:
                continue
            before = self._nodes[source - 1]
            step = before.step.model_copy(update={"maps": (*before.step.maps, *maps)})
            node.step, node.sources = step, step.sources
            gone.add(source)
        return [number - 1 for number in sorted(needed - gone)]

    def _joined(self, step: Step) -> tuple[int | None, tuple[Map, ...]]:
        """Return into which step a map goes, and as what; None where it stays."""
        if self._fits(step.source):
            return step.source, step.maps
        first = step.maps[0]
        if first.kind == "plus" and self._fits(first.other or 0):
            turned = first.model_copy(update={"other": step.source})
            return first.other, (turned, *step.maps[1:])  # a sum of two has no order
        return None, ()

    def _fits(self, source: int) -> bool:
        return source > 0 and self._uses[source] == 1 and self._nodes[source - 1].step.op in _MAPPED

    def _needed(self) -> set[int]:
        needed, left = set(), [self._output]
        while left:
            number = left.pop()
            if number > 0 and number not in needed:
                needed.add(number)
                left.extend(self._nodes[number - 1].sources)
        return needed


def _renumbered(step: Step, numbers: dict[int, int]) -> Step:
    maps = tuple(
        each if each.other is None else each.model_copy(update={"other": numbers[each.other]})
        for each in step.maps
    )
    parts = tuple((numbers[source], name) for source, name in step.parts)
    changed = {"maps": maps, "parts": parts, "source": numbers.get(step.source, 0)}
    if step.other is not None:
        changed["other"] = numbers[step.other]
    return step.model_copy(update=changed)
