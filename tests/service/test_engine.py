from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from nasplatform.service.engine import Engine, QueueFullError
from nasplatform.service.models import Model, PredictionOutput
from nasplatform.service.settings import Settings


class Slow:
    """Stands where a model stands: answers with the length of a text, when it is let go."""

    def __init__(self, open_at_first: bool = True) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []
        self.pause = 0.0
        if open_at_first:
            self.gate.set()

    def answer(self, texts, hashes, ranks):
        self.batches.append(list(texts))
        self.begun.set()
        assert self.gate.wait(20)
        time.sleep(self.pause)
        if "bad" in texts:
            raise ValueError("bad")
        mean = np.array([len(str(text)) for text in texts], float)
        zero = np.zeros(len(texts), np.int64)
        errors = {i: "empty" for i, text in enumerate(texts) if not text}
        return PredictionOutput(mean, mean, zero, zero, None, None, errors), 0


def with_engine(body, **settings):
    async def main():
        engine = Engine(Settings.model_validate(settings))
        engine.start()
        try:
            return await asyncio.wait_for(body(engine), 30)
        finally:
            await asyncio.to_thread(engine.stop)

    return asyncio.run(main())


async def begun(model):
    await asyncio.to_thread(model.begun.wait, 20)


def test_requests_that_wait_are_answered_together():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"])
        await begun(model)
        others = [engine.submit(model, ["b" * k, ""]) for k in range(1, 9)]
        model.gate.set()
        await first
        return [await other for other in others]

    answers = with_engine(body)
    assert [len(batch) for batch in model.batches] == [1, 16]
    assert [a.mean.tolist() for a in answers] == [[k, 0] for k in range(1, 9)]
    assert all(a.errors == {1: "empty"} for a in answers)


def test_a_large_request_is_served_in_parts_between_others():
    model = Slow(open_at_first=False)
    texts = ["x" * (k % 7) for k in range(25)]

    async def body(engine):
        large = engine.submit(model, texts)
        await begun(model)
        small = engine.submit(model, ["small"])
        model.gate.set()
        await small
        return await large

    answers = with_engine(body, max_batch=4)
    assert answers.mean.tolist() == [len(text) for text in texts]
    assert sorted(answers.errors) == [k for k in range(25) if k % 7 == 0]
    assert max(map(len, model.batches)) == 4
    assert "small" in model.batches[1] or "small" in model.batches[2]


@pytest.mark.parametrize("sizes", [[100, 100, 100, 100], [100, 300, 100, 100], [1, 100, 300, 3]])
def test_nobody_is_overtaken_again_and_again(sizes):
    model, answered, overtaken = Slow(), [], []
    model.pause = 0.003  # so that the others are there again when a batch is taken

    async def client(engine, size):
        for _ in range(30):
            before = len(answered)
            await engine.submit(model, ["x"] * size)
            overtaken.append((len(answered) - before) / len(sizes))
            answered.append(size)

    async def body(engine):
        await asyncio.gather(*(client(engine, size) for size in sizes))

    with_engine(body, max_batch=102)
    assert len(answered) == 30 * len(sizes)
    # A request of several batches lets each of the others pass once for each of them.
    assert max(overtaken) <= 4


def test_models_are_not_mixed():
    models = [Slow(open_at_first=False), Slow()]

    async def body(engine):
        first = engine.submit(models[0], ["first"])
        await begun(models[0])
        waiting = [engine.submit(models[k % 2], ["x" * k]) for k in range(1, 7)]
        models[0].gate.set()
        await first
        return [(await future).mean.tolist() for future in waiting]

    assert with_engine(body) == [[k] for k in range(1, 7)]
    assert models[0].batches == [["first"], ["xx", "xxxx", "xxxxxx"]]
    assert models[1].batches == [["x", "xxx", "xxxxx"]]


def test_texts_and_codes_are_not_mixed():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"])
        await begun(model)
        codes = [np.full(k, k, np.uint64) for k in range(1, 4)]
        waiting = [engine.submit(model, asked) for k in codes for asked in (k, ["x"] * len(k))]
        model.gate.set()
        await first
        return [len((await future).mean) for future in waiting]

    assert with_engine(body) == [1, 1, 2, 2, 3, 3]
    kinds = [{type(item) for item in batch} for batch in model.batches]
    assert kinds == [{str}, {np.uint64}, {str}]


