"""Run folders as `kd.train` leaves them, without training, and the reports made of them."""

import json
from pathlib import Path
from typing import Any

import torch

from kd.io.predictions import prediction_bytes
from kd.reports.about import About
from kd.reports.find import find_runs
from kd.reports.leaderboard import Leaderboard, build_leaderboard
from kd.reports.rows import Row
from kd.reports.write import Forms, write_report

CONFIG = """\
data:
  _target_: kd.data.digits.Digits
  name: {data}
  seed: ${{seed}}
  mean:
  - 0.3
teacher:
  name: {teacher}
  training:
    seed: 0
student:
  name: {student}
  net:
    _target_: kd.models.resnet_cifar.resnet_cifar
    width: {width}
method:
  name: {method}
{knobs}
mode:
  name: offline
trainer:
  max_epochs: {epochs}
  enable_progress_bar: {bar}
paths:
  run: ${{hydra:runtime.output_dir}}
seed: {seed}
"""


def write_run(folder: Path, accuracy: float | None = None, **changes) -> Path:
    """Write a run folder; a change of an unknown name becomes a key of its result.json.

    Without an accuracy and a status the run has no result yet.
    """
    about: dict[str, Any] = {
        "method": "kd",
        "teacher": "resnet20",
        "student": "resnet8",
        "data": "digits",
    }
    about |= {"seed": 0, "width": 1.0, "epochs": 3, "bar": True, "knobs": {}, "curve": None}
    extra = {k: v for k, v in changes.items() if k not in about}
    about |= {k: v for k, v in changes.items() if k in about}
    knobs = "\n".join(f"  {k}: {v}" for k, v in about["knobs"].items()) or "  unused: 0"
    (folder / ".hydra").mkdir(parents=True)
    config = CONFIG.format(**(about | {"knobs": knobs}))
    (folder / ".hydra" / "config.yaml").write_text(config)
    overrides = [f"method={about['method']}", "trainer=cpu", f"seed={about['seed']}"]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
    if about["curve"] is not None:
        lines = [f"{epoch},{value}\n{epoch},\n" for epoch, value in enumerate(about["curve"])]
        (folder / "csv").mkdir()
        (folder / "csv" / "metrics.csv").write_text("epoch,val/acc\n" + "".join(lines))
    if accuracy is None and "status" not in extra:
        return folder
    taught = about["method"] != "ce"
    result: dict[str, Any] = {k: about[k] for k in ("method", "student", "data", "seed")}
    result |= {"status": "completed", "mode": "offline", "config_hash": f"{folder}"}
    result |= {"teacher": about["teacher"] if taught else "none", "git_commit": "a" * 40}
    if extra.get("task") != "detection":
        result |= {"test/acc": accuracy, "val/acc": accuracy}
        result["teacher/test/acc"] = 0.99 if taught else None
    result |= {"student/params": 77754, "fit_seconds": 10.0}
    result |= {"images_per_second": 2000.0, "teacher_forwards": 100 if taught else 0}
    result |= {"versions": {"torch": "2.6"}}
    (folder / "result.json").write_text(json.dumps(result | extra))
    return folder


def write_sweep(folder: Path, **accuracies: list[float]) -> Path:
    """Write one run for each method and seed."""
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            write_run(folder / f"{method}_s{seed}", value, method=method, seed=seed)
    return folder


def keep_predictions(folder: Path, right: str, teacher: str = "") -> Path:
    """Add test predictions to a run folder: `1` for an image that is right, `0` for a wrong one.

    All labels are 0, a student that is wrong predicts 1; a teacher `1` is right, `0` predicts 1 as
    the student does, and `x` predicts 2.
    """
    classes = {"1": [3.0, 0.0, 0.0], "0": [0.0, 3.0, 0.0], "x": [0.0, 0.0, 3.0]}
    student, theirs = (torch.tensor([classes[c] for c in word]) for word in (right, teacher))
    labels = torch.zeros(len(right), dtype=torch.int64)
    content = prediction_bytes(labels, student, theirs if teacher else None)
    (folder / "test_predictions.safetensors").write_bytes(content)
    return folder


def leaderboard(
    folder: Path, baseline: str | None = None, detect: float | None = None
) -> Leaderboard:
    return build_leaderboard(find_runs([folder]), baseline, samples=200, seed=0, detect=detect)


def row_of(board: Leaderboard, label: str, group: str | None = None) -> Row:
    groups = [g for g in board.groups if group in (None, g.title)]
    (row,) = [row for g in groups for row in g.rows if row.label == label]
    return row


TABLES = Forms(figures=False)
ABOUT = About("python -m kd.report", ["sweep"], 200, "today")


def report_texts(output: Path, board: Leaderboard, forms: Forms = TABLES) -> dict[str, str]:
    """Write a report without figures; return its files' texts by suffix: md, csv, html."""
    write_report(board, ABOUT, output, forms)
    return {path.suffix[1:]: path.read_text() for path in output.iterdir()}
