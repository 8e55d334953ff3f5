"""The contract of samplers, on every built-in one, over cells and over conditional decisions."""

from nasplatform.testing.samplers import SamplerContract


class TestRandom(SamplerContract):
    sampler_name = "random"


class TestTPE(SamplerContract):
    sampler_name = "tpe"


class TestNSGA2(SamplerContract):
    sampler_name = "nsga2"
    options = {"population": 4}  # noqa: RUF012


class TestRegularizedEvolution(SamplerContract):
    sampler_name = "regularized-evolution"


class TestLocalSearch(SamplerContract):
    sampler_name = "local-search"


class TestPredictor(SamplerContract):
    sampler_name = "predictor"
    options = {"samples": 200}  # noqa: RUF012


CHAINS = {
    "name": "macro-chain",
    "input_shape": (1, 8, 8),
    "stem_channels": 4,
    "widths": ((4, 6), (6, 8, 12)),
    "strides": ((1, 2), (1, 2)),
    "max_depth": 3,
    "kernels": (3, 5),
    "expansions": (1, 2, 4),
}

for _kind in (
    TestRandom,
    TestTPE,
    TestNSGA2,
    TestRegularizedEvolution,
    TestLocalSearch,
    TestPredictor,
):
    _title = f"{_kind.__name__}OverChains"
    globals()[_title] = type(_title, (_kind,), {"space_options": CHAINS})
