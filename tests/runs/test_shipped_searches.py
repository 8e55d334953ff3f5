"""The search files that ship are found wherever one stands, and never hide one's own."""

import pytest

from nasplatform.config import load_config
from nasplatform.errors import ConfigError


def test_a_shipped_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("searches/quickstart.yaml")[0].name == "quickstart"


def test_ones_own_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "name: mine\nevaluator: {name: table, table: cells-digits}\nsearch: {budget: 5}\n"
    (tmp_path / "searches").mkdir()
    (tmp_path / "searches" / "quickstart.yaml").write_text(text)
    assert load_config("searches/quickstart.yaml")[0].name == "mine"


def test_what_is_not_there_is_told_with_what_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^quickstart.yaml: no such file; .*vit.yaml$"):
        load_config("quickstart.yaml")
