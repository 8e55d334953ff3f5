import copy
import json
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform.errors import ConfigError, StageError, TrainingError
from nasplatform.models.network import Network
from nasplatform.spaces import get_space
from nasplatform.stages.base import StageContext
from nasplatform.stages.binarize import layers, stage
from nasplatform.stages.binarize.layers import latent_layers
from nasplatform.stages.pipeline import make_stage, run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import predict

RECIPE = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05}
SHAPE = (1, 8, 8)


def apply(folder, network=None, seed=0, **options):
    folder.mkdir(parents=True, exist_ok=True)
    made = make_stage("binarize", {"recipe": RECIPE} | options, "test")
    return made.apply(network or tiny_network(), tiny_task(), StageContext(folder, seed))


def resnet(seed: int = 0) -> Network:
    return Network.named("resnet", seed, depth=8, width=4, input_shape=SHAPE, classes=3)


@pytest.fixture
def trained(monkeypatch):
    """The latent networks, as they were when their training was over."""
    found = []
    packed = stage.packed

    def spied(network, latent):
        found.append(copy.deepcopy(latent))
        return packed(network, latent)

    monkeypatch.setattr(stage, "packed", spied)
    return found


@pytest.mark.parametrize("estimator", ["fourier", "straight-through", "dorefa", "recu", "reste"])
def test_bits_compute_what_the_training_did(tmp_path, trained, estimator):
    """Logits are equal to the last bit, of one image and of many."""
    options = {"estimator": {"name": estimator}, "noise": {}, "thresholds": "all"}
    result = apply(tmp_path, resnet(), shortcuts=True, **options)
    [latent] = trained
    for images in (tiny_task().test.inputs[:], tiny_task().test.inputs[:1]):
        assert torch.equal(predict(result.network.module, images), predict(latent, images))
    assert not latent_layers(result.network.module)
    assert {edit.kind for edit in result.network.structure.edits} == {
        "signed-activations",
        "binarized",
    }


SPACES = {
    "nasbench101": ({"stem_channels": 4, "modules_per_stack": 1}, "[3M1]1011/110/01/1"),
    "nasbench201": (
        {"stem_channels": 4, "cells_per_stage": 1},
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|none~2|",
    ),
    "macro-chain": ({"stem_channels": 4, "max_depth": 1}, None),
    "vit": (
        {"subspace": "digits"},
        "average/conv2s2+w32+learned:h1w8-reduction2-mlp4,h4w32-mlpconv1",
    ),
}


def of_a_space(name: str) -> Network:
    options, text = SPACES[name]
    space = get_space(name, **options, input_shape=SHAPE, classes=3)
    if text is None:
        return Network.of(space, space.sample(1, np.random.default_rng(0))[0])
    return Network.of(space, space.parse(text))


@pytest.mark.parametrize("kind", [*SPACES, "vgg-small", "attention"])
def test_networks_of_every_kind_end_as_bits(tmp_path, trained, kind):
    """Searched, registered and of a user's own: equal logits, and again from their folder."""
    if kind in SPACES:
        network = of_a_space(kind)
    elif kind == "attention":
        network = Network.from_function("signed_networks:Attention", {"colours": 1, "classes": 3})
    else:
        network = Network.named(kind, width=4, input_shape=SHAPE, classes=3)
    result = apply(tmp_path / "stage", network, recipe=RECIPE | {"epochs": 1})
    images = tiny_task().test.inputs[:]
    logits = predict(result.network.module, images)
    assert torch.equal(logits, predict(trained[0], images))
    result.network.save(tmp_path / "network")
    assert torch.equal(predict(Network.load(tmp_path / "network").module, images), logits)
    assert result.metrics["binary_layers"] >= 3


