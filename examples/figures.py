# %% [markdown]
# # A tour for analysts
# Every result is a pandas frame, and every picture takes one. Cells between `# %%` run one by one
# in an editor, or all of them by `python examples/figures.py runs/demo`.

# %%
import sys
from pathlib import Path

import nasplatform
from nasplatform import visualization
from nasplatform.runs.frames import stage_walk

runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
pictures = Path("pictures")

# %% One row per evaluation; several runs below one folder come in one frame.
evaluations = nasplatform.read_runs(runs)
print(evaluations.groupby("run")["score"].describe())

# %% What was found after how many networks.
visualization.save(visualization.search_curves(evaluations), pictures / "search.svg")

# %% What the predictor said before each measurement, and whether its intervals hold.
visualization.save(visualization.predictions(evaluations), pictures / "predictions.svg")

# %% Score against parameters.
visualization.save(visualization.front(evaluations, "params"), pictures / "front.svg")

# %% What the stages did.
stages = nasplatform.read_stages(runs)
if len(stages):
    first = stages[stages["run"] == stages["run"].iloc[0]]
    visualization.save(visualization.stage_walk(stage_walk(first)), pictures / "stages.svg")
