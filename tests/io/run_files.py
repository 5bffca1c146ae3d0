"""A run's folder with every file that a run writes."""

from pathlib import Path

OWN = (
    *("result.json", "student.safetensors", "peer1.safetensors", "branch2.safetensors"),
    *("checkpoints/last.ckpt", "checkpoints/best.ckpt", "csv/metrics.csv", "csv/hparams.yaml"),
    *("epochs/epoch_0001.safetensors", "figures/confusion.svg", "figures/dark-knowledge-dark.png"),
    *("events.out.tfevents.1795832981.vm.23315.2", "hparams.yaml", "train.log", "basis.txt"),
    *(".hydra/config.yaml", ".hydra/overrides.yaml", ".lock", "checkpoints/.last.ckpt.47.tmp"),
)


def filled(folder: Path) -> Path:
    for name in OWN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"status": "completed"}')
    roles = "".join(f"{key}: {{}}\n" for key in ("data", "method", "mode", "student", "teacher"))
    (folder / ".hydra" / "config.yaml").write_text(f"{roles}trainer: {{}}\n")
    return folder


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
