"""A worker process: requests come in as lines of JSON, answers go out as lines of JSON.

    in   {"request": {...}, "reports": true}      one at a time
    out  {"kind": "ready"}                        once, when everything is imported
         {"kind": "progress", "step": [done, total, words]}
         {"kind": "report", "epochs": 3, "score": 0.5}    answered by  {"stop": false}
         {"kind": "result", "evaluation": {...}}

It ends with its input, also in the middle of a measurement: nobody is left to hear of it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any, TextIO

from nasplatform.evaluators.base import Evaluator
from nasplatform.executors.base import EvaluationRequest
from nasplatform.executors.measure import measure


def main() -> None:
    """Serve requests until the input ends."""
    out = _claim_output()
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    made: dict[str, Evaluator[Any]] = {}

    def say(kind: str, **values: Any) -> None:
        out.write(json.dumps({"kind": kind, **values}) + "\n")
        out.flush()

    def report(epochs: int, score: float) -> bool:
        say("report", epochs=epochs, score=score)
        return bool(json.loads(lines.get())["stop"])

    say("ready")
    while True:
        job = json.loads(lines.get())
        request = EvaluationRequest.model_validate(job["request"])
        evaluation = measure(
            request,
            made,
            report if job["reports"] else None,
            lambda done, total, words: say("progress", step=[done, total, words]),
        )
        say("result", evaluation=asdict(evaluation))


def _claim_output() -> TextIO:
    """Keep standard output for the answers; what evaluators print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _read(lines: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
