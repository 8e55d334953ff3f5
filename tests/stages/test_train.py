from nasplatform.stages.base import StageContext
from nasplatform.stages.train import Train, TrainOptions
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import evaluate
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=16)


def test_trains_the_structure_from_weights_of_the_seed(tmp_path):
    task = tiny_task()
    result = Train(TrainOptions(recipe=RECIPE)).apply(
        tiny_network(5), task, StageContext(tmp_path, seed=2)
    )
    expected = tiny_network(2)
    history = train(expected.module, task, RECIPE, 2)
    assert state_digest(result.network.module) == state_digest(expected.module)
    assert result.metrics["epochs"] == 2
    assert result.metrics["valid_accuracy"] == evaluate(result.network.module, task, "valid")
    assert result.metrics["train_loss"] == history.epochs[-1].train_loss


def test_progress_reports_every_step(tmp_path):
    steps = []
    context = StageContext(
        tmp_path, progress=lambda done, total, words: steps.append((done, total))
    )
    Train(TrainOptions(recipe=RECIPE)).apply(tiny_network(), tiny_task(), context)
    assert steps == [(step, 6) for step in range(1, 7)]
