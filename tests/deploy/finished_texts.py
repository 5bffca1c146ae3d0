"""A short finished run on texts, for the commands that use it."""

from functools import cache
from pathlib import Path

from support import composed

from kd.training.run import run

KINDS = {"fruit": "apple pear plum fig", "tool": "saw drill file rasp", "pet": "cat dog fox eel"}
_TEACHER = ("teacher.net.dim=8", "teacher.net.depth=1")
NETS = (*_TEACHER, "student.net.dim=8", "student.net.filters=5")


def table(path: Path, count: int = 180) -> Path:
    """Write a table of texts of one to twelve words, each with a word of its class."""
    rows = ["text,label"]
    for number in range(count):
        label = [*KINDS][number % 3]
        word = KINDS[label].split()[number // 3 % 4]
        rows.append(f"{word} {'and so on ' * (number % 5)},{label}")
    path.write_text("\n".join(rows))
    return path


@cache
def finished_texts(output: Path, *overrides: str, nets: tuple[str, ...] = NETS) -> Path:
    """Train a small text_cnn for some epochs beside a transformer; returns the run's folder."""
    folder = output / "runs" / f"texts{len(overrides)}"
    output.mkdir(exist_ok=True)
    options = [
        *("data=text", f"data.root={table(output / 'own.csv')}", "data.max_length=12"),
        *("data.cache_dir=${paths.output}/texts", *nets, "trainer=cpu", "logger=none"),
        *("trainer.enable_progress_bar=false", "trainer.max_epochs=2", "optimizer.lr=0.01"),
        *("teacher.training.trainer.max_epochs=1", "data.batch_size=32", "method=kd"),
        *(f"paths.output={output}", f"paths.run={folder}", *overrides),
    ]
    cfg = composed(*options)
    run(cfg, folder, overrides=options)
    return folder