def test_transformers_train_in_every_layer_and_are_measured_where_they_run(tmp_path, trained):
    """No layer of bits is cut off from its gradient."""
    begun = of_a_space("vit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, records = run_pipeline(
            begun, tiny_task(), [("binarize", {"recipe": RECIPE, "noise": {}})], tmp_path
        )
    [latent], after = trained, records[0]["after"]
    layers_of_bits = latent_layers(latent)
    names = {name.replace(".inner.0", "").removesuffix(".0") for name in layers_of_bits}
    assert {name.rsplit(".", 1)[-1] for name in names} >= {"query", "key", "value", "project"}
    images, labels = tiny_task().train.inputs[:16], tiny_task().train.labels[:16]
    nn.functional.cross_entropy(latent.train()(images), labels).backward()
    for name, layer in layers_of_bits.items():
        assert layer.layer.weight.grad.abs().max() > 0, name
    assert after["runtime"] == "packed"
    assert not after["runtime_note"]
    assert after["binary_macs"] > after["macs"] > 0
    assert after["bytes_binary"] * 8 >= records[0]["metrics"]["binary_weights"]


def test_schedules_follow_the_steps(tmp_path, monkeypatch):
    """n and alpha of every step of 2 epochs of 3 batches."""
    seen = []
    latent_forward = layers.LatentLayer.forward

    def spied(layer, inputs):
        if layer.training:
            how = layer.how
            done = how.clock.done
            seen.append((how.estimator.terms_at(done), how.noise.share_at(done)))
        return latent_forward(layer, inputs)

    monkeypatch.setattr(layers.LatentLayer, "forward", spied)
    apply(tmp_path, resnet(), noise={})
    steps = list(dict.fromkeys(seen))
    assert [terms for terms, _ in steps] == [9, 11, 13, 15, 17, 18]
    expected = [0.1, 0.0904508, 0.0654508, 0.0345492, 0.0095492, 0.0]
    assert [share for _, share in steps] == pytest.approx(expected, abs=1e-6)


def test_metrics_and_notes_say_what_was_binarised(tmp_path):
    result = apply(tmp_path, resnet())
    assert result.metrics["binary_layers"] == 6
    assert result.metrics["float_layers"] == 4
    assert result.metrics["threshold_layers"] == 0
    assert {name for name in result.metrics if name.endswith("_ms")} == {
        "float_onnxruntime_ms",
        "float_onnxruntime_int8_static_ms",
        "float_onnxruntime_int8_dynamic_ms",
    }
    assert result.notes == (
        "not binarised: stem.0: it reads the image",
        "not binarised: body.1.shortcut.0: it is a shortcut",
        "not binarised: body.2.shortcut.0: it is a shortcut",
        "not binarised: classifier: it makes the logits",
    )


def test_bits_of_a_weight(tmp_path):
    """Six convolutions of 9 x (4 x 4, 4 x 4, 4 x 8, 8 x 8, 8 x 16, 16 x 16) weights."""
    metrics = apply(tmp_path, resnet()).metrics
    ones = 9 * (4 * 4 + 4 * 4 + 4 * 8 + 8 * 8 + 8 * 16 + 16 * 16)
    floats = 9 * 4 + 4 * 8 + 8 * 16 + 16 * 3  # stem, two shortcuts, classifier
    assert metrics["binary_weights"] == ones
    assert metrics["bits_per_weight"] == pytest.approx((ones + 32 * floats) / (ones + floats))


def test_network_of_bits_is_refused_by_stages_that_need_weights(tmp_path):
    binary = apply(tmp_path / "first", resnet()).network
    words = "needs float weights, but 6 layers of the network are binary, body.0.first.0.0"
    with pytest.raises(StageError, match=words):
        apply(tmp_path / "second", binary)
    for name in ("train", "disout", "scop"):
        with pytest.raises(StageError, match=f"{name!r} {words}"):
            run_pipeline(binary, tiny_task(), [(name, {})], tmp_path / name)


