"""The contract of executors, on every one that is registered."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from nasplatform import plugins
from nasplatform.testing.executors import ExecutorContract


class TestInline(ExecutorContract):
    executor_name = "inline"


class TestProcess(ExecutorContract):
    executor_name = "process"
    options: ClassVar[dict[str, Any]] = {"workers": 2}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestRay(ExecutorContract):
    executor_name = "ray"
    options: ClassVar[dict[str, Any]] = {"max_in_flight": 2}


def test_no_built_in_executor_is_left_out() -> None:
    tested = {kind.executor_name for kind in ExecutorContract.__subclasses__()}
    assert tested == set(plugins.names("executors"))
