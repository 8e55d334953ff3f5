from nasplatform import plugins
from nasplatform.testing.stages import StageContract

for _name in plugins.names("stages"):
    _title = f"Test{_name.title().replace('-', '')}"
    globals()[_title] = type(_title, (StageContract,), {"stage_name": _name})
