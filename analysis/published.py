"""What others published about searches: accuracy of the best network against networks trained.

Values of a third party's survey (github.com/96linan/Performance-Predictor), in percent of the test
images of NAS-Bench-201, whose best cells have 94.37 (CIFAR-10) and 73.51 (CIFAR-100).
"""

from __future__ import annotations

SOURCE = "published, test accuracy (survey 96linan/Performance-Predictor)"

# name, networks trained, CIFAR-10, CIFAR-100
_NASBENCH201 = (
    ("CAP", 50, 94.34, 73.41),
    ("DCLP+RS", 50, 94.34, 73.46),
    ("WeakPNAG", 64, 94.37, 73.51),
    ("CARL", 80, 94.37, 73.51),
    ("MT-MSAENAS", 100, 94.36, 73.46),
    ("SAENAS-NE", 100, 94.34, 73.46),
    ("NPENAS-NP", 100, 94.31, 73.46),
    ("RANK-NOSH", 100, 94.26, 73.51),
    ("RATs-NAS", 150, 94.36, 73.50),
    ("HEP-ENAS", 200, 94.37, 73.51),
    ("SET-NAS", 200, 94.37, 73.48),
)


def judged_by(table: str, metric: str) -> str | None:
    """Return the metric in which others published searches like those for ``metric``, if any."""
    return f"{metric.split('_')[0]}_test_accuracy" if regrets_of_others(table, metric) else None


def regrets_of_others(table: str, metric: str) -> list[tuple[str, int, float]]:
    """Return (name, networks trained, regret) of what can be compared with a table's searches.

    Regrets are distances to the best test accuracy, as fractions of 1.
    """
    if table != "nasbench201" or not metric.startswith(("c10_", "c100_")):
        return []
    second = metric.startswith("c100_")
    best = 73.51 if second else 94.37
    return [
        (name, n, (best - (hundred if second else ten)) / 100)
        for name, n, ten, hundred in _NASBENCH201
    ]
