"""A study's 3 × 3: half-width students of three families under a teacher of each, on CIFAR-10.

Its schedules: VGG-16 with steps and momentum 0.9, ResNet-18 and DenseNet-121 with a cosine and
momentum 0.95. Its DenseNets have ImageNet's stem, as their parameters tell.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

import comparison as compare
from matplotlib.figure import Figure

from kd.plots.style import Theme
from reproductions.experiment import Experiment, Runs
from reproductions.figures import Gain, gains

# 5 000 images, 10 epochs and bf16 in place of 50 000, 100 and fp32: hours on two cores, not weeks
SCALE = [
    *("data.train_samples=5000", "trainer.max_epochs=10", "trainer.precision=bf16-mixed"),
    *("teacher.training.trainer.max_epochs=10", "teacher.training.trainer.precision=bf16-mixed"),
]
TEACHERS = {
    "vgg": [
        *("teacher=vgg16", "teacher.training.optimizer.momentum=0.9"),
        "scheduler@teacher.training.scheduler=step",
    ],
    "resnet": ["teacher=resnet18"],
    "densenet": ["teacher=densenet121", "teacher.net.stem=imagenet"],
}
STUDENTS = {
    "vgg": ["student=vgg16_half", "optimizer.momentum=0.9", "scheduler=step"],
    "resnet": ["student=resnet18_half"],
    "densenet": ["student=densenet121_half", "student.net.stem=imagenet"],
}
CONFIG = ["experiment=cifar_families", *SCALE]
ALONE = {
    f"{student}_alone": [*CONFIG, *own, *TEACHERS[student], "method=ce"]
    for student, own in STUDENTS.items()
}
TAUGHT = {
    f"{student}_under_{teacher}": [*CONFIG, *own, *theirs]
    for student, own in STUDENTS.items()
    for teacher, theirs in TEACHERS.items()
}
# Test accuracies of the study, on its two machines
PUBLISHED_TEACHERS = {"vgg": (92.72, 93.40), "resnet": (94.49, 94.36), "densenet": (88.36, 88.30)}
PUBLISHED_ALONE = {"vgg": (91.52, 92.12), "resnet": (93.31, 93.16), "densenet": (86.46, 86.48)}
PUBLISHED_GAINS = {
    "vgg": {"vgg": (0.46, -0.49), "resnet": (0.34, -0.25), "densenet": (0.03, -0.44)},
    "resnet": {"vgg": (0.17, 0.41), "resnet": (0.30, 0.42), "densenet": (-0.17, 0.26)},
    "densenet": {"vgg": (0.59, 0.08), "resnet": (0.40, -0.14), "densenet": (0.33, -0.17)},
}


def tables(runs: Runs, folder: Path) -> str:
    """Format teachers and students alone, and a line for each pair."""
    return "\n\n".join([_nets(runs), _pairs(runs)])


def _nets(runs: Runs) -> str:
    lines = []
    for family in TEACHERS:
        taught = [r for student in STUDENTS for r in runs.get(f"{student}_under_{family}", [])]
        if taught:
            accuracy = f"{100 * taught[0]['teacher/test/acc']:.2f}"
            seconds = max(
                result["teacher/seconds"] for result in taught
            )  # of the run that trained it
            cells = [compare.grouped(taught[0]["teacher/params"]), "1", accuracy, f"{seconds:.0f}"]
            lines.append([f"{family}, teacher", *cells, *_two(PUBLISHED_TEACHERS[family])])
        if found := runs.get(f"{family}_alone", []):
            scores = compare.spread([*compare.scores(found).values()])
            seconds = statistics.median(result["fit_seconds"] for result in found)
            cells = [compare.grouped(found[0]["student/params"]), str(len(found)), scores]
            cells += [f"{seconds:.0f}", *_two(PUBLISHED_ALONE[family])]
            lines.append([f"{family}, student alone", *cells])
    columns = ("net", "parameters", "seeds", "test accuracy", "seconds", "study, VCL", "Colab")
    return compare.markdown(columns, lines, [])


def _pairs(runs: Runs) -> str:
    columns = (
        *("student", "teacher", "seeds", "test accuracy", "gain over the student alone"),
        *("study, VCL", "Colab", "compression", "seconds"),
    )
    return compare.markdown(columns, [*_lines(runs)], [])


def _lines(runs: Runs) -> Iterator[list[str]]:
    for student, theirs in PUBLISHED_GAINS.items():
        for teacher, published in theirs.items():
            row = f"{student}_under_{teacher}"
            if row in runs:
                found = runs[row]
                size = found[0]["student/params"] / found[0]["teacher/params"]
                seconds = statistics.median(result["fit_seconds"] for result in found)
                scores = compare.spread([*compare.scores(found).values()])
                gain = compare.interval(runs, row, f"{student}_alone")
                cells = [student, teacher, str(len(found)), scores, gain]
                yield [*cells, *_two(published, "+"), f"{size:.2f}", f"{seconds:.0f}"]


def _two(values: tuple[float, float], sign: str = "") -> list[str]:
    return [f"{value:{sign}.2f}" for value in values]


def figure(runs: Runs, theme: Theme) -> Figure:
    """Draw the gain of every pair beside the study's."""
    found = []
    for student, published in PUBLISHED_GAINS.items():
        alone = compare.scores(runs.get(f"{student}_alone", []))
        for teacher, theirs in published.items():
            taught = compare.scores(runs.get(f"{student}_under_{teacher}", []))
            points = [taught[seed] - alone[seed] for seed in taught.keys() & alone.keys()]
            if points:
                found.append(Gain(f"{student} under {teacher}", points, theirs))
    return gains(found, "gain in points; crosses: the study, on its two machines", theme)


EXPERIMENT = Experiment(ALONE | TAUGHT, seeds=range(3), tables=tables, figure=figure)