def test_a_full_queue_says_when_to_come_back():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"] * 6)
        await begun(model)
        with pytest.raises(QueueFullError) as full:
            engine.submit(model, ["b"] * 5)
        fits = engine.submit(model, ["c"] * 4)
        model.gate.set()
        await asyncio.gather(first, fits)
        assert engine.waiting == 0
        await engine.submit(model, ["d"] * 50)  # alone, it may be larger than the queue
        return full.value.retry_after

    assert with_engine(body, max_queue=10) >= 1


def test_who_waited_too_long_is_told_so():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"])
        await begun(model)
        late = engine.submit(model, ["b"])
        await asyncio.sleep(0.1)
        model.gate.set()
        await first
        with pytest.raises(TimeoutError):
            await late
        assert engine.waiting == 0
        return await engine.submit(model, ["c"])

    assert len(with_engine(body, timeout=0.05).mean) == 1
    assert ["b"] not in model.batches


def test_a_failure_concerns_its_batch_alone():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"])
        await begun(model)
        broken = engine.submit(model, ["bad"] * 9)
        model.gate.set()
        await first
        with pytest.raises(ValueError, match="bad"):
            await broken
        assert (await engine.submit(model, ["good"])).mean.tolist() == [4]
        return engine.waiting

    assert with_engine(body, max_batch=4) == 0


def test_a_failure_concerns_no_other_request_of_its_batch():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"])
        await begun(model)
        together = [engine.submit(model, [text]) for text in ("good", "bad", "best")]
        model.gate.set()
        await first
        found = await asyncio.gather(*together, return_exceptions=True)
        return [type(each).__name__ for each in found], engine.waiting

    names, waiting = with_engine(body)
    assert names == ["PredictionOutput", "ValueError", "PredictionOutput"]
    assert waiting == 0


def test_who_hung_up_is_not_answered():
    model = Slow(open_at_first=False)

    async def body(engine):
        first = engine.submit(model, ["a"])
        await begun(model)
        gone = engine.submit(model, ["gone"])
        gone.cancel()
        model.gate.set()
        await first
        await engine.submit(model, ["last"])
        return engine.waiting

    assert with_engine(body) == 0
    assert model.batches == [["a"], ["last"]]


def test_long_work_is_done_while_nobody_waits():
    done = threading.Event()
    steps = []

    def step():
        steps.append(1)
        if len(steps) == 5:
            done.set()
        return len(steps) < 5

    def broken():
        raise ValueError("broken")

    async def body(engine):
        engine.when_idle(broken)
        engine.when_idle(step)
        await asyncio.to_thread(done.wait, 20)
        return (await engine.submit(Slow(), ["after"])).mean.tolist()

    assert with_engine(body) == [5]
    assert len(steps) == 5


def test_answers_of_a_model_do_not_depend_on_the_cache(store, fitted):
    model = Model(store.find("demo"), fitted.predictor, fitted.space, Settings())
    texts = [*fitted.labels.texts, "bad", fitted.labels.texts[3]]
    first, cached = model.answer(texts, True, True)
    again, cached_again = model.answer(texts[::-1], True, True)
    assert (cached, cached_again) == (0, 61)
    np.testing.assert_array_equal(first.mean, again.mean[::-1])
    assert (first.hash == again.hash[::-1]).all()
    assert list(first.errors) == [60]
    assert first.hash[0] == fitted.space.parse(texts[0]).hash


def test_clients_who_ask_again_are_answered_together(monkeypatch):
    monkeypatch.setattr("nasplatform.service.engine._PAUSE", 0.5)
    model = Slow()

    async def ask(engine, wait):
        await asyncio.sleep(wait)
        await engine.submit(model, ["x"])

    async def body(engine):
        await asyncio.gather(*(ask(engine, 0.0) for _ in range(8)))
        model.batches.clear()
        await asyncio.gather(*(ask(engine, 0.02 * number) for number in range(8)))

    with_engine(body, max_wait=10.0)
    assert sum(map(len, model.batches)) == 8
    assert len(model.batches) <= 2  # one may come after those that were there the last time


def test_who_is_alone_after_a_crowd_does_not_wait_for_it():
    model = Slow()

    async def body(engine):
        await asyncio.gather(*(engine.submit(model, ["x"]) for _ in range(50)))
        begun = time.monotonic()
        for _ in range(10):
            await engine.submit(model, ["x"])
        return time.monotonic() - begun

    assert with_engine(body, max_wait=20.0) < 5.0
