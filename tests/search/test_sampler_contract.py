"""The contract of samplers, on every built-in one."""

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
