"""A guide's recipes on CIFAR-10: ResNet-34 → ResNet-18, an ensemble, a chain, MobileNetV2."""

from pathlib import Path

import comparison as compare

from reproductions.experiment import Experiment, Runs

# 5 000 images, 4 epochs and bf16: hours on two cores, not weeks
SCALE = [
    *("data.train_samples=5000", "data.batch_size=64", "teacher.training.batch_size=64"),
    *("trainer.max_epochs=4", "trainer.precision=bf16-mixed"),
    *("teacher.training.trainer.max_epochs=4", "teacher.training.trainer.precision=bf16-mixed"),
]
CONFIG = ["experiment=cifar_resnet34", *SCALE]
HALF = [*CONFIG, "student=resnet18_half"]
MOBILE = ["experiment=mobile", *SCALE]
ROWS = {
    "ce": [*CONFIG, "method=ce"],
    "kd": [*CONFIG],
    "feature": [*CONFIG, "method=feature", "method.temperature=3", "method.alpha=0.7"],
    "at": [*CONFIG, "method=at", "method.temperature=3"],
    "ensemble": [*CONFIG, "teacher=ensemble", "teacher.members=[resnet34,vgg16,densenet121]"],
    "half_ce": [*HALF, "method=ce"],
    "half_kd": HALF,
    "half_chain": [*CONFIG, "stages=[resnet34,resnet18,resnet18_half]"],
    "mobile_ce": [*MOBILE, "method=ce"],
    "mobile_kd": MOBILE,
}
GROUPS = {
    "ResNet-18 under ResNet-34": ("ce", "kd", "feature", "at", "ensemble"),
    "ResNet-18 of half the width": ("half_ce", "half_kd", "half_chain"),
    "MobileNetV2 under ResNet-50": ("mobile_ce", "mobile_kd"),
}
PUBLISHED = {"mobile_ce": "91.5", "mobile_kd": "93.8", "ensemble": "86.1"}
COLUMNS = (
    *("row", "seeds", "teacher", "test accuracy", "against labels alone, same seeds"),
    *("parameters", "guide"),
)


def tables(runs: Runs, folder: Path) -> str:
    """Format a table for each student."""
    return "\n\n".join(f"**{title}**\n\n{_table(runs, rows)}" for title, rows in GROUPS.items())


def _table(runs: Runs, rows: tuple[str, ...]) -> str:
    lines = []
    for row in rows:
        if row in runs:
            found = runs[row]
            teacher = found[0].get("teacher/test/acc")
            lines.append(
                [
                    f"`{row}`",
                    str(len(found)),
                    "–" if teacher is None else f"{100 * teacher:.2f}",
                    compare.spread([*compare.scores(found).values()]),
                    compare.interval(runs, row, rows[0]),
                    compare.grouped(found[0]["student/params"]),
                    PUBLISHED.get(row, "–"),
                ]
            )
    return compare.markdown(COLUMNS, lines, [])


EXPERIMENT = Experiment(ROWS, seeds=range(3), tables=tables)
