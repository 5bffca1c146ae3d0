"""MNIST: an MLP of 1 200 units teaches one of 800, with all digits and without any 3.

The second experiment is that of Hinton et al. 2015, §3 (https://arxiv.org/abs/1503.02531): a
student that never saw a 3 calls too few images a 3, because the bias of that class is far too low.
A constant is added to the logit of the 3; it is chosen on validation images.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import comparison as compare
import numpy as np
from comparison import Result
from numpy.typing import NDArray

from kd.io.checksums import write_json
from reproductions.experiment import Experiment, Runs

LEFT_OUT = 3
CORRECTED = "corrected.json"
# The teacher has the student's seed, so that the spread is that of the whole experiment.
TEACHER = "teacher.training.seed={seed}"
ROWS = {
    "ce": ["experiment=mnist_mlp", "method=ce", TEACHER],
    "kd": ["experiment=mnist_mlp", TEACHER],
    "kd_without_3": ["experiment=mnist_without_3", TEACHER],
    "ce_without_3": ["experiment=mnist_without_3", "method=ce", TEACHER],
    # The teacher's net as the document trains it
    "constant": ["experiment=mnist_mlp", "method=ce", "student=mlp1200", "scheduler=constant"],
}
Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def correct(row: str, folder: Path) -> None:
    """Write accuracies with a corrected bias of the class that a run was trained without."""
    from kd.deploy.evaluation.predictions import predict
    from kd.deploy.finished_run import FinishedRun

    if not row.endswith("without_3"):
        return
    run = FinishedRun(folder)
    val, test = (predict(run.student, run.data, split) for split in ("val", "test"))
    bias = best_bias(val.logits.numpy(), val.targets.numpy())
    figures = accuracies(test.logits.numpy(), test.targets.numpy(), bias)
    write_json(folder / CORRECTED, {"bias": bias, **figures})


def best_bias(logits: Logits, labels: Labels) -> float:
    """Return the constant of steps of 0.1 from 0 to 30 with the best accuracy; the least of equals.

    Args:
        logits: of validation images [N, K].
        labels: [N].
    """
    steps = [round(0.1 * step, 1) for step in range(301)]
    return max(steps, key=lambda bias: (accuracies(logits, labels, bias)["acc"], -bias))


def accuracies(logits: Logits, labels: Labels, bias: float) -> dict[str, float]:
    """Return the accuracy on all images and on those of the class, with a constant on its logit."""
    shifted = logits.astype(np.float64)
    shifted[:, LEFT_OUT] += bias
    right = shifted.argmax(1) == labels
    return {"acc": float(right.mean()), "acc_left_out": float(right[labels == LEFT_OUT].mean())}


def tables(runs: Runs, folder: Path) -> str:
    """Format the accuracies with all digits, and those without 3s."""
    return "\n\n".join([_all_digits(runs), _without(runs, folder)])


def _all_digits(runs: Runs) -> str:
    taught = {result["seed"]: 100 * result["teacher/test/acc"] for result in runs.get("kd", [])}
    lines = [["teacher", str(len(taught)), compare.spread([*taught.values()]), "–", "–"]]
    if "constant" in runs:
        scores = [*compare.scores(runs["constant"]).values()]
        cells = [str(len(scores)), compare.spread(scores), "–", "97.9"]
        lines.append(["teacher's net, constant learning rate", *cells])
    for row, published in (("ce", "98.0"), ("kd", "98.1")):
        if row in runs:
            scores = [*compare.scores(runs[row]).values()]
            difference = compare.interval(runs, row, "ce")
            lines.append(
                [f"`{row}`", str(len(scores)), compare.spread(scores), difference, published]
            )
    columns = ("net", "seeds", "test accuracy", "against `ce`, same seeds", "document")
    return compare.markdown(columns, lines, [])


def _without(runs: Runs, folder: Path) -> str:
    lines = []
    for row in ("ce_without_3", "kd_without_3"):
        found = runs.get(row, [])
        before, threes = _percent(found, "test/acc"), [_threes(result) for result in found]
        lines.append([f"`{row}`", "no", compare.spread(before), compare.spread(threes), "–"])
        files = [folder / f"{row}_s{result['seed']}" / CORRECTED for result in found]
        after = [json.loads(file.read_text()) for file in files if file.exists()]
        if after:
            figures = [_percent(after, key) for key in ("acc", "acc_left_out")]
            biases = compare.spread([each["bias"] for each in after])
            lines.append([f"`{row}`", "yes", *map(compare.spread, figures), biases])
    columns = ("student", "bias corrected", "test accuracy", "of the 3s", "constant")
    return compare.markdown(columns, lines, [])


def _percent(results: Sequence[Result], key: str) -> list[float]:
    return [100 * result[key] for result in results]


def _threes(result: Result) -> float:
    return float(100 * result["test/acc_per_class"][LEFT_OUT])


EXPERIMENT = Experiment(ROWS, seeds=range(5), tables=tables, after=correct, files=(CORRECTED,))
