"""Messages stay short whatever they speak of."""

from nasplatform.errors import did_you_mean


def test_a_near_name_is_asked_for_and_else_a_few_are_listed() -> None:
    assert did_you_mean("ridg", ["ridge", "gp"]) == "; did you mean 'ridge'?"
    assert did_you_mean("x", ["gp", "assessor"]) == "; known are assessor, gp"
    assert did_you_mean("x", []) == ""
    many = did_you_mean("x", [f"column-{k:05d}" for k in range(20_000)])
    assert many.endswith("column-00039 and 19960 more")
