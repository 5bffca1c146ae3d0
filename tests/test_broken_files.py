"""Broken files of every kind, through the commands that read them.

Each case ends in a result or in one message, in time, and nothing of the user's is lost. The
default run uses what needs no training; the slow test trains, resumes, chains and searches as well.
KD_BROKEN_FILES=1000 makes that many cases, from number KD_BROKEN_FILES_FROM on, and
KD_BROKEN_FILES_LOG names a file for their outcomes.
"""

import contextlib
import os
import random
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import breaking
import pytest
from support import LIMIT, within

import kd
import kd.cache
import kd.chain
import kd.report
import kd.search
import kd.train
from kd.errors import UserError

CASES = int(os.environ.get("KD_BROKEN_FILES", "60"))
FIRST, LOG = int(os.environ.get("KD_BROKEN_FILES_FROM", "0")), os.environ.get("KD_BROKEN_FILES_LOG")
TINY = (
    *("trainer=cpu", "debug=fast", "trainer.enable_progress_bar=false", "student=resnet8"),
    *("teacher=resnet8", "student.net.width=0.25", "logger=csv", "data.batch_size=64"),
)

Use = Callable[[Path], None]


def command(main: Callable[[], None], *arguments: str) -> None:
    """Call a command as `python -m` does; SystemExit carries its message."""
    before = sys.argv
    sys.argv = ["kd", *arguments]
    try:
        main()
    finally:
        sys.argv = before


def train(world: Path, *arguments: str) -> None:
    command(kd.train.main, f"paths.output={world}", "method=kd", *TINY, *arguments)


def again(world: Path) -> None:
    """Give the command of the finished run once more."""
    train(world, f"hydra.run.dir={world / 'run'}")


def resume(world: Path) -> None:
    new = f"hydra.run.dir={world / 'new'}"
    command(kd.train.main, f"resume={world / 'run'}", f"paths.output={world}", new)


def continue_training(world: Path) -> None:
    line = (f"hydra.run.dir={world / 'new'}", "trainer.max_epochs=2")
    train(world, *line, f"resume={world / 'run' / 'checkpoints' / 'last.ckpt'}")


def from_checkpoint(world: Path) -> None:
    train(world, f"teacher.checkpoint={world / 'run'}", "teacher.net.width=0.25",
          f"hydra.run.dir={world / 'new'}")  # fmt: skip


def another_run(world: Path) -> None:
    train(world, "seed=1", f"hydra.run.dir={world / 'new'}")


def load(world: Path) -> None:
    kd.load(world / "run")


def report(world: Path) -> None:
    figures = random.Random(str(world)).choice(["true", "false", "false"])
    command(kd.report.main, f"sweep={world}", f"figures={figures}", "bootstrap.samples=100")


def list_caches(world: Path) -> None:
    command(kd.cache.main, f"paths.output={world}")


def chain(world: Path) -> None:
    line = ("stages=[resnet8,resnet8]", f"hydra.run.dir={world / 'chain'}", "method=kd")
    tiny = [word for word in TINY if not word.startswith(("student", "teacher"))]
    command(kd.chain.main, f"paths.output={world}", *line, *tiny)


def search(world: Path) -> None:
    line = ("search.trials=1", f"hydra.run.dir={world / 'search'}", "method=kd", "search=hinton")
    command(kd.search.main, f"paths.output={world}", *line, *TINY)


