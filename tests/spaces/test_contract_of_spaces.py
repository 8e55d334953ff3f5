from nasplatform import plugins
from nasplatform.testing.spaces import SpaceContract

SMALL = {"classes": 3, "input_shape": (1, 8, 8)}
SETTINGS = {
    "nasbench101": {
        "options": {"stem_channels": 4, "modules_per_stack": 1, **SMALL},
        "symmetric": False,  # what an edit disconnects is pruned, which one edit cannot undo
    },
    "macro-chain": {
        "options": {
            "stem_channels": 4,
            "widths": ((4, 6), (6, 8, 12)),
            "strides": ((1, 2), (1, 2)),
            "max_depth": 3,
            "kernels": (3, 5),
            "expansions": (1, 2, 4),
            **SMALL,
        }
    },
    "vit": {"options": {"subspace": "digits", **SMALL}},
    "nasbench201": {"options": {"stem_channels": 4, "cells_per_stage": 1, **SMALL}},
}

for _name in plugins.names("spaces"):
    _title = f"Test{_name.title().replace('-', '')}"
    _attributes = {"space_name": _name, **SETTINGS.get(_name, {"options": SMALL})}
    globals()[_title] = type(_title, (SpaceContract,), _attributes)
