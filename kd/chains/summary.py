"""The content of chain.json: results of all stages, and the chain's own."""

from collections.abc import Sequence
from typing import Any

from kd.chains.stage import ChainStage
from kd.io.result_file import read_result
from kd.io.task_figures import task_figure, task_of

CHAIN = "chain.json"
ChainResult = dict[str, Any]

_LAST_STAGE = ("test/ece", "test/nll", "test/map50", "student/params")
_SUMS = ("epochs", "fit_seconds", "teacher_forwards")


def stage_result(stage: ChainStage) -> dict[str, Any]:
    """Return a stage's result; status `missing` if it has none."""
    return {"status": "missing"} | (read_result(stage.folder) or {})


def chain_result(stages: Sequence[ChainStage]) -> ChainResult:
    """Summarise a chain, finished or not.

    Returns:
        The last stage's accuracies, the costs of all stages together, and every stage's result
        under `runs`.
    """
    runs = [
        {
            "stage": stage.folder.name,
            "teacher/epoch": stage.cfg.teacher.epoch,
            **stage_result(stage),
        }
        for stage in stages
    ]
    finished = [run for run in runs if run["status"] == "completed"]
    complete = len(finished) == len(runs)
    # The chain's teacher is the first net, its student the last.
    first, last = stages[0].cfg, stages[-1].cfg
    result: ChainResult = {"status": "completed" if complete else "failed"}
    result |= {role: last[role].name for role in ("method", "student", "data", "mode")}
    result["task"] = task_of(runs[-1])
    result |= {"teacher": first.teacher.name, "seed": min(stage.cfg.seed for stage in stages)}
    if complete:
        figure = task_figure(runs[-1])
        keys = (figure.val, figure.test, *_LAST_STAGE)
        result |= {key: runs[-1][key] for key in keys if key in runs[-1]}
    else:
        failed = next(run for run in runs if run["status"] != "completed")
        result["error"] = f"stage {failed['stage']}: {failed.get('error', failed['status'])}"
    # round: sums of seconds recorded with three decimals gain floating-point noise.
    result |= {key: round(sum(run[key] for run in finished), 3) for key in _SUMS}
    return result | {"runs": runs}
