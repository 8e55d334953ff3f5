import numpy as np
import pytest
import torch

from nasplatform.errors import TrainingError
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.image_store import Images
from nasplatform.training.loop import train
from nasplatform.training.objective import Supervised
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.recipe import Recipe
from nasplatform.training.streams import Stream, batches, labelled, unlabelled

RECIPE = Recipe(epochs=2, batch_size=10)


def keys(inputs):
    return [tuple(image.flatten()[:6].tolist()) for image in inputs]


def test_labels_stay_with_their_images_in_another_order_every_epoch():
    task = tiny_task()
    labels = dict(zip(keys(task.train.inputs[:]), task.train.labels.tolist(), strict=True))
    stream = labelled(task, RECIPE)
    orders = []
    for seed in (1, 2):
        found = list(stream.epoch(seed))
        assert len(found) == stream.batches == 5
        assert {len(batch) for batch in found} == {9, 10}
        seen = [key for batch in found for key in keys(batch.inputs)]
        assert sorted(seen) == sorted(labels)
        assert [labels[key] for key in seen] == torch.cat([b.labels for b in found]).tolist()
        orders.append(seen)
    assert orders[0] != orders[1]
    again = [key for batch in stream.epoch(1) for key in keys(batch.inputs)]
    assert again == orders[0]


def test_unlabelled_stream_runs_beside_and_begins_anew():
    task = tiny_task()
    beside = unlabelled(task, Recipe(batch_size=12, mixup=0.5))
    stream = labelled(task, RECIPE, beside)
    batches = list(stream.epoch(3))
    extra = [batch.beside for batch in batches]
    assert [len(batch) for batch in extra] == [12] * 5  # 24 images, two and a half times
    assert all(batch.labels is None for batch in extra)
    first, second = (
        sorted(key for batch in part for key in keys(batch.inputs))
        for part in (extra[:2], extra[2:4])
    )
    assert first == second == sorted(keys(task.unlabelled[:]))
    plain = list(labelled(task, RECIPE).epoch(3))  # the labelled images do not notice
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches, plain, strict=True))


def test_training_on_both_streams_uses_both_and_is_resumed(tmp_path):
    task = tiny_task()
    seen = []

    def objective(module, batch):
        """Pseudo-labels: the entropy of what it says of unlabelled images."""
        seen.append((len(batch), len(batch.beside)))
        both = module(torch.cat([batch.inputs, batch.beside.inputs]))
        probabilities = both[len(batch) :].softmax(1)
        entropy = -(probabilities * probabilities.log()).sum(1).mean()
        return task.loss(both[: len(batch)], batch.labels) + entropy, {"entropy": entropy}

    def run(**arguments):
        module = tiny_network().module
        stream = labelled(task, RECIPE, unlabelled(task, RECIPE))
        history = train(module, task, RECIPE, 0, objective=objective, stream=stream, **arguments)
        return state_digest(module), history.epochs

    whole = run()
    assert set(seen) == {(9, 8), (10, 8)}
    assert whole[1][-1].metrics["entropy"] > 0
    path = tmp_path / "c.safetensors"
    run(checkpoint=path, on_epoch=lambda epoch: True)
    assert run(checkpoint=path) == whole


def test_stream_without_labels_serves_an_objective_that_needs_none():
    task = tiny_task()
    stream = unlabelled(task, RECIPE)

    def objective(module, batch):
        assert batch.labels is None
        return (module(batch.inputs) - 3).square().mean()

    history = train(tiny_network().module, task, RECIPE, 0, objective=objective, stream=stream)
    assert history.epochs[1].train_loss < history.epochs[0].train_loss
    with pytest.raises(TrainingError, match="needs labels"):
        train(tiny_network().module, task, RECIPE, 0, stream=stream)
    with pytest.raises(TrainingError, match="needs labels"):
        Supervised(task.loss)(tiny_network().module, next(stream.epoch(0)))


def coloured(dtype=np.uint8):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (rng.integers(0, 200, (40, 3, 8, 8)) + 40 * labels[:, None, None, None]).astype(dtype)
    return standardised_task("coloured", [(images, labels)] * 3, "coloured")


@pytest.mark.parametrize(
    "option",
    [
        {"augmentation": "flip-crop"},
        {"randaugment": {"layers": 1, "magnitude": 9}},
        {"erasing": 1.0},
        {"mixup": 1.0},
        {"cutmix": 1.0},
        {"mixup": 1.0, "cutmix": 1.0},
        {"label_smoothing": 0.2},
    ],
    ids=lambda option: "-".join(option),
)
def test_every_augmentation_of_a_recipe_is_done(option):
    task = coloured()
    plain = next(labelled(task, RECIPE).epoch(0))
    recipe = Recipe(batch_size=10, **option)
    batch = next(labelled(task, recipe).epoch(0))
    assert torch.equal(plain.inputs, batch.inputs) == ("label_smoothing" in option)
    assert batch.inputs.isfinite().all()
    if recipe.soft_labels:
        assert batch.labels.shape == (10, 2)
        torch.testing.assert_close(batch.labels.sum(1), torch.ones(10))
        assert not torch.equal(batch.labels, plain.labels)
    else:
        assert torch.equal(batch.labels, plain.labels)
    assert torch.equal(batch.inputs, next(labelled(task, recipe).epoch(0)).inputs)


def test_mixup_and_cutmix_take_turns():
    recipe = Recipe(batch_size=4, mixup=1.0, cutmix=1.0)
    kinds = set()
    for batch in labelled(coloured(), recipe).epoch(1):
        known = set(coloured().train.inputs[:].flatten().tolist())
        pasted = set(batch.inputs.flatten().tolist()) <= known
        kinds.add("cutmix" if pasted else "mixup")
    assert kinds == {"mixup", "cutmix"}


def test_what_a_stream_cannot_do_is_refused():
    task = coloured(np.int32)
    with pytest.raises(TrainingError, match="8 bits"):
        labelled(task, Recipe(randaugment={}))
    with pytest.raises(TrainingError, match="no unlabelled images"):
        unlabelled(task, RECIPE)
    with pytest.raises(TrainingError, match="mix labels"):
        Stream(task.train.inputs, None, Recipe(mixup=0.2), 2)
    with pytest.raises(TrainingError, match="at least one image"):
        Stream(Images(np.zeros((0, 1, 2, 2), np.float32)), None, RECIPE, 2)


def test_reading_ahead_changes_nothing(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    stream = labelled(coloured(), Recipe(batch_size=7, augmentation="flip-crop"))
    expected = list(stream.epoch(4))
    from nasplatform.training import streams

    order = torch.arange(40).split(9)
    read = list(streams._ahead(map(stream._pinned, order)))
    assert [len(stored) for stored, *_ in read] == [9, 9, 9, 9, 4]
    assert torch.equal(torch.cat([s for s, *_ in read]), stream.images.stored(slice(None)))
    assert len(expected) == 6


def test_batches_have_channels_last():
    batch = next(labelled(coloured(), RECIPE).epoch(0))
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("images", "size", "sizes"), [(5, 2, [3, 2]), (7, 3, [3, 2, 2]), (1, 2, [1])]
)
def test_no_batch_has_a_single_image(images, size, sizes):
    rows = torch.arange(images).tensor_split(batches(images, size))
    assert [len(part) for part in rows] == sizes
