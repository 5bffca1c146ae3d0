"""PyTorch's tutorial on CIFAR-10: DeepNN teaches LightNN, by three terms and at T = 1 … 20.

https://pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html
"""

from collections.abc import Iterator
from pathlib import Path

import comparison as compare
from matplotlib.figure import Figure

from kd.plots.style import Theme
from reproductions.experiment import Experiment, Runs
from reproductions.figures import curves

# The teacher trains in bf16, which takes half the time; students in fp32
BF16 = "teacher.training.trainer.precision=bf16-mixed"
CONFIG = ["experiment=cifar_tutorial", BF16]
TEMPERATURES = (1, 2, 4, 8, 12, 20)
FLAT = ["+student.taps.flat=flatten", "+teacher.taps.flat=flatten"]
JOINT = ["method.joint=true", "method.alpha=0", "method.weights.hard=0.75", "method.beta=0.25"]
ROWS = {
    "ce": [*CONFIG, "method=ce"],
    "soft_ce": CONFIG,
    "cosine": [*CONFIG, "method=cosine", "method.tap=flat", *FLAT],
    "regressor": [*CONFIG, "method=fitnet", *JOINT],
    **{f"T{t}": [*CONFIG, f"method.temperature={t}"] for t in TEMPERATURES if t != 2},
}


def tables(runs: Runs, folder: Path) -> str:
    """Format the accuracies of the four students, and those on validation by temperature."""
    return "\n\n".join([_methods(runs), _temperatures(runs)])


def _methods(runs: Runs) -> str:
    taught = {r["teacher/test/acc"] for r in runs.get("soft_ce", [])}
    teacher = ", ".join(f"{100 * value:.2f}" for value in sorted(taught))
    lines = [["teacher, `deepnn`", str(len(taught)), teacher, "–", "75.55"]]
    for row in ("ce", "soft_ce", "cosine", "regressor"):
        if row in runs:
            scores = [*compare.scores(runs[row]).values()]
            difference = compare.interval(runs, row, "ce")
            lines.append([f"`{row}`", str(len(scores)), compare.spread(scores), difference, "–"])
    columns = ("net", "seeds", "test accuracy", "against `ce`, same seeds", "document")
    return compare.markdown(columns, lines, [])


def by_temperature(runs: Runs) -> Iterator[tuple[int, list[float], list[float]]]:
    """Yield T with the accuracies on validation and test of the seeds 0, 1 and 2, in percent."""
    for temperature in TEMPERATURES:
        results = runs.get("soft_ce" if temperature == 2 else f"T{temperature}", [])
        chosen = [result for result in results if result["seed"] < 3]
        if chosen:
            columns = [[100 * result[key] for result in chosen] for key in ("val/acc", "test/acc")]
            yield temperature, columns[0], columns[1]


def _temperatures(runs: Runs) -> str:
    lines = [
        [str(temperature), str(len(val)), compare.spread(val), compare.spread(test)]
        for temperature, val, test in by_temperature(runs)
    ]
    return compare.markdown(("T", "seeds", "validation", "test"), lines, [])


def figure(runs: Runs, theme: Theme) -> Figure:
    """Draw the accuracies on validation and test by temperature."""
    points = [*by_temperature(runs)]
    val = {str(temperature): values for temperature, values, _ in points}
    test = {str(temperature): values for temperature, _, values in points}
    return curves({"validation": val, "test": test}, "temperature", "accuracy, %", theme)


EXPERIMENT = Experiment(ROWS, seeds=range(5), tables=tables, figure=figure)
