"""The contract of an evaluation store as tests, with real processes.

class TestMyStore(StoreContract):
    def store(self, home, max_attempts=3):
        return MyStore(home / "file", max_attempts)
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nasplatform.evaluators.base import Evaluation
from nasplatform.executors.store import Busy, Claim, EvaluationKey, EvaluationStore, LeaseKeeper

KEY = EvaluationKey("space", "task", "hash", 4, 0)
_FORK = multiprocessing.get_context("fork")
_LONG = 60.0
_SHORT = 0.3


class StoreContract:
    """What every store must do."""

    def store(self, home: Path, max_attempts: int = 3) -> EvaluationStore:
        """Open the store that belongs to a folder; each call returns another object."""
        raise NotImplementedError

    def claimed(self, store: EvaluationStore, ttl: float = _LONG) -> Claim:
        """Claim the key, which must be free."""
        claim = store.claim(KEY, ttl)
        assert isinstance(claim, Claim), claim
        return claim

    def test_what_was_measured_is_found_by_others(self, tmp_path: Path) -> None:
        """All of it, and it cannot be claimed any more."""
        curve = {"epoch": [1.0, 2.0], "train_loss": [0.5, math.inf]}
        full = Evaluation(0.5, {"loss": 1.25, "odd": math.inf}, 3.0, None, 7, curve=curve)
        with self.store(tmp_path) as store, self.store(tmp_path) as other:
            assert store.get(KEY) is None
            assert store.finish(self.claimed(store), full)
            assert other.get(KEY) == other.claim(KEY, _LONG) == full
            assert len(other) == 1

    @pytest.mark.parametrize("part", ["space", "task", "hash", "fidelity", "seed"])
    def test_every_part_of_the_key_matters(self, tmp_path: Path, part: str) -> None:
        """Two keys that differ in one part are two measurements."""
        changed = {**vars(KEY), part: 9 if part in ("fidelity", "seed") else "other"}
        with self.store(tmp_path) as store:
            store.finish(self.claimed(store), Evaluation(0.5))
            assert isinstance(store.claim(EvaluationKey(**changed), _LONG), Claim)

    def test_a_failed_measurement_without_a_score_is_a_record(self, tmp_path: Path) -> None:
        """Its score is not a number; what went wrong is kept."""
        with self.store(tmp_path) as store:
            broken = Evaluation(math.nan, error="out of memory", error_class="architecture")
            store.finish(self.claimed(store), broken)
            found = store.claim(KEY, _LONG)
        assert isinstance(found, Evaluation)
        assert math.isnan(found.score)
        assert (found.error, found.error_class) == ("out of memory", "architecture")

    def test_several_processes_may_make_it_at_once(self, tmp_path: Path) -> None:
        """They open what does not exist yet, at the same moment."""
        barrier = _FORK.Barrier(4)

        def open_it(answers: Any) -> None:
            barrier.wait(60)
            with self.store(tmp_path) as store:
                answers.put(len(store))

        assert _in_processes(*[open_it] * 4) == [0] * 4

    def test_of_two_processes_one_gets_the_claim(self, tmp_path: Path) -> None:
        """They ask for the same 40 keys at the same moments."""
        keys = [EvaluationKey("s", "t", str(i), 1, 0) for i in range(40)]
        barrier = _FORK.Barrier(2)
        self.store(tmp_path).close()

        def ask(answers: Any) -> None:
            with self.store(tmp_path) as store:
                barrier.wait(60)
                answers.put([isinstance(store.claim(key, _LONG), Claim) for key in keys])

        first, second = _in_processes(ask, ask)
        assert [a + b for a, b in zip(first, second, strict=True)] == [1] * len(keys)

    def test_a_killed_claimant_is_replaced_and_the_record_is_there_once(
        self, tmp_path: Path
    ) -> None:
        """Only when its lease ran out."""

        def die(answers: Any) -> None:
            self.claimed(self.store(tmp_path), 1.0)
            answers.put(True)
            answers.close()
            answers.join_thread()
            os.kill(os.getpid(), signal.SIGKILL)

        with self.store(tmp_path) as store:
            _in_processes(die, codes=[-signal.SIGKILL])
            busy = store.claim(KEY, _LONG)
            assert isinstance(busy, Busy)
            assert 0 < busy.seconds <= 1.0
            time.sleep(busy.seconds + 0.05)
            claim = self.claimed(store)
            assert claim.attempt == 2
            assert store.finish(claim, Evaluation(0.5))
            assert len(store) == 1

    def test_a_late_writer_writes_nothing_and_is_told_so(self, tmp_path: Path) -> None:
        """Its lease ran out and another has the claim: the attempt number fences it off."""
        with self.store(tmp_path) as late, self.store(tmp_path) as other:
            old = self.claimed(late, _SHORT)
            time.sleep(_SHORT + 0.1)
            new = self.claimed(other)
            assert not late.heartbeat(old)
            assert not late.fail(old, "architecture", "late")
            assert not late.release(old)
            assert not late.finish(old, Evaluation(0.1))
            assert isinstance(late.claim(KEY, _LONG), Busy)
            assert other.finish(new, Evaluation(0.9))
            assert not late.finish(old, Evaluation(0.1))
            assert late.get(KEY) == Evaluation(0.9)
            assert len(late) == 1

    def test_late_but_not_replaced_is_early_enough(self, tmp_path: Path) -> None:
        """Nobody else began: what was paid for is kept."""
        with self.store(tmp_path) as store:
            claim = self.claimed(store, 0.05)
            time.sleep(0.1)
            assert store.finish(claim, Evaluation(0.5))

    def test_heartbeats_keep_a_lease(self, tmp_path: Path) -> None:
        """As long as they come; a keeper sends them by itself."""
        with self.store(tmp_path) as store, self.store(tmp_path) as other:
            leases = LeaseKeeper(store, _SHORT)
            claim = self.claimed(store, _SHORT)
            with leases:
                leases.hold(claim)
                for _ in range(8):
                    time.sleep(_SHORT / 2)
                    assert isinstance(other.claim(KEY, _LONG), Busy)
                leases.drop(claim)
                time.sleep(_SHORT + 0.1)
                assert isinstance(other.claim(KEY, _LONG), Claim)

    def test_a_keeper_gives_back_what_it_still_holds(self, tmp_path: Path) -> None:
        """An interrupted search leaves no lease behind that others would wait for."""
        with self.store(tmp_path) as store:
            with LeaseKeeper(store, _LONG) as leases:
                leases.hold(self.claimed(store))
            assert self.claimed(store).attempt == 2

    def test_the_clock_of_the_claimant_does_not_matter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Leases run by the time of the database."""
        with self.store(tmp_path) as store:
            self.claimed(store)
            monkeypatch.setattr(time, "time", lambda: 4e9)
            assert isinstance(store.claim(KEY, _LONG), Busy)

    def test_transient_failures_are_tried_again_up_to_a_limit(self, tmp_path: Path) -> None:
        """Then the last failure is the record."""
        with self.store(tmp_path, 3) as store:
            for attempt in (1, 2, 3):
                claim = self.claimed(store)
                assert claim.attempt == attempt
                assert len(store) == 0
                assert store.fail(claim, "transient", f"lost connection {attempt}")
            found = store.claim(KEY, _LONG)
            assert len(store) == 1
        assert isinstance(found, Evaluation)
        assert (found.error, found.error_class) == ("lost connection 3", "transient")

    def test_lost_claimants_are_failures_too(self, tmp_path: Path) -> None:
        """What kills all who measure it is not tried for ever."""
        with self.store(tmp_path, 2) as store:
            for _ in range(2):
                self.claimed(store, 0.02)
                time.sleep(0.05)
            found = store.claim(KEY, _LONG)
        assert isinstance(found, Evaluation)
        assert found.error_class == "transient"
        assert "lost" in str(found.error)

    @pytest.mark.parametrize("error_class", ["architecture", "timeout"])
    def test_the_architectures_own_failure_is_its_result(
        self, tmp_path: Path, error_class: Any
    ) -> None:
        """Nobody tries again, and nobody can have it tried again."""
        with self.store(tmp_path) as store:
            assert store.fail(self.claimed(store), error_class, "diverged")
            assert store.requeue() == []
            found = store.claim(KEY, _LONG)
        assert isinstance(found, Evaluation)
        assert (found.error, found.error_class) == ("diverged", error_class)

    def test_out_of_memory_is_tried_once_more_with_a_smaller_batch(self, tmp_path: Path) -> None:
        """Then it is the result."""
        with self.store(tmp_path) as store:
            first = self.claimed(store)
            assert store.fail(first, "memory", "no memory")
            second = self.claimed(store)
            assert (first.smaller, second.smaller) == (False, True)
            assert store.fail(second, "memory", "no memory again")
            found = store.claim(KEY, _LONG)
        assert isinstance(found, Evaluation)
        assert (found.error, found.error_class) == ("no memory again", "memory")

    def test_a_mistake_of_the_user_is_not_tried_again_until_it_is_mended(
        self, tmp_path: Path
    ) -> None:
        """Everybody who asks is told what broke, and where."""
        with self.store(tmp_path) as store, self.store(tmp_path) as other:
            store.fail(self.claimed(store), "fatal", "no such table", "Traceback ...")
            found = other.claim(KEY, _LONG)
            assert isinstance(found, Evaluation)
            said = (found.error, found.error_class, found.traceback)
            assert said == ("no such table", "fatal", "Traceback ...")
            assert other.requeue("transient") == []
            assert other.requeue("fatal") == ["hash"]
            assert store.finish(self.claimed(store), Evaluation(0.5))

    def test_requeued_it_has_all_its_attempts_again(self, tmp_path: Path) -> None:
        """The dead are counted."""
        with self.store(tmp_path, 2) as store:
            for _ in range(2):
                store.fail(self.claimed(store), "transient", "lost connection")
            assert isinstance(store.claim(KEY, _LONG), Evaluation)
            assert store.requeue() == ["hash"]
            assert len(store) == 0
            store.fail(self.claimed(store), "transient", "lost connection")
            assert store.finish(self.claimed(store), Evaluation(0.5))

    def test_an_answer_that_was_lost_is_given_again(self, tmp_path: Path) -> None:
        """A claim or a record that was committed when the connection broke is asked for again."""
        with self.store(tmp_path) as store:
            claim = self.claimed(store)
            assert store.finish(claim, Evaluation(0.5))
            assert store.finish(claim, Evaluation(0.5))
            assert store.get(KEY) == Evaluation(0.5)

    def test_a_budget_is_kept_by_all_together(self, tmp_path: Path) -> None:
        """Several processes ask at once for more than there is; other searches count apart."""
        barrier = _FORK.Barrier(4)
        self.store(tmp_path).close()

        def ask(number: int, answers: Any) -> None:
            with self.store(tmp_path) as store:
                barrier.wait(60)
                asked = [f"{number % 3}-{i}" for i in range(20)]  # two ask for the same
                answers.put([one for one in asked if store.admit("s", one, 30)])

        admitted = _in_processes(*(partial(ask, number) for number in range(4)))
        all_together = {one for some in admitted for one in some}
        assert len(all_together) == 30
        with self.store(tmp_path) as store:
            assert store.admit("s", min(all_together), 30)
            assert not store.admit("s", "new", 30)
            assert store.admit("s", "new", 31)
            assert store.admit("other", "new", 1)

    def test_what_the_dead_were_admitted_for_is_taken_back(self, tmp_path: Path) -> None:
        """But for what is known, and what is being measured."""
        with self.store(tmp_path) as store:
            for name in ("known", "hash", "lost"):
                assert store.admit("s", name, 3)
            claim = self.claimed(store)
            store.forget("s", {"known", "never admitted"})
            assert store.admit("s", "new", 3)
            assert not store.admit("s", "lost", 3)
            store.release(claim)
            store.forget("s", {"known", "new"})
            assert store.admit("s", "lost", 3)

    def test_a_ring_is_heard_or_the_wait_ends(self, tmp_path: Path) -> None:
        """Nobody waits longer than told, and ringing harms nobody."""
        with self.store(tmp_path) as store:
            store.ring()
            begun = time.monotonic()
            store.wait(0.2)
            assert time.monotonic() - begun < 5

    def test_given_back_is_as_if_never_claimed(self, tmp_path: Path) -> None:
        """However often; only the attempt number goes on."""
        with self.store(tmp_path, 2) as store:
            for _ in range(5):
                assert store.release(self.claimed(store))
            old = self.claimed(store)
            store.release_all()
            new = self.claimed(store)
            assert not store.finish(old, Evaluation(0.1))
            assert store.finish(new, Evaluation(0.2))


def _in_processes(*works: Callable[[Any], None], codes: list[int] | None = None) -> list[Any]:
    """Fork once for each work; return what each put into its queue."""
    queues = [_FORK.Queue() for _ in works]
    pairs = zip(works, queues, strict=True)
    processes = [_FORK.Process(target=work, args=(queue,)) for work, queue in pairs]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for queue in queues]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == (codes or [0] * len(works))
    return found
