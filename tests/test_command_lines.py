"""Generated command lines: each is accepted, or ends in a message that a user understands.

KD_COMMAND_LINES=1000 and KD_COMMAND_LINES_SEED=3 in the environment give other numbers and seeds.
"""

import os
import random
import re

import pytest
from in_process import job_problems, start
from support import LIMIT, within

from kd.config.compose import CONF_DIR
from kd.config.messages import user_message

DEFAULT = 5  # lines of the default tests
MANY = int(os.environ.get("KD_COMMAND_LINES", "50"))
SEED = int(os.environ.get("KD_COMMAND_LINES_SEED", "0"))
# Text that users of Hydra and OmegaConf would have to know
RAW = re.compile(
    r"Traceback|Exception|OmegaConf|DictConfig|ListConfig|NoneType|object_type|full_key|"
    r"mismatched input|token recognition|no viable alternative|extraneous input|<class|struct"
)
KEYS = """
seed optimizer.lr optimizer.momentum trainer.max_epochs trainer.precision trainer.accelerator
data.batch_size data.mean data.view.pixels data.val_fraction method.temperature method.alpha
method.weights.soft method.objectives.soft.temperature student.net.width student.net.channels
student.taps teacher.checkpoint teacher.cache teacher.cache.max_gb teacher.training.seed
teacher.training.optimizer.lr teacher.epoch paths.output paths.run paths.cache callbacks.progress
logger.csv.name hydra.run.dir hydra.sweep.dir hydra.job.name hydra.mode hydra.verbose figures
resume compile deterministic keep_epochs channels_last checkpoint checkpoint.every_minutes doctor
scheduler.warmup mode.name mode.distiller data.name student._target_ optimizer._target_
search.trials search.space stages route folder folders baseline output clear bootstrap.samples
""".split()  # noqa: SIM905
GROUPS = {
    group: sorted(path.stem for path in (CONF_DIR / (folder or group)).glob("*.yaml"))
    for group, folder in {
        **dict.fromkeys(("method", "mode", "data", "optimizer", "scheduler", "trainer"), ""),
        **dict.fromkeys(("logger", "callbacks", "experiment", "sweep", "debug", "search"), ""),
        **dict.fromkeys(("data/view", "data/augment", "recipe", "paths", "objective"), ""),
        **{"student": "model", "teacher": "model", "model": "model", "hydra/launcher": ""},
    }.items()
}
VALUES = """
0 1 -1 2.5 1e3 1_000 1e400 -1e400 nan inf -0 007 0x10 99999999999999999999 true false null None yes
'' '1' "x" [] [1,2] [a] [[1]] [1, {} {a:1} {a:{b:2}} {_target_:os.system} ${seed}
${nothing} ${oc.env:NOPE}
??? ~ ~/x ~nobody/x /x/epoch=0-step=20.ckpt C:\\Users\\x a,b 1,2,3 a=b a:b #x %s $x $(ls) it's (1)
choice(1,2) range(3) range(0,3,0) glob(*) glob(z*) shuffle(1,2) sort(3,1) interval(0,1) int(x)
../.. /dev/null /nowhere/x ä 模型 \u00a01 \u200b x!y <b> a;b * ? \\ \\n {a [b 'c "d } ] ) a@b http://x/y?z=1
""".split()  # noqa: SIM905
FLAGS = """
-m --multirun --cfg=job -c job --resolve --info --package=x --config-name=train -cn=x -r --run --hlp
--config-dir=/nowhere --config-path=/ -cd=. --lr=1 -x -- --version=1 --experimental-rerun=x - –m
--cfg
""".split()  # noqa: SIM905


def misspelt(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    letter = rng.choice("aex_.-/@=:~+ ,0A")
    return rng.choice(
        [
            text[:place] + letter + text[place:],
            text[:place] + text[place + 1 :],
            text.upper(),
            text.replace("_", "-"),
            text[::-1],
        ]
    )


def word(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.08:
        return rng.choice(FLAGS)
    if kind < 0.3:
        key = rng.choice([*GROUPS])
        value = rng.choice([*GROUPS[key], *GROUPS[key], rng.choice(VALUES).strip()])
        value = misspelt(rng, value) if rng.random() < 0.3 else value
    else:
        key, value = rng.choice(KEYS), rng.choice(VALUES).strip("\n")
    key = misspelt(rng, key) if rng.random() < 0.15 else key
    sign = rng.choice(["", "", "", "", "", "", "+", "++", "~"])
    whole = f"{sign}{key}={value}"
    if rng.random() < 0.05:
        return misspelt(rng, whole)
    return f"~{key}" if sign == "~" and rng.random() < 0.6 else whole


def line(rng: random.Random) -> tuple[str, list[str]]:
    names = ["train"] * 6 + ["chain", "search", "report", "cache"]
    return rng.choice(names), [word(rng) for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5]))]


def fault(monkeypatch, name: str, words: list[str]) -> str | None:
    """What is wrong with the way in which a command line ends; None if nothing is."""
    try:
        with within(LIMIT):
            found = start(monkeypatch, name, *words)
            problems = [] if found.startswith("error: ") else job_problems(name)
    except AssertionError as error:
        return str(error)
    except Exception as error:
        if (message := user_message(error)) is None:
            return f"{type(error).__name__}: {error}"
        problems = [message]
        found = ""
    said = "\n".join([found if found.startswith("error: ") else "", *problems])
    match = RAW.search(re.sub("|".join(map(re.escape, [*words, "resnet"])), "", said))
    return f"{match[0]!r} in {said}" if match else None


def faults(monkeypatch, tmp_path, seed: int, count: int) -> list[str]:
    monkeypatch.chdir(tmp_path)
    rng, wrong = random.Random(seed), []
    for _ in range(count):
        name, words = line(rng)
        if (what := fault(monkeypatch, name, words)) is not None:
            wrong.append(f"kd.{name} {words}: {what}"[:600])
        if written := [*tmp_path.iterdir()]:
            wrong.append(f"kd.{name} {words}: wrote {written}")
            break
    return wrong


def test_generated_command_lines_get_a_message(monkeypatch, tmp_path):
    wrong = faults(monkeypatch, tmp_path, seed=0, count=DEFAULT)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_many_generated_command_lines_get_a_message(monkeypatch, tmp_path):
    wrong = faults(monkeypatch, tmp_path, seed=SEED, count=MANY)
    assert not wrong, "\n".join(wrong)
