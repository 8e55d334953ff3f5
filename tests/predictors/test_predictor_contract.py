"""Every registered predictor keeps the contract."""

from nasplatform.testing.predictors import PredictorContract, check_every_registered_predictor


class TestGP(PredictorContract):
    predictor_name = "gp"
    least_tau = 0.84


class TestTrees(PredictorContract):
    predictor_name = "trees"
    options = {"trees": 40}  # noqa: RUF012
    least_tau = 0.67


class TestGPTrees(PredictorContract):
    predictor_name = "gp-trees"
    options = {"trees": 40}  # noqa: RUF012
    least_tau = 0.85


class TestDefault(PredictorContract):
    predictor_name = "default"
    options = {"trees": 40, "steps": 30}  # noqa: RUF012
    least_tau = 0.86


class TestReNAS(PredictorContract):
    predictor_name = "renas"
    options = {"epochs": 12}  # noqa: RUF012
    least_tau = 0.57


class TestAssessor(PredictorContract):
    predictor_name = "assessor"
    options = {"epochs": 60, "width": 64, "anchors": 100}  # noqa: RUF012
    least_tau = 0.7


class KeptElsewhere:
    """Its tests stand beside the service that it asks."""

    predictor_name = "remote"


def test_all_are_here() -> None:
    check_every_registered_predictor(globals())
