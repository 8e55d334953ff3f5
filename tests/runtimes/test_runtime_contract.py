from nasplatform import plugins
from nasplatform.testing.runtimes import RuntimeContract
from nasplatform.testing.tiny import tiny_transformer

for _name in plugins.names("runtimes"):
    _class = f"Test{_name.title().replace('-', '')}"
    globals()[_class] = type(_class, (RuntimeContract,), {"runtime_name": _name})
    _body = {"runtime_name": _name, "network": lambda self: tiny_transformer()}
    globals()[f"{_class}OfTransformers"] = type(_class, (RuntimeContract,), _body)


def test_every_runtime_is_tested():
    tested = {value.runtime_name for key, value in globals().items() if key.startswith("Test")}
    assert tested == set(plugins.names("runtimes")) >= {"torch", "onnxruntime"}
