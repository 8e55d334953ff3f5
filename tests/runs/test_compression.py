"""A network that no search found, through the stages: what is left, and what is refused."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

import nasplatform
from nasplatform.atomic_io import sha256
from nasplatform.cli import main
from nasplatform.config import load_compression
from nasplatform.errors import ConfigError, RunError
from nasplatform.runs.compression import make_compression
from nasplatform.runs.driver import compress, run
from nasplatform.runs.events import Event
from nasplatform.runs.resolved import ResolvedCompression
from nasplatform.runs.run import Run

FILE = {
    "name": "small",
    "seed": 3,
    "network": {"name": "resnet", "depth": 8, "width": 2},
    "task": {"dataset": "digits"},
    "runtime": "torch",
    "stages": [{"name": "train", "recipe": {"epochs": 1}}],
}
NETS = """
from torch import nn

def make(width: int = 4, classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )

def number() -> nn.Module:
    return 3

def unsaid():
    return nn.Linear(1, 1)

count = 1
"""


def write(folder: Path, **changes: object) -> Path:
    file = folder / "network.yaml"
    file.write_text(yaml.safe_dump({**FILE, **changes}))
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("compression")
    return compress(write(folder), folder / "run")


@pytest.fixture
def nets(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Write a module of the user's beside the file; return its name, new for every test."""
    name = "nets_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(NETS)
    return name


def test_the_network_walks_the_stages(finished: Run) -> None:
    assert finished.stages["stage"].tolist() == ["train"]
    with torch.inference_mode():
        assert finished.network().module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert "resnet on digits through train" in finished.folder.report.read_text()
    assert finished.summary()["network"] == "resnet"
    with pytest.raises(RunError, match="nothing was searched"):
        _ = finished.best


def test_the_task_says_what_the_file_does_not(finished: Run) -> None:
    assert isinstance(finished.config, ResolvedCompression)
    told = finished.config.network.own_options
    assert told["input_shape"] == [1, 8, 8]
    assert (told["depth"], told["width"], told["classes"]) == (8, 2, 10)


def test_resolved_file_runs_again_to_the_same_network(finished: Run, tmp_path: Path) -> None:
    again = compress(finished.folder.resolved, tmp_path / "again")
    assert again.config == finished.config
    pairs = zip(
        again.network().module.state_dict().values(),
        finished.network().module.state_dict().values(),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)


def test_lists_show_it(finished: Run) -> None:
    (row,) = nasplatform.list_runs(finished.folder.path).to_dict("records")
    assert (row["architecture"], row["state"], row["stages"]) == ("resnet", "finished", 1)
    assert pd.isna(row["sampler"])
    assert pd.isna(row["budget"])
    assert row["accuracy"] == finished.stages["after_accuracy"].iloc[-1]
    assert nasplatform.read_stages(finished.folder.path)["stage"].tolist() == ["train"]
    assert nasplatform.read_runs(finished.folder.path).empty


def test_what_was_read_is_said_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compress", str(write(tmp_path)), "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert "digits: 1,797 images of 1 x 8 x 8, 10 classes: " in said.partition("stages")[0]


def test_broken_off_goes_on(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.phase == "report":
            raise KeyboardInterrupt

    file = write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        compress(file, tmp_path / "run", watch=stop)
    with pytest.raises(RunError, match="resume=True"):
        compress(file, tmp_path / "run")
    phases: list[str] = []
    compress(file, tmp_path / "run", resume=True, watch=lambda event: phases.append(event.phase))
    assert set(phases) == {"setup", "report"}  # nothing is trained again


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["compress", str(write(tmp_path)), *out]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["results", "show", str(tmp_path / "run")]) == 0
    assert "report: " in capsys.readouterr().out
    assert main(["results", "list", str(tmp_path)]) == 0
    assert "run" in capsys.readouterr().out
    assert main(["results", "list", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["budget"], row["architecture"]) == (None, "resnet")


def test_a_function_of_the_users_own_with_weights(tmp_path: Path, nets: str) -> None:
    network = {"function": f"{nets}:make", "options": {"width": 8}}
    first = compress(write(tmp_path, network=network), tmp_path / "run").network()
    save_file(first.module.state_dict(), tmp_path / "w.safetensors")
    given = {**network, "weights": str(tmp_path / "w.safetensors")}
    made = make_compression(*load_compression(write(tmp_path, network=given)))
    for name, tensor in made.network.module.state_dict().items():
        assert torch.equal(tensor, first.module.state_dict()[name])
    assert made.resolved().provenance.weights == sha256(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"name": "resnt"}}, r"yaml:\d+: network: unknown network 'resnt'; did you"),
        ({"network": {"name": "resnet", "dept": 8}}, r"network: .*did you mean 'depth'"),
        ({"network": {"name": "resnet", "classes": 7}}, r"network: .*7 outputs, .* 10 classes"),
        ({"network": {"depth": 8}}, r"network: expected either 'name' or 'function'"),
        ({"network": {"name": "resnet", "options": {"depth": 8}}}, r"stand beside its name"),
        ({"network": {"function": "NETS:make", "width": 8}}, r"write 'width' below 'options'"),
        ({"network": {"function": "no_such_nets:make"}}, r"yaml:\d+: network: .*no_such_nets"),
        ({"network": {"function": "NETS:mak"}}, r"yaml:\d+: network: NETS:mak: .*has no 'mak'"),
        ({"network": {"function": "NETS:number"}}, r"returns a int, expected an nn.Module"),
        ({"network": {"function": "NETS:unsaid"}}, r"annotate it '-> nn.Module'"),
        ({"network": {"function": "NETS:make", "options": {"wide": 1}}}, r"argument 'wide'"),
        ({"network": {"function": "NETS:make", "options": {"classes": 3}}}, r"3 outputs"),
        ({"network": {"name": "resnet", "weights": "none.safetensors"}}, r"no such file"),
        ({"task": None}, r"task: "),
        ({"stages": []}, r"stages: "),
        ({"stages": [{"name": "trian"}]}, r"yaml:\d+: stages.0.*did you mean 'train'"),
        ({"taks": {}}, r"yaml:\d+: taks: unknown key 'taks'; did you mean 'task'"),
        ({"runtime": "torhc"}, r"runtime: .*did you mean 'torch'"),
        ({"search": {"budget": 9}}, r"network: excludes 'search': a file starts from a network"),
        ({"evaluator": {"name": "table"}}, r"network: excludes 'evaluator'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, nets: str, changes: dict[str, object], words: str
) -> None:
    file = tmp_path / "network.yaml"
    file.write_text(yaml.safe_dump({**FILE, **changes}).replace("NETS", nets))
    with pytest.raises(ConfigError, match=words.replace("NETS", nets)) as caught:
        compress(file, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_each_command_names_the_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"yaml:\d+: network: .*nasplatform compress "):
        run(write(tmp_path))
    searched = tmp_path / "search.yaml"
    searched.write_text(yaml.safe_dump({"name": "s", "search": {"budget": 3}}))
    with pytest.raises(ConfigError, match=r"yaml:\d+: search: .*nasplatform run "):
        compress(searched)