# Place in the world, kinds of damage, and what reads the file
KINDS: dict[str, tuple[str, tuple[Callable[..., None], ...], tuple[Use, ...]]] = {
    "result": ("run/result.json", breaking.JSON, (report, again, report, from_checkpoint)),
    "config": ("run/.hydra/config.yaml", breaking.TEXT, (report, resume, again)),
    "overrides": ("run/.hydra/overrides.yaml", breaking.TEXT, (report, resume)),
    "last state": ("run/checkpoints/last.ckpt", breaking.TENSORS, (continue_training, resume)),
    "best state": ("run/checkpoints/best.ckpt", breaking.TENSORS, (continue_training,)),
    "weights": ("run/student.safetensors", breaking.TENSORS, (load, load, from_checkpoint)),
    "curves": ("run/csv/metrics.csv", breaking.TEXT, (report, continue_training)),
    "lock": ("run/.lock", breaking.ANY, (again,)),
    "cached rows": ("cache/*-train-*/logits/*.safetensors", breaking.TENSORS, (another_run,)),
    "cached test rows": ("cache/*-test-*/logits/*.safetensors", breaking.TENSORS, (another_run,)),
    "cache": ("cache/*-train-*/about.json", breaking.JSON, (list_caches, another_run)),
    "teacher's result": ("teachers/*/result.json", breaking.JSON, (another_run, report)),
    "teacher": ("teachers/*/student.safetensors", breaking.TENSORS, (another_run,)),
    "stage": ("chain/*_*/result.json", breaking.JSON, (chain, report)),
    "stage's config": ("chain/*_*/.hydra/config.yaml", breaking.TEXT, (chain,)),
    "stage's weights": ("chain/*_*/student.safetensors", breaking.TENSORS, (chain,)),
    "stage's basis": ("chain/*_*/basis.txt", breaking.TEXT, (chain,)),
    "chain": ("chain/chain.json", breaking.JSON, (chain, report)),
    "study": ("search/study.db", breaking.TENSORS[:11], (search,)),
    "trial": ("search/trial_*/result.json", breaking.JSON, (search, report)),
}


CHEAP = (report, load, list_caches)


@pytest.fixture(scope="module")
def run_alone(tmp_path_factory) -> Path:
    """A finished run with its teacher and caches."""
    world = tmp_path_factory.mktemp("world")
    with quiet():
        again(world)
    return world


@pytest.fixture(scope="module")
def original(run_alone) -> Path:
    """The same with a chain and a search."""
    with quiet():
        chain(run_alone)
        search(run_alone)
    return run_alone


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def attempt(number: int, original: Path, folder: Path, allowed: Sequence[Use]) -> str | None:
    """Break one file and use it; return what is wrong with the outcome."""
    rng = random.Random(number)
    kinds = [kind for kind, (*_, uses) in KINDS.items() if set(uses) & set(allowed)]
    kinds = [kind for kind in kinds if any(original.glob(KINDS[kind][0]))]
    kind = kinds[number % len(kinds)]
    pattern, ways, uses = KINDS[kind]
    uses = tuple(use for use in uses if use in allowed)
    world = folder / "world"
    shutil.copytree(original, world, symlinks=True)
    file = rng.choice(sorted(world.glob(pattern)))
    way, use = rng.choice(ways), rng.choice(uses)
    case = f"case {number}: {kind}, {way.__name__}, {use.__name__}"
    try:
        way(file, rng)
    except (ValueError, KeyError, RuntimeError):  # this file cannot be broken in this way
        breaking.flip(file, rng)
    mine = file.parent / "mine.txt"
    mine.write_text("mine")
    try:
        with within(LIMIT), quiet():
            use(world)
    except (UserError, SystemExit) as error:
        record(f"{case}: {error}")
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename}:{where.lineno}"
        return f"{case}: {type(error).__name__}: {error!s:.300} at {place}"
    else:
        record(f"{case}: a result")
    if not mine.exists() or mine.read_text() != "mine":
        return f"{case}: a file of the user's was deleted"
    return None


def record(line: str) -> None:
    if LOG:
        with Path(LOG).open("a") as file:
            file.write(line.replace("\n", " ") + "\n")


def test_broken_files_are_reported_loaded_or_named(run_alone, tmp_path, monkeypatch):
    check(run_alone, CHEAP, tmp_path, monkeypatch, count=CASES // 4)


@pytest.mark.slow
def test_broken_files_end_in_a_result_or_in_a_message(original, tmp_path, monkeypatch):
    every = [use for *_, uses in KINDS.values() for use in uses]
    check(original, every, tmp_path, monkeypatch)


def check(original, allowed, tmp_path, monkeypatch, count=CASES) -> None:
    precious = tmp_path / "precious"
    precious.write_text("do not lose me")
    monkeypatch.setenv("KD_PRECIOUS", str(precious))
    monkeypatch.setenv("KD_FULL_ERROR", "0")
    wrong = []
    for number in range(FIRST, FIRST + count):
        found = attempt(number, original, tmp_path / str(number), allowed)
        if precious.read_text() != "do not lose me":
            found = f"{found or number}: precious was overwritten"
            precious.write_text("do not lose me")
        if found:
            record(f"WRONG {found}")
            wrong.append(found)
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    assert not wrong, "\n".join(wrong)
