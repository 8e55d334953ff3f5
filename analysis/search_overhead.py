"""What one proposal costs, trial by trial, up to 500 trials: the predictor's sampler beside TPE.

    python analysis/search_overhead.py --trials 500

Trials are told the table's answers, so all that is timed is ``Study.ask``: CPU seconds of this
process on one thread, refits included in the trial that makes them. Prints a Markdown table: median
and mean around several numbers of trials, and how the cost grows from one to the next.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import optuna
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nasplatform import plugins
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.search import SamplerContext

METHODS = ("gp-trees", "default", "tpe")
_AROUND = 50  # trials before a mark, over which is averaged


def proposals(evaluator: TableEvaluator, method: str, trials: int) -> NDArray[np.float64]:
    """Return (trials,) the CPU seconds of each proposal; a method is TPE or a predictor."""
    name = method if method == "tpe" else "predictor"
    kind = plugins.get("samplers", name)
    predictor = None if name == "tpe" else plugins.get("predictors", method)(seed=0)
    context = SamplerContext(evaluator.space, 0, evaluator.candidates, predictor)
    sampler = kind.from_options(kind.Options(), context)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = evaluator.space.distributions()
    spent = np.empty(trials)
    for number in range(trials):
        begun = time.process_time()
        trial = study.ask(distributions)
        spent[number] = time.process_time() - begun
        architecture = evaluator.space.from_params(trial.params)
        study.tell(trial, evaluator.evaluate(architecture, evaluator.fidelities[-1], 0).score)
        print(f"{method} {number + 1}/{trials}", end="   \r", flush=True)
    return spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", default="cells-digits")
    parser.add_argument("--metric", default="valid_accuracy")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = TableOptions(table=given.table, metric=given.metric)
    evaluator = TableEvaluator(options, TableEvaluator.implied_space(options))
    marks = [n for n in (125, 250, 500) if n <= given.trials] or [given.trials]
    titles = [f"{n - min(_AROUND, n)}-{n}: median / mean s" for n in marks]
    lines = [f"| method | {' | '.join(titles)} |", "|---|" + "---|" * len(marks)]
    with threadpool_limits(limits=1):
        for method in given.methods:
            spent = proposals(evaluator, method, given.trials)
            parts = [spent[max(0, n - _AROUND) : n] for n in marks]
            cells = [f"{np.median(part):.3f} / {part.mean():.3f}" for part in parts]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
