"""A network or two of each kind through every stage; ``make zoo`` sends all of them."""

import pytest
from zoo_members import MEMBERS
from zoo_stages import every_member, expected, through_stages, zoo_task

QUICK = (
    *("basic_blocks", "padded_shortcut", "rep_blocks", "concat_and_sum", "dense_list", "fire"),
    *("unet_transposed", "inverted_swish", "groups_and_shuffle", "squeeze_linear"),
    *("split_by_number", "shuffle_units", "layer_norms_by_hand", "frozen_norms", "layer_scale"),
    *("prelus", "clamps", "reflection", "view_of_320", "channels_last", "one_dimension"),
    *("three_dimensions", "tied_norms", "weight_normed", "standardised_with_gain", "blurred"),
    *("gru", "vision_transformer", "auxiliary_head", "dictionary", "ten_classes"),
    *("data_parallel", "fourier", "lazy_layers", "convnext_tiny"),
)


@pytest.fixture(scope="module")
def task():
    return zoo_task()


@pytest.mark.parametrize("name", QUICK)
def test_ends_in_a_result_or_one_clear_line(name, task, tmp_path):
    outcome = through_stages(MEMBERS[name], task, tmp_path / "run")
    assert expected(MEMBERS[name], outcome) == ""


def test_zoo_is_large_and_of_many_kinds():
    members = every_member()
    assert len(members) >= 120
    assert {MEMBERS[name].kind for name in QUICK} == {member.kind for member in members}
