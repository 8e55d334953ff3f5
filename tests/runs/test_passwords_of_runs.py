"""The password of a storage: never shown, never written, and a run goes on all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import postgresql
import pytest
import yaml

from nasplatform.cli import main
from nasplatform.errors import ConfigError, InputError
from nasplatform.executors.store import open_store
from nasplatform.search import open_study

pytestmark = pytest.mark.usefixtures("toy")
SECRET = "hunter2"
NOWHERE = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/none"
SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 6},
    "evaluator": {"name": "bits"},
    "predictor": {"name": "ridge"},
    "search": {"budget": 6, "sampler": {"name": "predictor", "initial": 3}},
}


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(SEARCH))
    return "toy.yaml"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for a server that is not there."""
    monkeypatch.setattr("nasplatform.search.storage._PAUSE", 0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that asks for the secret; its URL holds none."""
    with postgresql.server(SECRET) as server:
        yield server.url


def with_secret(url: str) -> str:
    return url.replace("nas@", f"nas:{SECRET}@")


def written(folder: Path) -> list[Path]:
    """Return the files below a folder that hold the secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.postgres
def test_a_run_shows_and_keeps_no_password_and_goes_on(
    server: str,
    search: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = ["--set", f"storage={with_secret(server)}"]
    assert main(["run", search, *told]) == 0
    assert main(["worker", search, "--storage", with_secret(server)]) == 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert not written(tmp_path)
    kept = yaml.safe_load(Path("runs/toy/resolved.yaml").read_text())["storage"]
    assert kept == server

    more = ["--set", "search.budget=8", "--resume"]
    without = ["--set", f"storage={server}"]
    assert main(["run", search, *without, *more]) == 2
    assert "no password supplied" in capsys.readouterr().err
    assert main(["run", search, *told, *more]) == 0  # given again
    monkeypatch.setenv("PGPASSWORD", SECRET)
    more[1] = "search.budget=10"
    assert main(["run", search, *without, *more]) == 0
    assert main(["results", "show", "runs/toy"]) == 0
    assert main(["run", "runs/toy/resolved.yaml", "--out", "again"]) == 0
    shown = capsys.readouterr()
    assert "10 evaluations" in shown.out
    assert SECRET not in shown.out + shown.err
    assert not written(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        [f"storage={NOWHERE}"],
        [f"storage={NOWHERE.replace('psycopg', 'nodriver')}"],
        [f"storage={NOWHERE.replace('postgresql+psycopg', 'nodatabase')}"],
        [f"storage=postgresql+psycopg://me:{SECRET}/db"],
        [f"storage=postgresql+psycopg://me:p@{SECRET}@127.0.0.1:1/db"],
        [f"storage=postgresql+psycopg://127.0.0.1:1/db?user=me&password={SECRET}"],
        [f"storage={{url: '{NOWHERE}'}}"],
        [f"storage=[{NOWHERE}"],
        [f"storag={NOWHERE}"],
        [f"search.storage={NOWHERE}"],
        [f"search={NOWHERE}"],
        [f"storage={NOWHERE}", "search.budget=0"],
        [f"storage={NOWHERE}", "evaluator.name=bitz"],
        [f"name={NOWHERE}"],
    ],
)
@pytest.mark.parametrize("command", ["run", "worker"])
def test_no_complaint_tells_it(
    search: str, settings: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [word for one in settings for word in ("--set", one)]
    if command == "worker":
        told += ["--storage", NOWHERE]
    assert main([command, search, *told]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("error: ") == 1
    assert SECRET not in shown.out + shown.err


def test_no_complaint_about_the_file_tells_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toy.yaml"
    for changes in ({"storage": NOWHERE}, {"storage": [NOWHERE]}, {"seed": NOWHERE}):
        file.write_text(yaml.safe_dump({**SEARCH, **changes}))
        assert main(["run", str(file)]) == 2
        shown = capsys.readouterr()
        assert "error: " in shown.err
        assert SECRET not in shown.out + shown.err


def test_an_address_in_the_place_of_a_file_is_told_without_it(
    search: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"postgresql://me@corp:{SECRET}@127.0.0.1:1/db?sslpassword={SECRET}&password={SECRET}"
    commands = [["run", url], ["results", "show", url], ["export", url], ["serve", "--host", url]]
    for words in commands:
        assert main([*words, *(["--predictors", "x"] if words[0] == "serve" else [])]) == 2
        shown = capsys.readouterr()
        assert "error: " in shown.err
        assert SECRET not in shown.out + shown.err


def test_an_interrupted_run_says_how_to_go_on_without_it(
    search: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nasplatform.runs.driver.run", interrupted)
    assert main(["run", search, "--set", f"storage={NOWHERE}"]) == 130
    shown = capsys.readouterr()
    assert "me@127.0.0.1" in shown.err
    assert SECRET not in shown.out + shown.err


@pytest.mark.parametrize("url", [NOWHERE, f"mysql://me:{SECRET}@host/db", f"://me:{SECRET}@host"])
def test_what_opens_a_storage_does_not_tell_it(url: str) -> None:
    with pytest.raises(ConfigError) as refused, open_study(url, "toy"):
        pass
    assert SECRET not in str(refused.value)
    with pytest.raises(InputError) as failed:
        open_store(url)
    assert SECRET not in str(failed.value)
