"""Transformers with a distillation token, and networks that become or are bits, really trained."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.spaces.vit.architecture import (
    Attention,
    Entry,
    FeedForward,
    Layer,
    Stage,
    VisionTransformer,
)
from nasplatform.spaces.vit.network import Network as ViT
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task

TASK = tiny_task()
RECIPE = {"epochs": 8, "batch_size": 16}
LAYER = Layer(Attention(2, 4), FeedForward(200))


def transformer() -> nn.Module:
    """A class token and a distillation token, each with a classifier."""
    stage = Stage(8, (LAYER, LAYER), Entry("conv", 4, 4))
    return ViT(VisionTransformer((stage,), tokens=2, readout="class"), (1, 8, 8), 3)


class Stubborn(nn.Module):
    """Says class 1 of every image."""

    def __init__(self) -> None:
        super().__init__()
        self.said = nn.Parameter(torch.tensor([0.0, 9.0, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.said + 0 * images.flatten(1)[:, :3]


def own(name: str, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return Network.from_function(f"test_other_students:{name}")


@pytest.mark.parametrize("hard", [False, True])
def test_labels_teach_the_class_token_and_the_teacher_the_distillation_token(
    hard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own("Stubborn", monkeypatch).save(tmp_path / "stubborn")
    adamw = {"optimizer": {"name": "adamw"}, "learning_rate": 0.01}
    options = {
        "recipe": {"epochs": 15, "batch_size": 16, **adamw},
        "teacher": {"network": str(tmp_path / "stubborn")},
        "distillation": {"weight": 0.5, "hard": hard, "temperature": 1},
        "alignment": {},
    }
    student = own("transformer", monkeypatch)
    network, records = run_pipeline(student, TASK, [("distill", options)], tmp_path / "run")
    with torch.no_grad():
        by_labels, by_teacher = network.module.classifier_logits(TASK.valid.inputs[:])
    assert float((by_teacher.argmax(1) == 1).double().mean()) == 1
    assert float((by_labels.argmax(1) == TASK.valid.labels).double().mean()) > 0.8
    assert any(note.startswith("aligned 'stages.0.") for note in records[0]["notes"])


def test_distilled_then_binarised(tmp_path: Path) -> None:
    stages = [
        ("train", {"recipe": RECIPE}),
        ("distill", {"recipe": RECIPE, "labels": 12, "teacher": {"network": "train"}}),
        ("binarize", {"recipe": RECIPE, "teacher": {"weight": 0.5}}),
    ]
    network, records = run_pipeline(tiny_network(), TASK, stages, tmp_path / "run")
    assert [record["stage"] for record in records] == ["train", "distill", "binarize"]
    assert records[1]["metrics"]["labelled_images"] == 36
    assert records[2]["metrics"]["binary_layers"] >= 1
    assert records[2]["after"]["accuracy"] > 0.5  # a third is what guessing gives
    with pytest.raises(StageError, match=r"'distill' needs float weights.*binarise last"):
        run_pipeline(network, TASK, stages[1:2], tmp_path / "again")
    assert not (tmp_path / "again").exists()
    network.save(tmp_path / "bits")
    taught = {"recipe": RECIPE, "labels": 4, "teacher": {"network": str(tmp_path / "bits")}}
    _, (record,) = run_pipeline(tiny_network(1), TASK, [("distill", taught)], tmp_path / "taught")
    assert record["metrics"]["teacher_accuracy"] > 0.5


def test_bits_are_not_distilled_further(tmp_path: Path) -> None:
    stages = [("binarize", {"recipe": RECIPE}), ("distill", {"recipe": RECIPE})]
    with pytest.raises(StageError, match=r"'distill' needs float weights, but 'binarize' before"):
        run_pipeline(tiny_network(), TASK, stages, tmp_path / "run")
    assert not (tmp_path / "run").exists()
