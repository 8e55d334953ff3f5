from nasplatform import plugins
from nasplatform.testing.runtimes import RuntimeContract

for _name in plugins.names("runtimes"):
    _class = f"Test{_name.title().replace('-', '')}"
    globals()[_class] = type(_class, (RuntimeContract,), {"runtime_name": _name})


def test_every_runtime_is_tested():
    tested = {value.runtime_name for key, value in globals().items() if key.startswith("Test")}
    assert tested == set(plugins.names("runtimes")) >= {"torch", "onnxruntime"}
