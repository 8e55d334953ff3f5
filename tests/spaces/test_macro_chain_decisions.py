"""Decisions of chains: those that are open, by hand, in a study and in any order."""

import numpy as np
import pytest
from chains import TEXT, small
from hypothesis import given
from hypothesis import strategies as st
from optuna import create_study
from optuna.samplers import RandomSampler

from nasplatform.errors import ArchitectureError


@pytest.fixture(scope="module")
def space():
    return small()


def test_decisions_of_a_chain_by_hand(space):
    assert space.to_params(space.parse(TEXT)) == {
        "stage1_depth": 2,
        "stage1_width": 16,
        "stage1_stride": 1,
        "stage1_block1_kernel": 3,
        "stage1_block1_expansion": 3,
        "stage1_block2_kernel": 5,
        "stage1_block2_expansion": 6,
        "stage2_depth": 1,
        "stage2_width": 24,
        "stage2_stride": 2,
        "stage2_block1_kernel": 3,
        "stage2_block1_expansion": 6,
    }


def test_what_has_one_choice_is_no_decision():
    one = small(widths=((8,), (16, 24)), strides=((1,), (2,)), kernels=(3,), max_depth=2)
    names = set(one.distributions())
    assert names == {
        "stage1_depth",
        "stage2_depth",
        "stage2_width",
        *(f"stage{s}_block{b}_expansion" for s in (1, 2) for b in (1, 2)),
    }
    chain = one.parse("w8s1:k3e3/w24s2:k3e1-k3e6")
    assert one.from_params(one.to_params(chain)) == chain


def test_missing_and_impossible_decisions_are_named(space):
    params = space.to_params(space.parse(TEXT))
    with pytest.raises(ArchitectureError, match="decision 'stage1_block3_kernel' is missing"):
        space.from_params({**params, "stage1_depth": 3})
    with pytest.raises(ArchitectureError, match="'stage1_width' is 12, expected 8, 16"):
        space.from_params({**params, "stage1_width": 12})
    assert space.format(space.from_params({**params, "stage1_depth": 1})) == (
        "w16s1:k3e3/w24s2:k3e6"
    )


def test_a_study_of_ones_own_asks_for_what_is_active_only(space):
    study = create_study(sampler=RandomSampler(seed=0))
    study.optimize(lambda trial: len(space.suggest(trial).stages[0].blocks), n_trials=30)
    for trial in study.trials:
        assert space.active(trial.params) == trial.params.keys()
        assert space.to_params(space.from_params(trial.params)) == trial.params


def test_without_a_depth_the_first_block_alone_is_active(space):
    undecided = space.active({})
    assert {name for name in undecided if "_block" in name} == {
        f"stage{stage}_block1_{what}" for stage in (1, 2) for what in ("kernel", "expansion")
    }
    assert space.active({"stage1_depth": 3}) - undecided == {
        f"stage1_block{block}_{what}" for block in (2, 3) for what in ("kernel", "expansion")
    }


@given(st.integers(0, 2**32))
def test_active_grows_with_what_is_decided(seed):
    space = small()
    (chain,) = space.sample(1, np.random.default_rng(seed))
    params = space.to_params(chain)
    chosen = {}
    for name, value in params.items():
        assert name in space.active(chosen)
        chosen[name] = value
    assert space.active(chosen) == params.keys()
