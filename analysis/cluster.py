"""What it costs to search on many machines: coordination, Ray, and a simulated cluster.

    python analysis/cluster.py coordination --storage postgresql+psycopg://...   # an empty database
    python analysis/cluster.py ray
    python analysis/cluster.py nodes
    python analysis/cluster.py simulated --table /path/to/nb201.parquet

Each part prints one JSON document.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import optuna

from nasplatform import plugins
from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.executors import EvaluationRequest, EvaluatorSpec, Executor, ExecutorContext
from nasplatform.executors.inline import InlineOptions
from nasplatform.executors.store import open_store
from nasplatform.search import SamplerContext, TrialRecord, open_study, search
from nasplatform.spaces import get_space

Row = dict[str, Any]


def main() -> None:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("coordination")
    one.add_argument("--storage", required=True)
    one.add_argument("--workers", type=int, default=8)
    one.add_argument("--budgets", type=int, nargs="+", default=[100, 500, 1000, 1500, 2000])
    parts.add_parser("ray").add_argument("--budget", type=int, default=200)
    parts.add_parser("nodes").add_argument("--budget", type=int, default=8)
    one = parts.add_parser("simulated")
    one.add_argument("--table", required=True)
    one.add_argument("--workers", type=int, nargs="+", default=[1, 256])
    one.add_argument("--budget", type=int, default=1024)
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--sampler", nargs="+", default=["random", "regularized-evolution"])
    options = vars(parser.parse_args())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    part = options.pop("part")
    found: dict[str, Any] = {
        "coordination": coordination,
        "ray": ray,
        "nodes": nodes,
        "simulated": simulated,
    }
    print(json.dumps(found[part](**options), indent=1))


def table_evaluator(table: str) -> TableEvaluator:
    """Return the evaluator of a table."""
    options = TableOptions(table=table)
    return TableEvaluator(options, TableEvaluator.implied_space(options))


def make_sampler(name: str, evaluator: Evaluator[Any], seed: int) -> Any:
    """Make a sampler with its own defaults, and the default predictor where it wants one."""
    kind = plugins.get("samplers", name)
    predictor = plugins.get("predictors", "default")(seed=seed)
    context = SamplerContext(evaluator.space, seed, evaluator.candidates, predictor)
    return kind.from_options(kind.Options(), context)


def coordination(storage: str, workers: int, budgets: list[int]) -> list[Row]:
    """Let workers share table evaluations, up to one budget after the other.

    The evaluations cost next to nothing; what is left of the workers' time is coordination.
    """
    rows = []
    for budget in budgets:
        rows.append(_coordination(storage, workers, budget))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _coordination(storage: str, workers: int, budget: int) -> Row:
    context = multiprocessing.get_context("fork")
    evaluator = table_evaluator("cells-digits")
    with open_study(storage, "coordination"), open_store(storage):
        pass
    queue, barrier = context.Queue(), context.Barrier(workers)
    processes = [
        context.Process(target=_work, args=(storage, evaluator, budget, barrier, queue))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    with open_study(storage, "coordination") as study, open_store(storage) as store:
        trials = study.get_trials(deepcopy=False)
        records = [record for t in trials if (record := TrialRecord.of(t)) is not None]
        hashes = [record.hash for record in records if record.repeats is None]
        made = sum(one["made"] for one in found)
        return {
            "workers": workers,
            "budget": budget,
            "records": len(store),
            "duplicates": len(hashes) - len(set(hashes)),
            "proposed_twice": len(records) - len(hashes),
            "left_running": sum(not t.state.is_finished() for t in trials),
            "measured": made,
            "trials_given_up": len(trials) - len(records),
            "load_average": round(os.getloadavg()[0], 1),
            "wall_ms_per_evaluation": 1000 * max(one["wall"] for one in found) / made,
            "wall_ms_per_evaluation_of_a_worker": 1000 * sum(o["wall"] for o in found) / made,
            "cpu_ms_per_evaluation_of_a_worker": 1000 * sum(one["cpu"] for one in found) / made,
        }


def _work(storage: str, evaluator: Any, budget: int, barrier: Any, queue: Any) -> None:
    sampler = make_sampler("random", evaluator, 0)
    with open_study(storage, "coordination", sampler) as study, open_store(storage) as store:
        barrier.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        made = search(study, evaluator, store, budget, exclusive=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    queue.put({"made": made, "wall": wall, "cpu": cpu})


def ray(budget: int) -> Row:
    """Send evaluations that cost nothing through Ray, and make them inline."""
    evaluator = table_evaluator("cells-digits")
    spec = EvaluatorSpec.of(evaluator)
    assert evaluator.candidates is not None  # a table has them
    texts = [evaluator.space.format(one) for one in evaluator.candidates[: 2 * budget]]
    requests = [
        EvaluationRequest(spec=spec, architecture=t, fidelity=evaluator.target_fidelity, seed=0)
        for t in texts
    ]
    found: Row = {}
    for name, options in (("inline", {}), ("ray", {"address": "local", "max_in_flight": 8})):
        kind = plugins.get("executors", name)
        with kind(kind.Options(**options)) as executor:
            for future in [executor.submit(one) for one in requests[:16]]:
                future.result()  # the workers have started and have read the table
            begun = time.perf_counter()
            futures = [executor.submit(one) for one in requests[16 : 16 + budget]]
            assert all(future.result().error is None for future in futures)
            found[f"{name}_ms_per_evaluation"] = 1000 * (time.perf_counter() - begun) / budget
            begun = time.perf_counter()
            for one in requests[16:48]:
                executor.submit(one).result()
            found[f"{name}_ms_one_at_a_time"] = 1000 * (time.perf_counter() - begun) / 32
    return found


def nodes(budget: int) -> Row:
    """Train on a cluster of one node with one CPU, then of two; the rest of the machine is idle."""
    import ray as ray_package
    from ray.cluster_utils import Cluster

    cell: Row = {"name": "nasbench101", "stem_channels": 16, "modules_per_stack": 1}
    recipe = {"epochs": 6, "batch_size": 128}
    spec = EvaluatorSpec(
        space=cell,
        evaluator={"name": "trained", "recipe": recipe},
        task={"dataset": "digits"},
    )
    space = get_space(**cell)
    texts = [space.format(one) for one in space.sample(budget, np.random.default_rng(0))]
    requests = [EvaluationRequest(spec=spec, architecture=t, fidelity=6, seed=0) for t in texts]
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    ray_package.init(cluster.address, log_to_driver=False)
    kind = plugins.get("executors", "ray")
    options = kind.Options(max_in_flight=2, resources={"num_cpus": 1})
    seconds, scores = [], []
    for _ in range(2):
        cluster.add_node(num_cpus=1)
        with kind(options) as executor:
            for future in [executor.submit(requests[0]) for _ in range(4)]:
                future.result()  # every worker has started
            begun = time.perf_counter()
            futures = [executor.submit(one) for one in requests]
            scores.append([future.result().score for future in futures])
            seconds.append(time.perf_counter() - begun)
    ray_package.shutdown()
    cluster.shutdown()
    return {
        "trainings": budget,
        "seconds_one_node": seconds[0],
        "seconds_two_nodes": seconds[1],
        "throughput_ratio": seconds[0] / seconds[1],
        "same_scores": scores[0] == scores[1],
    }


class SimulatedCluster(Executor):
    """So many workers on a clock that is simulated; what drives them is real and takes its time.

    A measurement takes the training time of the table. The driver (Optuna, sampler, store, loop)
    serves one worker at a time, for as long as it really computes; a worker that has finished is
    idle until the driver has a new measurement for it.
    """

    name: ClassVar[str] = "simulated"
    Options: ClassVar[type[InlineOptions]] = InlineOptions

    def __init__(self, evaluator: Evaluator[Any], workers: int, budget: int) -> None:
        """Take what measures, how many workers there are, and how much is measured in all."""
        super().__init__(InlineOptions(), ExecutorContext())
        self.capacity = workers
        self.idle, self.trained = 0.0, 0.0
        self.ends: list[tuple[float, float]] = []  # (clock, score) of what has ended
        self._evaluator = evaluator
        self._left = budget
        self._running: list[tuple[float, int, Future[Evaluation], Evaluation]] = []
        self._free = 0.0  # when the driver is free
        self._freed = [0.0] * workers  # when workers became free that wait for the driver
        self._since = _cpu()

    def submit(
        self, request: EvaluationRequest, report: Report | None = None
    ) -> Future[Evaluation]:
        """Begin a measurement on the worker that waits longest; end the next where all work."""
        now = _cpu()
        begun = heapq.heappop(self._freed)
        self._free = max(self._free, begun) + now - self._since
        self.idle += self._free - begun
        architecture = self._evaluator.space.parse(request.architecture)
        found = self._evaluator.evaluate(architecture, request.fidelity, request.seed)
        self.trained += found.seconds
        future: Future[Evaluation] = Future()
        future.set_running_or_notify_cancel()
        self._left -= 1
        heapq.heappush(self._running, (self._free + found.seconds, self._left, future, found))
        while self._running and (len(self._running) == self.capacity or not self._left):
            self._end_next()
        self._since = _cpu()
        return future

    def close(self) -> None:
        """Nothing is held."""

    def _end_next(self) -> None:
        clock, _, future, found = heapq.heappop(self._running)
        heapq.heappush(self._freed, clock)
        self.ends.append((clock, found.score))
        future.set_result(found)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def simulated(
    table: str, workers: list[int], budget: int, seeds: int, sampler: list[str]
) -> list[Row]:
    """Search with recorded training times: how long workers wait, and what asynchrony costs."""
    evaluator = table_evaluator(table)
    best = float(evaluator.known_scores().max())
    rows = []
    for name in sampler:
        for count in workers:
            runs = [_simulate(evaluator, name, count, budget, seed) for seed in range(seeds)]
            ranks = np.array([[best - score for score in run["best"]] for run in runs])
            rows.append(
                {
                    "sampler": name,
                    "workers": count,
                    "budget": budget,
                    "seeds": seeds,
                    "idle_percent": 100 * float(np.mean([run["idle"] for run in runs])),
                    "driver_ms": 1000 * float(np.mean([run["driver"] for run in runs])),
                    "days": float(np.mean([run["days"] for run in runs])),
                    "regret_at_quarters": [
                        {"mean": float(m), "se": float(s)}
                        for m, s in zip(
                            ranks.mean(0),
                            ranks.std(0, ddof=1) / seeds**0.5 if seeds > 1 else ranks[0] * 0,
                            strict=True,
                        )
                    ],
                }
            )
    return rows


def _simulate(evaluator: Evaluator[Any], name: str, workers: int, budget: int, seed: int) -> Row:
    cluster = SimulatedCluster(evaluator, workers, budget)
    made = make_sampler(name, evaluator, seed)
    with TemporaryDirectory() as home:
        folder = Path(home)
        with open_study(folder / "s.db", "s", made) as study, open_store(folder / "m.db") as store:
            begun = _cpu()
            search(study, evaluator, store, budget, seed, executor=cluster)
            driver = _cpu() - begun
    ends = sorted(cluster.ends)
    scores = np.maximum.accumulate([score for _, score in ends])
    quarters = [budget // 4 - 1, budget // 2 - 1, 3 * budget // 4 - 1, budget - 1]
    return {
        "idle": cluster.idle / (cluster.idle + cluster.trained),
        "driver": driver / budget,
        "days": ends[-1][0] / 86400,
        "best": [float(scores[place]) for place in quarters],
    }


if __name__ == "__main__":
    main()
