# %% [markdown]
# # A tour for analysts
# Every result is a pandas frame, and every picture takes one. Cells between `# %%` run one by one
# in an editor, or all of them by `python examples/figures.py runs/demo pictures`.

# %%
import sys
from pathlib import Path

import nasplatform
from nasplatform import visualization
from nasplatform.benchmarks.registry import load_table
from nasplatform.runs.walk import stage_walk

given = [Path(argument) for argument in sys.argv[1:]]
runs, pictures = [*given, *(Path("runs/demo"), Path("pictures"))[len(given) :]]
pictures.mkdir(parents=True, exist_ok=True)

# %% One row per run: what was searched, in which versions, and how far it came.
listed = nasplatform.list_runs(runs)
print(listed[["run", "table", "metric", "budget", "state", "score"]])

# %% One row per evaluation; several runs below one folder come in one frame.
evaluations = nasplatform.read_runs(runs)
print(evaluations.groupby("run")["score"].describe())

# %% Frames join on `run`: the best of each, with the seconds that its run took.
whole = nasplatform.read_timings(runs).groupby("run")["seconds"].sum().rename("run_seconds")
best = evaluations.loc[evaluations.groupby("run")["score"].idxmax()]
print(best.join(whole, on="run")[["run", "architecture", "score", "run_seconds"]])

# %% What was found after how many networks, and what random search would have found.
table = load_table(listed["table"].iloc[0])
axes = visualization.search_curves(evaluations, table=table.scores())
visualization.save(axes, pictures / "search.svg")

# %% The same as a distance to the best of the table, which is known here.
axes = visualization.regret(evaluations, table.scores().max(), table=table.scores())
visualization.save(axes, pictures / "regret.svg")

# %% What the predictor said before each measurement, and whether its intervals hold.
said = nasplatform.read_predictions(runs)
print(said["residual"].describe(), said["within90"].mean())
visualization.save(visualization.predictions(said), pictures / "predictions.svg")
visualization.save(visualization.calibration(said), pictures / "calibration.svg")

# %% Score against parameters; who measured when.
visualization.save(visualization.front(evaluations, "params"), pictures / "front.svg")
visualization.save(visualization.workers(evaluations), pictures / "workers.svg")

# %% What the labels are like; what the winner is.
visualization.save(visualization.benchmark_card(table), pictures / "table.svg")
winner = table.space.graphs([table.space.parse(best["architecture"].iloc[0])])
(pictures / "winner.svg").write_text(visualization.architecture_drawing(winner), encoding="utf-8")

# %% What the stages did, and how they learnt.
stages, epochs = nasplatform.read_stages(runs), nasplatform.read_epochs(runs)
if len(stages):
    first = stages[stages["run"] == stages["run"].iloc[0]]
    visualization.save(visualization.stage_walk(stage_walk(first)), pictures / "stages.svg")
    visualization.save(visualization.learning_curves(epochs), pictures / "learning.svg")

# %% Take them elsewhere: to CSV, Parquet, a database.
evaluations.to_csv(pictures / "evaluations.csv", index=False)
