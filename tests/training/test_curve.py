from nasplatform.training.curve import MOST_EPOCHS, joined, thinned


def test_a_long_curve_keeps_so_many_epochs_with_both_ends():
    whole = {"epoch": list(range(1, 1001)), "loss": [1 / n for n in range(1, 1001)]}
    kept = thinned(whole)
    assert len(kept["epoch"]) == len(kept["loss"]) == MOST_EPOCHS
    assert kept["epoch"][0] == 1
    assert kept["epoch"][-1] == 1000
    assert max(b - a for a, b in zip(kept["epoch"], kept["epoch"][1:], strict=False)) <= 6
    assert all(loss == 1 / n for n, loss in zip(kept["epoch"], kept["loss"], strict=True))


def test_a_short_curve_is_kept_whole_and_an_empty_one_empty():
    assert thinned({"epoch": [1, 2], "loss": [0.5, 0.25]}) == {"epoch": [1, 2], "loss": [0.5, 0.25]}
    assert thinned({"epoch": [], "loss": []}) == {"epoch": [], "loss": []}
    assert thinned({}) == {}


def test_epochs_of_joined_curves_count_on():
    parts = [{"epoch": [1, 2], "loss": [0.5, 0.4], "odd": [0, 0]}, {"epoch": [1], "loss": [0.3]}]
    assert joined(parts) == {"epoch": [1, 2, 3], "loss": [0.5, 0.4, 0.3], "round": [1, 1, 2]}
    assert joined([]) == {}
