"""The contract of a space as tests; a plug-in author inherits them in a test module.

class TestMySpace(SpaceContract):
    space_name = "my-space"
    options = {"classes": 4, "input_shape": (1, 8, 8)}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray
from optuna import create_study, distributions
from optuna.samplers import RandomSampler
from scipy.stats import chisquare

from nasplatform.errors import ArchitectureError, GraphError
from nasplatform.models.costs import count_parameters
from nasplatform.spaces import GraphBatch, Population, Space, get_space

_MANY, _FEW, _BUILT = 200, 20, 5
_PROPERTY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
_ARRAYS = {
    "adjacency": np.uint8,
    "ops": np.int8,
    "channels": np.int32,
    "flops": np.int64,
    "params": np.int64,
    "total_flops": np.int64,
    "total_params": np.int64,
    "resolution": np.int32,
}


def arrays_of(graphs: GraphBatch) -> dict[str, NDArray[Any]]:
    """Return the arrays of a batch by name."""
    found = {name: getattr(graphs, name) for name in (*_ARRAYS, "attributes")}
    return {name: array for name, array in found.items() if array is not None}


def values_of(distribution: distributions.BaseDistribution) -> SearchStrategy[Any]:
    """Return a hypothesis strategy of every value that an Optuna distribution can give."""
    match distribution:
        case distributions.CategoricalDistribution():
            return st.sampled_from(distribution.choices)
        case distributions.IntDistribution():
            steps = (distribution.high - distribution.low) // distribution.step
            low, step = distribution.low, distribution.step
            return st.integers(0, steps).map(lambda k: low + k * step)
        case distributions.FloatDistribution():
            return st.floats(distribution.low, distribution.high)
    raise TypeError(f"unknown distribution {distribution!r}")


class SpaceContract:
    """What every space must do.

    space_name: the name under which the space is registered.
    options:    options of a small skeleton, so that networks are built in milliseconds; they must
                have the fields ``input_shape`` and ``classes``.
    symmetric:  whether an edit can always be undone by one edit; False for a space that prunes
                what an edit disconnects.
    """

    space_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    symmetric: ClassVar[bool] = True

    @cached_property
    def space(self) -> Space[Any]:
        """The space under test."""
        return get_space(self.space_name, **self.options)

    def some(self, n: int = _MANY, seed: int = 0) -> Population[Any]:
        """Draw architectures that depend on the seed alone."""
        return self.space.sample(n, np.random.Generator(np.random.PCG64(seed)))

    def test_text_round_trip(self) -> None:
        """What ``format`` writes ``parse`` reads, to the same labelling."""
        for architecture in self.some():
            text = self.space.format(architecture)
            assert self.space.parse(text) == architecture
            assert self.space.format(self.space.parse(text)) == text

    def test_parse_many_agrees_with_parse(self) -> None:
        """Good texts become a population in order, bad ones errors by index."""
        every = self.some(_FEW)
        texts = [self.space.format(architecture) for architecture in every]
        population, errors = self.space.parse_many([*texts[:3], "no architecture", *texts[3:]])
        assert list(errors) == [3]
        assert isinstance(errors[3], ArchitectureError)
        np.testing.assert_array_equal(population.keys, every.keys)

    @given(data=st.data())
    @_PROPERTY
    def test_any_text_is_an_architecture_or_an_error(self, data: st.DataObject) -> None:
        """A text is read, or an ArchitectureError of one line says why not."""
        text = data.draw(st.text(max_size=60) | _damaged(self.space.format(self.some(1)[0])))
        try:
            architecture = self.space.parse(text)
        except ArchitectureError as error:
            message = str(error)
        else:
            message = "read"
            assert self.space.parse(self.space.format(architecture)) == architecture
        assert message
        assert "\n" not in message

    def test_identities_agree(self) -> None:
        """Equality, hash text, hash value and key say the same of every pair."""
        few = self.some(_FEW)
        mixed = [*few, *self.space.neighbours(few)[: 3 * _FEW], *self.some(_FEW, seed=1), *few]
        keys, hashes = self.space.population(mixed).keys, self.space.population(mixed).hashes
        for i, one in enumerate(mixed):
            assert one.hash == hashes[i]
            for j, other in enumerate(mixed):
                same = one == other
                assert same == (keys[i] == keys[j]) == (hashes[i] == hashes[j])
                assert not same or hash(one) == hash(other)
        assert mixed[0] != "another thing"

    def test_population_is_a_sequence_of_codes(self) -> None:
        """Integers give architectures, everything else a population; codes are all there is."""
        every = self.some()
        assert every.codes.dtype == np.uint64
        assert self.space.population(every) is every
        odd = np.arange(len(every)) % 2 == 1
        assert every.codes.shape == (len(every), every.words)
        for part in (every[1::2], every[odd], every[np.flatnonzero(odd)]):
            np.testing.assert_array_equal(part.codes, every.codes[1::2])
        assert every[-1] == list(every)[-1]
        packed = self.space.population(list(every))
        np.testing.assert_array_equal(packed.codes, every.codes)
        np.testing.assert_array_equal(self.space.from_codes(every.codes).keys, every.keys)
        with pytest.raises(ArchitectureError, match="codes have shape"):
            self.space.from_codes(np.zeros((2, every.words + 1), np.uint64))

    def test_labels_tell_codes_apart(self) -> None:
        """``labels`` sorts, and is equal where all words are."""
        every = self.some()
        twice = np.concatenate([every.labels, every.labels])
        assert len(np.unique(twice)) == len(np.unique(every.codes, axis=0))

    def test_graphs_in_bulk_equal_one_by_one(self) -> None:
        """No architecture sees the others of its batch; an empty batch is one too."""
        few = self.some(_FEW)
        bulk = arrays_of(self.space.graphs(few))
        for index, architecture in enumerate(few):
            for name, array in arrays_of(self.space.graphs([architecture])).items():
                np.testing.assert_array_equal(array[0], bulk[name][index], err_msg=name)
        assert len(self.space.graphs(few[:0])) == 0

    def test_graphs_are_what_a_batch_promises(self) -> None:
        """Shapes, types, topological order, padding before the output, totals above sums."""
        graphs = self.space.graphs(self.some())
        b, n, c = len(graphs), graphs.n_nodes, graphs.n_cells
        shapes = {"adjacency": (b, n, n), "ops": (b, n), "total_flops": (b,), "total_params": (b,)}
        for name, kind in _ARRAYS.items():
            assert getattr(graphs, name).dtype == kind, name
            assert getattr(graphs, name).shape == shapes.get(name, (b, c, n)), name
        assert graphs.space == self.space_name
        assert list(graphs.stages) == sorted(graphs.stages)
        assert not np.tril(graphs.adjacency).any()
        assert graphs.adjacency.max() <= 1
        assert graphs.operation_mask(kind="input")[:, 0].all()
        assert graphs.operation_mask(kind="output")[:, -1].all()
        padding = graphs.ops < 0
        assert (np.diff(padding[:, :-1].astype(np.int8), axis=1) >= 0).all()
        assert not (graphs.adjacency * (padding[:, :, None] | padding[:, None, :])).any()
        for name in ("channels", "flops", "params"):
            array = getattr(graphs, name)
            assert (array >= 0).all(), name
            assert not (array * padding[:, None]).any(), name
        assert (graphs.total_flops >= graphs.flops.sum((1, 2))).all()
        assert (graphs.total_params >= graphs.params.sum((1, 2))).all()

    def test_graphs_lead_back(self) -> None:
        """``from_graphs`` undoes ``graphs``, where a space knows a way back."""
        if type(self.space).from_graphs is Space.from_graphs:
            pytest.skip(f"space {self.space_name} knows no way back from graphs")
        for some in (self.some(), self.some(0), self.space.neighbours(self.some(3))):
            back = self.space.from_graphs(self.space.graphs(some))
            np.testing.assert_array_equal(back.codes, some.codes)

    def test_codes_of_strangers_are_told_apart(self) -> None:
        """``contains_codes`` takes architectures, and nothing from which another one is made."""
        codes = self.some(_FEW).codes
        assert self.space.contains_codes(codes).all()
        noise = np.random.default_rng(0).integers(0, 1 << 63, (100, codes.shape[1]))
        shifts = np.arange(100, dtype=np.uint64)[:, None] % 48
        last = np.arange(codes.shape[1]) == codes.shape[1] - 1  # the next in order, of any width
        one = last.astype(np.uint64)
        strangers = np.concatenate([noise.astype(np.uint64) >> shifts, codes ^ one, codes + one])
        for code, held in zip(
            strangers, self.space.contains_codes(strangers).tolist(), strict=True
        ):
            assert held == Space._contains_code(self.space, code), code

    def test_other_architectures_have_other_arrays(self) -> None:
        """No two architectures, however near, look alike to whoever reads their graphs."""
        few = self.some(3)
        mixed = self.space.population([*self.some(), *few, *self.space.neighbours(few)]).unique()
        arrays = arrays_of(self.space.graphs(mixed))
        rows = [a.reshape(len(mixed), -1).astype(np.float64) for a in arrays.values()]
        looks = np.nan_to_num(np.concatenate(rows, axis=1), nan=-1.0)
        assert len(np.unique(looks, axis=0)) == len(mixed)

    def test_attributes_keep_to_their_schema(self) -> None:
        """Each attribute varies within its range, and is NaN where a node has none."""
        graphs = self.space.graphs(self.some())
        if graphs.attributes is None:
            pytest.skip(f"space {self.space_name} has no numeric choices")
        names = [attribute.name for attribute in graphs.attribute_schema]
        assert len(set(names)) == len(names)
        assert np.isnan(graphs.attributes[graphs.ops < 0]).all()
        for place, attribute in enumerate(graphs.attribute_schema):
            values = graphs.attributes[:, :, place]
            assert np.isfinite(values).any(), attribute.name
            assert attribute.low <= np.nanmin(values) <= np.nanmax(values) <= attribute.high
        broken = graphs.attributes.copy()
        broken[0, np.isfinite(broken[0]).any(1).argmax()] = np.inf
        with pytest.raises(GraphError, match="attribute"):
            replace(graphs, attributes=broken)

    def test_maps_do_not_grow(self) -> None:
        """The resolution is positive and no larger behind an edge than before it."""
        graphs = self.space.graphs(self.some(_FEW))
        padding = (graphs.ops < 0)[:, None]
        assert (graphs.resolution[~np.broadcast_to(padding, graphs.resolution.shape)] > 0).all()
        before, after = graphs.resolution[:, :, :, None], graphs.resolution[:, :, None, :]
        assert ((before >= after) | (graphs.adjacency[:, None] == 0)).all()

    def test_neighbours_are_others_and_each_once(self) -> None:
        """The neighbours of one and of many: no duplicate, none of those given, all found."""
        few = self.some(_FEW)
        around = [self.space.neighbours([architecture]) for architecture in few]
        for architecture, population in zip(few, around, strict=True):
            assert len(population)
            assert len(np.unique(population.keys)) == len(population)
            assert architecture not in list(population)
        everybody = np.unique(np.concatenate([population.keys for population in around]))
        together = self.space.neighbours(few).keys
        np.testing.assert_array_equal(np.sort(together), np.setdiff1d(everybody, few.keys))

    def test_an_edit_can_be_undone(self) -> None:
        """An architecture is a neighbour of its neighbours, where edits are ``symmetric``."""
        for architecture in self.some(3):
            key = self.space.population([architecture]).keys[0]
            for other in self.space.neighbours([architecture])[:_FEW]:
                back = key in self.space.neighbours([other]).keys
                assert back or not self.symmetric

    def test_mutation_is_a_neighbour(self) -> None:
        """``mutate`` draws from the neighbours and depends on its generator alone."""
        for architecture in self.some(_FEW):
            first, second = (
                self.space.mutate(architecture, np.random.Generator(np.random.PCG64(1)))
                for _ in range(2)
            )
            assert first == second
            assert first in list(self.space.neighbours([architecture]))

    def test_sampling_follows_the_seed(self) -> None:
        """Equal seeds draw equal architectures, others do not; n may be 0."""
        np.testing.assert_array_equal(self.some().codes, self.some().codes)
        assert (self.some(seed=1).codes != self.some().codes).any()
        assert len(self.some(0)) == 0

    def test_sampling_is_uniform(self) -> None:
        """Chi-square over 16 parts of the space, where it can be enumerated."""
        assert self.space.prior
        every = self._every()
        if not self.space.prior.startswith("uniform"):
            pytest.skip(f"space {self.space_name} samples {self.space.prior}")
        part = np.arange(len(every)) * 16 // len(every)
        place = np.searchsorted(np.sort(every.keys), self.some(8000).keys)
        found = np.bincount(part[place], minlength=16)
        expected = np.bincount(part, minlength=16) / len(every) * found.sum()
        assert chisquare(found, expected).pvalue > 1e-6

    def _every(self) -> Population[Any]:
        every = self.space.enumerate()
        if every is None:
            pytest.skip(f"space {self.space_name} is too large to be enumerated")
        return every

    def test_enumeration_has_no_duplicates(self) -> None:
        """Every architecture once, and all that is sampled is among them."""
        every = self._every()
        keys = np.sort(every.keys)
        assert (keys[1:] != keys[:-1]).all()
        assert np.isin(self.some().keys, keys).all()

    def test_parameters_round_trip(self) -> None:
        """Every architecture can be said in the parameters of ``distributions``."""
        distributions = self.space.distributions()
        for architecture in self.some(_FEW):
            params = self.space.to_params(architecture)
            assert set(params) == self.space.active(params) <= set(distributions)
            for name, value in params.items():
                internal = distributions[name].to_internal_repr(value)
                assert distributions[name]._contains(internal), name
            assert self.space.from_params(params) == architecture

    @given(data=st.data())
    @_PROPERTY
    def test_any_parameters_give_an_architecture(self, data: st.DataObject) -> None:
        """Whatever a sampler draws is read, repaired where it must be, always in the same way."""
        strategies = {name: values_of(d) for name, d in self.space.distributions().items()}
        params = data.draw(st.fixed_dictionaries(strategies))
        architecture = self.space.from_params(params)
        assert self.space.from_params(params) == architecture
        assert self.space.parse(self.space.format(architecture)) == architecture
        active = {n: v for n, v in params.items() if n in self.space.active(params)}
        assert self.space.from_params(active) == architecture
        assert self.space.from_params(self.space.to_params(architecture)) == architecture

    def test_a_trial_decides_what_is_active(self) -> None:
        """``suggest`` asks a trial of anyone's study for the active decisions and no others."""
        study = create_study(sampler=RandomSampler(seed=0))
        for _ in range(_FEW):
            trial = study.ask()
            architecture = self.space.suggest(trial)
            assert self.space.active(trial.params) == set(trial.params)
            assert self.space.from_params(trial.params) == architecture

    def test_networks_have_the_counted_parameters(self) -> None:
        """``total_params`` are those of the network, with or without what never reaches the output.

        A space counts either what its benchmark publishes, dead branches among it, or what is
        used; a module may also keep placeholders.
        """
        few = self.some(_BUILT)
        counted = self.space.graphs(few).total_params
        shape = self.space.describe()["input_shape"]
        for architecture, expected in zip(few, counted.tolist(), strict=True):
            module = self.space.build(architecture)
            used = count_parameters(module, shape)
            assert expected in (used, sum(p.numel() for p in module.parameters()))

    def test_networks_run_and_learn(self) -> None:
        """Images become finite logits, and a loss has a gradient."""
        options = self.space.describe()
        shape, classes = options["input_shape"], options["classes"]
        for architecture in self.some(_BUILT):
            module = self.space.build(architecture).train()
            logits = module(torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)))
            assert logits.shape == (4, classes)
            assert torch.isfinite(logits).all()
            logits.square().sum().backward()
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            assert any(gradient.abs().sum() > 0 for gradient in gradients)

    def test_networks_answer_each_image_alone(self) -> None:
        """In evaluation an image gets the same logits in a batch of one and of two."""
        shape = self.space.describe()["input_shape"]
        images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        for architecture in self.some(_BUILT):
            module = self.space.build(architecture).eval()
            with torch.inference_mode():
                torch.testing.assert_close(module(images[:1])[0], module(images)[0])

    def test_description_makes_the_space_again(self) -> None:
        """``describe`` is plain JSON from which an equal space is made."""
        described = json.loads(json.dumps(self.space.describe()))
        assert described["name"] == self.space_name
        again = get_space(described.pop("name"), **described)
        assert again.describe() == self.space.describe()
        few = self.some(_FEW)
        texts = [self.space.format(architecture) for architecture in few]
        copied = arrays_of(again.graphs([again.parse(text) for text in texts]))
        for name, array in arrays_of(self.space.graphs(few)).items():
            np.testing.assert_array_equal(copied[name], array, err_msg=name)


@st.composite
def _damaged(draw: st.DrawFn, text: str) -> str:
    """Draw a text with one piece cut out and another put in its place."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    return text[:start] + draw(st.text(max_size=3)) + text[end:]