def test_given_weights_are_gone_on_from(tmp_path):
    network = resnet(7)
    still = RECIPE | {"epochs": 1, "learning_rate": 1e-9}
    given = apply(tmp_path / "given", network, recipe=still).network
    fresh = apply(tmp_path / "scratch", network, seed=1, recipe=still, start="scratch").network
    before = network.module.classifier.weight
    assert torch.allclose(given.module.classifier.weight, before, atol=1e-6)
    assert not torch.allclose(fresh.module.classifier.weight, before, atol=1e-2)


def test_teacher_changes_the_result(tmp_path):
    alone = apply(tmp_path / "alone").network
    taught = apply(tmp_path / "taught", teacher={"weight": 0.5})
    assert "teacher_loss" in taught.metrics
    assert state_digest(alone.module) != state_digest(taught.network.module)


@pytest.mark.parametrize("estimator", ["fourier", "recu"])
def test_reduced_precision_trains_and_ends_in_the_same_bits(tmp_path, trained, estimator):
    recipe = RECIPE | {"precision": "bfloat16", "epochs": 1}
    result = apply(tmp_path, resnet(), recipe=recipe, noise={}, estimator={"name": estimator})
    images = tiny_task().test.inputs[:]
    assert torch.equal(predict(result.network.module, images), predict(trained[0], images))


def test_the_mean_of_the_last_weights_is_binarised(tmp_path, trained):
    recipe = RECIPE | {"averaging": {"name": "mean", "share": 0.5}}
    result = apply(tmp_path, resnet(), recipe=recipe, noise={})
    images = tiny_task().test.inputs[:]
    assert torch.equal(predict(result.network.module, images), predict(trained[0], images))


KILLED = """
import json, os, signal, sys
from pathlib import Path
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task

def progress(done, total, words):
    if words.startswith("binarize: epoch 2") and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

stages = [("binarize", json.loads(sys.argv[2]))]
run_pipeline(tiny_network(), tiny_task(), stages, Path(sys.argv[1]), 1, progress=progress)
"""


def test_killed_training_goes_on_to_the_same_bits(tmp_path):
    """SIGKILL in the second epoch, with everything that has a schedule."""
    options = {"recipe": RECIPE, "noise": {}, "shortcuts": True, "thresholds": "all"}
    arguments = [sys.executable, "-c", KILLED, tmp_path / "p", json.dumps(options)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "p" / "0-binarize" / "checkpoint.safetensors").exists()

    def run(folder):
        said = []
        network, _ = run_pipeline(
            tiny_network(),
            tiny_task(),
            [("binarize", options)],
            folder,
            1,
            progress=lambda done, steps, words: said.append(done),
        )
        return network, said

    (resumed, late), (unbroken, all_of_it) = run(tmp_path / "p"), run(tmp_path / "other")
    assert (late[0], all_of_it[0]) == (4, 1)
    assert resumed.structure == unbroken.structure
    assert state_digest(resumed.module) == state_digest(unbroken.module)


def test_another_estimator_does_not_go_on_from_the_checkpoint(tmp_path):
    apply(tmp_path, resnet())
    with pytest.raises(TrainingError, match="checkpoint of another training"):
        apply(tmp_path, resnet(), estimator={"name": "recu"})


def test_diverged_training_says_so(tmp_path):
    with pytest.raises(TrainingError, match="too high"):
        apply(tmp_path, resnet(), recipe=RECIPE | {"learning_rate": 1e30, "warmup": 0.0})


def test_network_without_a_layer_to_binarise_is_refused(tmp_path):
    plain = Network(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), tiny_network().structure)
    with pytest.raises(StageError, match=r"no layer that can be binarised: 1: it reads the image"):
        apply(tmp_path, plain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": {"name": "fourrier"}}, "fourier"),
        ({"estimator": {"name": "fourier", "terms": [18, 9]}}, "not above the second"),
        ({"estimator": {"name": "recu", "omega": 0.1}}, "omega"),
        ({"noise": {"share": 0}}, "noise.share"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        make_stage("binarize", options, "stages[0]")
