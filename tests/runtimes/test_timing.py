from nasplatform.runtimes.timing import Timing, timed


def test_quietest_block_counts(monkeypatch):
    times = iter([*[9e6] * 10, *[5e6, 6e6, 7e6] * 2, *[1e6, 2e6, 3e6], *[8e6] * 6])
    clock = [0]

    def call():
        clock[0] += int(next(times))

    monkeypatch.setattr("nasplatform.runtimes.timing.TIMED_RUNS", 3)
    monkeypatch.setattr("nasplatform.runtimes.timing.time.perf_counter_ns", lambda: clock[0])
    monkeypatch.setattr("nasplatform.runtimes.timing.time.perf_counter", lambda: 0.0)
    assert timed(call) == Timing(2.0, 1.0, 3)
