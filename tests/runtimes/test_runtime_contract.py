import pytest

from nasplatform import plugins
from nasplatform.errors import BuildError
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Session
from nasplatform.testing.runtimes import RuntimeContract
from nasplatform.testing.tiny import tiny_transformer

REFUSING = ("packed",)
"""Runtimes that may refuse a transformer, with a reason: another one is chosen then."""


class OfTransformers(RuntimeContract):
    def network(self) -> Network:
        return tiny_transformer()

    def session(self, network: Network, threads: int = 1) -> Session:
        try:
            return super().session(network, threads)
        except BuildError as error:
            if self.runtime_name not in REFUSING:
                raise
            pytest.skip(str(error))


for _name in plugins.names("runtimes"):
    _class = f"Test{_name.title().replace('-', '')}"
    globals()[_class] = type(_class, (RuntimeContract,), {"runtime_name": _name})
    _body = {"runtime_name": _name}
    globals()[f"{_class}OfTransformers"] = type(_class, (OfTransformers,), _body)


def test_every_runtime_is_tested():
    tested = {value.runtime_name for key, value in globals().items() if key.startswith("Test")}
    assert tested == set(plugins.names("runtimes")) >= {"torch", "onnxruntime"}
