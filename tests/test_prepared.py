from __future__ import annotations

import threading
import time

import pytest

from nasplatform.errors import NotReadyError
from nasplatform.prepared import Prepared, nobody_waits


def hurried(prepared):
    with nobody_waits():
        return prepared.get()


def eventually(prepared):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            return hurried(prepared)
        except NotReadyError:
            time.sleep(0.01)
    raise AssertionError("waited in vain")


def test_it_is_made_once_and_waited_for():
    made = []
    prepared = Prepared("a table", lambda: made.append(1) or "it")
    assert prepared.get() == prepared.get() == hurried(prepared) == "it"
    assert made == [1]


def test_where_nobody_waits_a_thread_makes_it():
    go, made = threading.Event(), []

    def make():
        made.append(threading.current_thread())
        assert go.wait(20)
        return "it"

    prepared = Prepared("a table", make)
    for _ in range(3):
        with pytest.raises(NotReadyError, match="a table is being made: ask again"):
            hurried(prepared)
    go.set()
    assert eventually(prepared) == "it"
    assert len(made) == 1
    assert made[0].daemon  # the end of the program does not wait for it


def test_a_failure_is_told_and_tried_again():
    left = [OSError("no memory")]

    def make():
        if left:
            raise left.pop()
        return "it"

    prepared = Prepared("a table", make)
    with pytest.raises(NotReadyError):
        hurried(prepared)
    prepared._maker.join(20)
    with pytest.raises(NotReadyError, match=r"anew after a failure \(no memory\)"):
        hurried(prepared)
    assert eventually(prepared) == "it"


def test_haste_ends_with_its_block():
    with pytest.raises(NotReadyError):
        hurried(Prepared("a table", lambda: time.sleep(0.1)))
    assert Prepared("a table", lambda: "it").get() == "it"
