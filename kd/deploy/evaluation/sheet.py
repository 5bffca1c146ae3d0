"""The sheet of an evaluation: figures and costs of several nets, and the rows of its table."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from kd.deploy.cost.cost import Cost
from kd.deploy.evaluation.keys import key
from kd.deploy.evaluation.robustness import SEVERITIES, STRENGTHS
from kd.deploy.evaluation.words import in_words

FORMAT = 1
NONE = "–"


@dataclass(frozen=True)
class EvaluatedNet:
    """One column of the sheet.

    Attributes:
        role: `teacher`, `student` or `baseline`.
        name: of the net and the method that trained it.
        figures: by the keys of `kd.deploy.evaluation.keys`.
        cost: at inference.
    """

    role: str
    name: str
    figures: dict[str, Any]
    cost: Cost


@dataclass(frozen=True)
class Sheet:
    """All that an evaluation has found.

    Attributes:
        run: the run's folder, as given.
        data: name of the data set that was evaluated on.
        class_names: of the labels, in order.
        nets: the columns, teacher first.
        notes: what a reader has to know, in sentences.
        about: how the sheet was made: command, date, commit and versions.
        task: of the nets.
    """

    run: str
    data: str
    class_names: Sequence[str]
    nets: Sequence[EvaluatedNet]
    notes: Sequence[str] = ()
    about: dict[str, str] = field(default_factory=dict)
    task: str = "image_classification"

    def net(self, role: str) -> EvaluatedNet | None:
        """Return the net of a role; None if there is none."""
        return next((net for net in self.nets if net.role == role), None)

    def content(self) -> dict[str, Any]:
        """Return the sheet as the content of evaluation.json."""
        content = asdict(self)
        for net, each in zip(self.nets, content["nets"], strict=True):
            each["cost"]["noisy"] = net.cost.noisy
        return {"format": FORMAT, **content}


class Row(NamedTuple):
    """A row of the table: a heading, one text a net, and the definition of the figure."""

    heading: str
    cells: list[str]
    definition: str


def sections(sheet: Sheet) -> dict[str, list[Row]]:
    """Return the rows of the table by section; a figure that no net has is left out."""
    found = {
        title: [_figure_row(sheet, *spec) for spec in specs] for title, specs in _FIGURES.items()
    }
    found["Robustness"] = [_figure_row(sheet, *spec) for spec in _corruptions()]
    found["Cost"] = [
        Row(heading, [text(net.cost) for net in sheet.nets], meaning)
        for heading, text, meaning in _cost_rows(sheet)
    ]
    kept = {
        title: [row for row in rows if any(cell != NONE for cell in row.cells)]
        for title, rows in found.items()
    }
    return {
        title: [_of_task(row, sheet.task) for row in rows] for title, rows in kept.items() if rows
    }


def _of_task(row: Row, task: str) -> Row:
    return Row(in_words(row.heading, task), row.cells, in_words(row.definition, task))


def per_class(sheet: Sheet) -> list[Row]:
    """Return the accuracy by class, a row a class; none of nets that do not classify."""
    if any("acc_per_class" not in net.figures for net in sheet.nets):
        return []
    return [
        Row(name, [_percent(net.figures["acc_per_class"][k]) for net in sheet.nets], "")
        for k, name in enumerate(sheet.class_names)
    ]


def _percent(value: Any) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _number(value: Any) -> str:
    return NONE if value is None else f"{value:.4f}"


def _count(value: Any) -> str:
    return NONE if value is None else f"{value:,}".replace(",", " ")


_FIGURES: dict[str, list[tuple[str, str, Callable[[Any], str]]]] = {
    "Quality": [
        ("test images", "images", _count),
        ("accuracy", "acc", _percent),
        ("top-5 accuracy", "acc_top5", _percent),
        ("mAP", "map", _percent),
        ("mAP50", "map50", _percent),
    ],
    "Fidelity to the teacher": [
        ("agreement", "agreement", _percent),
        ("agreement, teacher right", "agreement/teacher_right", _percent),
        ("agreement, teacher wrong", "agreement/teacher_wrong", _percent),
        ("KL divergence, nats", "kl", _number),
        ("linear CKA", "cka", _number),
        ("linear CKA, debiased", "cka_debiased", _number),
    ],
    "Calibration": [
        ("ECE", "ece", _percent),
        ("adaptive ECE", "ece_adaptive", _percent),
        ("NLL, nats", "nll", _number),
        ("Brier score", "brier", _number),
        ("best temperature", "temperature", _number),
        ("ECE at that temperature", "ece/tempered", _percent),
        ("NLL at that temperature", "nll/tempered", _number),
    ],
}


def _corruptions() -> list[tuple[str, str, Callable[[Any], str]]]:
    each = [(f"{c}, strength {s}", f"acc/{c}/{s}", _percent) for c in SEVERITIES for s in STRENGTHS]
    return [("mean of all corruptions", "acc/corrupted", _percent), *each]


def _figure_row(sheet: Sheet, heading: str, name: str, text: Callable[[Any], str]) -> Row:
    documented = key(name)
    assert documented is not None, name
    cells = [text(net.figures.get(name)) for net in sheet.nets]
    return Row(heading, cells, _by_headings(documented.meaning))


def _by_headings(meaning: str) -> str:
    """Name figures by their headings, where the table of the keys has `key` and null."""
    for heading, name, _ in (spec for specs in _FIGURES.values() for spec in specs):
        meaning = meaning.replace(f"`{name}`", heading.removesuffix(", nats"))
    return meaning.replace("null", NONE)


def _cost_rows(sheet: Sheet) -> list[tuple[str, Callable[[Cost], str], str]]:
    rows: list[tuple[str, Callable[[Cost], str], str]] = [
        ("parameters", lambda c: _count(c.parameters), "all parameters of the net at inference"),
        (
            "MACs, one image",
            lambda c: _count(c.macs),
            "multiply-accumulate operations: half of the FLOPs that torch counts in convolutions, "
            "matrix products and attention",
        ),
        ("weights file, kB", lambda c: f"{c.file_bytes / 1e3:.1f}", "safetensors, 1 kB = 1000 B"),
    ]
    for batch in sheet.nets[0].cost.latency:
        rows += _timed_rows(batch)
    return rows


def _timed_rows(batch: int) -> list[tuple[str, Callable[[Cost], str], str]]:
    def milliseconds(seconds: float, cost: Cost) -> str:
        return f"{seconds:.3f}{' (noisy)' if cost.latency[batch].noisy else ''}"

    return [
        (
            f"latency p50, batch {batch}, ms",
            lambda c: milliseconds(c.latency[batch].p50_ms, c),
            "median over calls after warm-up, on normalised images; noisy: by more than 15 % two "
            "measurements differ, the median exceeds the fastest tenth, or the process was kept "
            "from the processor",
        ),
        (
            f"latency p95, batch {batch}, ms",
            lambda c: milliseconds(c.latency[batch].p95_ms, c),
            "95th percentile over the same calls",
        ),
        (
            f"images/s, batch {batch}",
            lambda c: f"{c.latency[batch].images_per_second:.0f}",
            "images of a call over its median time",
        ),
        (
            f"peak memory, batch {batch}, kB",
            lambda c: f"{c.peak_bytes[batch] / 1e3:.1f}",
            "most bytes of tensors that a call holds at a time, its output included, by torch's "
            "profiler; without the weights and the images",
        ),
    ]
