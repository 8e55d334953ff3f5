"""The contract of an encoding as tests; a plug-in author inherits them in a test module.

class TestMyEncoding(EncodingContract):
    encoding_name = "my-encoding"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from nasplatform.encodings import Encoding, get_encoding
from nasplatform.errors import GraphError
from nasplatform.spaces import GraphBatch, Space, get_space

_SPACES: Mapping[str, Mapping[str, Any]] = {
    "nasbench101": {"stem_channels": 4, "modules_per_stack": 1},
    "nasbench201": {},
    "macro-chain": {},
    "vit": {"subspace": "digits"},
}
_MANY, _FEW = 60, 12


class EncodingContract:
    """What every encoding must do on each space that it supports.

    encoding_name: the name under which the encoding is registered.
    spaces:        name -> options of the spaces that it is shown; by default cells, chains and
                    transformers.
    """

    encoding_name: ClassVar[str]
    spaces: ClassVar[Mapping[str, Mapping[str, Any]]] = _SPACES

    @pytest.fixture(params=range(4))
    def space(self, request: pytest.FixtureRequest) -> Space[Any]:
        """Each of the spaces in turn."""
        names = list(self.spaces)
        if request.param >= len(names):
            pytest.skip(f"the encoding is shown {len(names)} space(s) only")
        name = names[request.param]
        return get_space(name, **self.spaces[name])

    @pytest.fixture
    def graphs(self, space: Space[Any]) -> GraphBatch:
        """Random architectures; skips where the encoding says that it cannot see them."""
        found = space.graphs(space.sample(_MANY, np.random.default_rng(0)).unique())
        reason = self.encoding.supports(found)
        if reason is not None:
            pytest.skip(f"space {space.name}: {reason}")
        return found

    @property
    def encoding(self) -> Encoding:
        """The encoding under test."""
        return get_encoding(self.encoding_name)

    def test_it_sees_one_space_at_least(self) -> None:
        """An encoding that refuses everything is of no use."""
        spaces = [get_space(name, **options) for name, options in self.spaces.items()]
        batches = [space.graphs(space.sample(5, np.random.default_rng(0))) for space in spaces]
        assert any(self.encoding.supports(batch) is None for batch in batches)

    def test_what_it_cannot_see_it_refuses(self, space: Space[Any]) -> None:
        """Reading graphs that it does not support raises GraphError that says why."""
        graphs = space.graphs(space.sample(5, np.random.default_rng(0)))
        reason = self.encoding.supports(graphs)
        if reason is None:
            pytest.skip(f"the encoding supports space {space.name}")
        with pytest.raises(GraphError) as refused:
            self.encoding(graphs)
        assert reason in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_finite_row_for_each_architecture(self, graphs: GraphBatch) -> None:
        """Numbers or truths, the first axis is the batch; an empty batch is one too."""
        rows = self.encoding(graphs)
        assert rows.shape[0] == len(graphs)
        assert rows.dtype.kind in "fiub"
        assert np.isfinite(rows).all()
        empty = self.encoding(graphs[:0])
        assert empty.shape == (0, *rows.shape[1:])

    def test_a_row_depends_on_its_architecture_alone(self, graphs: GraphBatch) -> None:
        """Whatever else stands in the batch, and however often it is asked."""
        rows = self.encoding(graphs)
        for row in range(_FEW):
            alone = self.encoding(graphs[row : row + 1])
            np.testing.assert_allclose(alone[0], rows[row], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(self.encoding(graphs), rows)

    def test_other_architectures_have_other_rows(self, graphs: GraphBatch) -> None:
        """It reads all that tells these architectures apart, attributes among it.

        Two of them may look alike where many do not: what reaches no output is no difference to
        an encoding of signals.
        """
        flat = self.encoding(graphs).reshape(len(graphs), -1)
        assert len(np.unique(flat, axis=0)) >= 0.9 * len(graphs)

    def test_attributes_are_read(self, graphs: GraphBatch) -> None:
        """Other numbers at the same nodes give another row."""
        if graphs.attributes is None:
            pytest.skip(f"space {graphs.space} has no numeric choices")
        told = np.isfinite(graphs.attributes)
        for place, attribute in enumerate(graphs.attribute_schema):
            changed = graphs.attributes.copy()
            values = changed[:, :, place]
            middle = (attribute.low + attribute.high) / 2
            other = np.where(values < middle, attribute.high, attribute.low)
            changed[:, :, place] = np.where(told[:, :, place], other, values)
            after = self.encoding(replace(graphs, attributes=changed))
            assert (after != self.encoding(graphs)).any(), attribute.name

    def test_the_graphs_are_left_alone(self, graphs: GraphBatch) -> None:
        """They are encoded by others too."""
        before = {name: array.copy() for name, array in graphs._arrays().items()}
        self.encoding(graphs)
        for name, array in graphs._arrays().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
