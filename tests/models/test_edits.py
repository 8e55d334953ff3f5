import pytest
from torch import nn

from nasplatform import plugins
from nasplatform.errors import NetworkError
from nasplatform.models.edits import Edit


def widen(module, payload):
    return nn.Sequential(module, nn.Linear(3, payload["outputs"]))


@pytest.fixture
def registered(monkeypatch):
    names, get = plugins.names, plugins.get
    own = {"widened.1": widen, "widened.3": widen}
    monkeypatch.setattr(plugins, "names", lambda kind: [*names(kind), *own])
    monkeypatch.setattr(plugins, "get", lambda kind, name: own.get(name) or get(kind, name))


@pytest.mark.usefixtures("registered")
def test_registered_function_performs_the_edit():
    edit = Edit("widened", 3, {"outputs": 7})
    assert edit.apply(nn.Linear(2, 3))[1].out_features == 7
    assert Edit.from_dict(edit.to_dict()) == edit


@pytest.mark.usefixtures("registered")
def test_unknown_version_names_those_that_are_known():
    with pytest.raises(NetworkError, match=r"'widened' of version 2.* widened\.1, widened\.3"):
        Edit("widened", 2, {}).apply(nn.Identity())


@pytest.mark.usefixtures("registered")
def test_unknown_kind_names_the_nearest():
    with pytest.raises(NetworkError, match="unknown edit 'wident'; did you mean 'widened'"):
        Edit("wident", 1, {}).apply(nn.Identity())
