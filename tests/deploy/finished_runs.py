"""Short finished runs of several kinds, for the commands that use them."""

from pathlib import Path

from support import configured

from kd.training.run import run

KINDS: dict[str, list[str]] = {
    "ce": ["method=ce"],
    "kd": ["method=kd"],
    "crld": ["method=crld"],
    "ensemble": [
        "teacher=ensemble",
        "teacher.members=[resnet8,resnet14]",
        "teacher.training.trainer.max_epochs=1",
    ],
    "online": ["mode=online", "method=kd"],
    "simkd": ["method=simkd"],
    "byot": ["mode=byot", "method=kd"],
}


def finished_run(kind: str, output: Path, *overrides: str) -> Path:
    """Train a student of width 0.5 for an epoch on the digits; returns the run's folder."""
    folder = output / "runs" / "_".join([kind, *overrides]).replace("=", "-").replace("/", "-")
    if not (folder / "result.json").is_file():
        teacher = () if kind in ("ensemble", "online", "byot") else ("teacher=resnet8",)
        options = [*KINDS[kind], "trainer.max_epochs=1", *overrides]
        run(configured(folder, output, *options, teacher=teacher), folder, overrides=options)
    return folder
