import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nasplatform.training.recipe import Recipe, learning_rate


def test_learning_rate_values():
    recipe = Recipe(learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(step, 10, recipe) for step in range(10)]
    cosine = [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(1, 8)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, *cosine])


def test_learning_rate_without_warm_up_is_half_a_cosine():
    recipe = Recipe(learning_rate=0.4, warmup=0.0)
    rates = [learning_rate(step, 4, recipe) for step in range(4)]
    assert rates == pytest.approx([0.4, 0.4 * (0.5 + 0.25 * math.sqrt(2)), 0.2, 0.0585786])


@given(
    st.integers(1, 300),
    st.floats(0, 0.99),
    st.floats(1e-4, 10),
)
def test_learning_rate_rises_then_falls_and_stays_positive(steps, warmup, peak):
    recipe = Recipe(learning_rate=peak, warmup=warmup)
    rates = [learning_rate(step, steps, recipe) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0),
        ("warmup", 1),
        ("epoch", 3),
        ("optimizer", {"name": "lamb"}),
        ("optimizer", {"name": "adam", "momentum": 0.9}),
        ("optimizer", {"name": "sgd", "momentum": 0}),  # Nesterov looks along the momentum
        ("optimizer", {"name": "adamw", "betas": (0.9, 1.0)}),
        ("schedule", {"name": "step", "milestones": (0.7, 0.5)}),
        ("schedule", {"name": "step", "milestones": ()}),
        ("averaging", {"name": "ema", "decay": 1.0}),
        ("precision", "float64"),
        ("clip_norm", 0),
        ("label_smoothing", 1),
    ],
)
def test_impossible_recipes_are_refused(key, value):
    with pytest.raises(ValidationError):
        Recipe(**{key: value})


def test_learning_rate_that_is_not_given_is_that_of_the_optimizer():
    assert Recipe().learning_rate == 0.1
    assert Recipe(optimizer={"name": "adamw"}).learning_rate == 1e-3
    assert Recipe(optimizer={"name": "adam"}, learning_rate=0.3).learning_rate == 0.3
    copied = Recipe(optimizer={"name": "adamw"}).model_copy(update={"epochs": 3})
    assert copied == Recipe(optimizer={"name": "adamw"}, epochs=3)
    assert Recipe.model_validate_json(copied.model_dump_json()) == copied


def test_constant_and_step_schedules_after_the_warm_up():
    constant = Recipe(schedule={"name": "constant"}, learning_rate=1.0, warmup=0.2)
    assert [learning_rate(step, 10, constant) for step in range(10)] == [0.5] + [1.0] * 9
    step = Recipe(schedule={"name": "step", "milestones": (0.5, 0.75)}, warmup=0.0)
    rates = [learning_rate(number, 8, step) for number in range(8)]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
