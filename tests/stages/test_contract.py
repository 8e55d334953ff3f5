from nasplatform import plugins
from nasplatform.testing.stages import StageContract
from nasplatform.testing.tiny import tiny_transformer

RECIPE = {"epochs": 1}
OPTIONS = {
    "scop": {
        "recipe": RECIPE,
        "rate": 0.5,
        "knockoffs": {"steps": 2, "diagnostic_steps": 2, "batch_size": 16},
        "control": {"epochs": 1},
    },
}
"""Of the stages whose defaults take more than a moment."""

for _name in plugins.names("stages"):
    _title = f"Test{_name.title().replace('-', '')}"
    _body = {"stage_name": _name, "options": OPTIONS.get(_name)}
    globals()[_title] = type(_title, (StageContract,), _body)
    _of_transformers = {**_body, "network": lambda self: tiny_transformer()}
    globals()[f"{_title}OfTransformers"] = type(_title, (StageContract,), _of_transformers)
