"""Every registered encoding keeps the contract."""

from nasplatform import plugins
from nasplatform.testing.encodings import EncodingContract


class TestAdjacency(EncodingContract):
    encoding_name = "adjacency"


class TestReNAS(EncodingContract):
    encoding_name = "renas"


class TestGraphFeatures(EncodingContract):
    encoding_name = "graph-features"


class TestPaths(EncodingContract):
    encoding_name = "paths"


def test_all_are_here() -> None:
    tested = {kind.encoding_name for name, kind in globals().items() if name.startswith("Test")}
    assert tested == set(plugins.names("encodings"))
