"""Every YAML composes, passes the check, and says how it is used."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support import composed

from kd.build.instantiate import make
from kd.config.compose import CONF_DIR, register_models
from kd.config.identity import config_hash, settings
from kd.config.overrides import expand_shorthand
from kd.errors import UserError
from kd.validation.check import check_config

GROUPS = {
    "method": "method",
    "objective": "objective@method.objectives.hard",
    "mode": "mode",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "trainer": "trainer",
    "callbacks": "callbacks",
    "logger": "logger",
    "paths": "paths",
    "debug": "debug",
    "recipe": "recipe",
    "experiment": "experiment",
    "sweep": "sweep",
    "data": "data",
    "data/view": "data/view",
    "data/augment": "data/augment",
    "teacher": "teacher",
    "schedule": "+schedule@method.schedules.soft",
}
FILES = sorted(CONF_DIR.rglob("*.yaml"))
# Folders of images have no default place.
EXTRA = {
    "data/image_folder": ["data.root=somewhere"],
    "teacher/none": ["method=ce"],
    "teacher/itself": ["mode=pskd"],
    "teacher/peers": ["mode=online"],
}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


CHOICES = [(group, name) for group in GROUPS for name in options(group)]
MODELS = options("model")


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=["/".join(c) for c in CHOICES])
def test_every_option_composes_and_passes_the_check(group, name):
    check_config(composed(f"{GROUPS[group]}={name}", *EXTRA.get(f"{group}/{name}", [])))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_every_model_is_a_teacher_and_a_student(role, name):
    cfg = composed(f"{role}={name}")
    check_config(cfg)
    assert cfg[role].name.startswith(name)


def test_no_yaml_is_left_untested():
    covered = {CONF_DIR / group / f"{name}.yaml" for group, name in CHOICES}
    covered |= {CONF_DIR / "model" / f"{name}.yaml" for name in MODELS}
    covered |= {
        CONF_DIR / "train.yaml",
        CONF_DIR / "cache.yaml",
        CONF_DIR / "chain.yaml",
        CONF_DIR / "report.yaml",
        CONF_DIR / "hydra" / "help" / "kd.yaml",
        # test_search.py, test_sweeps.py
        CONF_DIR / "search.yaml",
        *(CONF_DIR / "search").glob("*.yaml"),
        CONF_DIR / "hydra" / "launcher" / "slurm.yaml",
    }
    assert set(FILES) == covered


DOCUMENTED = [*FILES, CONF_DIR / "README.md"]


@pytest.mark.parametrize("path", DOCUMENTED, ids=[str(p.relative_to(CONF_DIR)) for p in DOCUMENTED])
def test_commands_in_comments_are_valid(path: Path):
    for line in re.findall(r"^(?:# )?python -m kd\.train(.*)$", path.read_text(), re.MULTILINE):
        arguments = line.partition("  #")[0]
        if "resume=FOLDER" in arguments:
            continue
        overrides = [a.strip("'\"") for a in arguments.split() if not a.startswith("-")]
        if "hydra/launcher=slurm" in overrides:
            pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
        missing = ["data.root=x"] if "data=image_folder" in overrides else []
        if "=…" not in arguments and "..." not in arguments:
            check_config(
                composed(*[expand_shorthand(o.split(",")[0]) for o in overrides], *missing)
            )


@pytest.mark.parametrize("method", options("method"))
def test_the_share_of_the_labels_is_what_is_left(method):
    cfg = composed(f"method={method}")
    if "alpha" not in cfg.method:
        pytest.skip("a method without a share")
    cfg = composed(f"method={method}", "method.alpha=0.25")
    shared = cfg.method.beta if method == "feature" else 0
    assert cfg.method.weights.hard == pytest.approx(1 - 0.25 - shared)
    assert cfg.method.weights.soft == 0.25


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.temperature=0"], "method.temperature=0: must be a number > 0"),
        (["method.temperature=hot"], "method.temperature=hot: must be a number > 0"),
        (["method.alpha=1.5"], r"method.alpha=1.5: must be in \[0, 1\]"),
        (["method=at", "method.beta=-1"], "method.beta=-1: must be a number ≥ 0"),
        (["method=feature", "method.beta=0.5"], r"weights.hard=-0.2: must be ≥ 0 \(alpha \+ beta"),
        (["+method.weights.sotf=1"], "weights.sotf names no objective; did you mean 'soft'"),
        (["~method.weights.soft"], "method.objectives.soft has no weight; add method.weights.soft"),
        (["method.weights.hard=0", "method.weights.soft=0"], "weights are all 0"),
        (["teacher=none"], "objectives.soft needs a teacher, and teacher=none"),
        (["method=fitnet", "method.student_tap=stag2"], "no tap 'stag2'.*did you mean 'stage2'"),
        (["method=fitnet", "method.teacher_tap=stage4"], "no tap 'stage4' in teacher=resnet20"),
        (["method=at", "method.variant=papr"], "variant must be one of .*got 'papr'"),
        (["method=at", "method.taps=[]"], "the two nets have no stage in common"),
        (["seed=-1"], "seed=-1: must be a whole number ≥ 0"),
        (["teacher.training.seed=5000000000"], "teacher.training.seed=5000000000: .*below"),
        (["teacher.training.batch_size=0"], "teacher.training.batch_size=0: must be a whole"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0: a run needs all three"),
        (["resume=3"], "resume=3: must be a path"),
        (["deterministic=yes"], "deterministic=yes: must be false or strict"),
        (["checkpoint.every_minutes=0"], "checkpoint.every_minutes=0: must be a number > 0"),
        (["checkpoint=5"], "checkpoint.every_minutes=None: must be a number > 0"),
        (["method.weights.soft=heavy"], "method.weights.soft=heavy: must be a number"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0: must be a whole number ≥ 1"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["teacher.training.optimizer.lr=-2"], "teacher.training.optimizer: Invalid.*-2"),
        (["scheduler.warmup=2"], "scheduler: warmup must be a share"),
        (["+optimizer.lrr=1"], "optimizer.lrr: torch.optim.SGD takes no 'lrr'; did you mean 'lr'"),
        (["+data.splitseed=3"], "data.splitseed: .* takes no .*did you mean 'split_seed'"),
        (["data.batch_size=abc"], "data.batch_size=abc: must be int"),
        (["data.val_fraction=half"], "data.val_fraction=half: must be float"),
        (["data.mean=[a]", "optimizer.momentum=x"], "optimizer.momentum=x: must be float"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: must be float"),
        (["+optimizer.foreach=2"], "optimizer.foreach=2: must be bool or null"),
        (["student.net.width=wide"], "student.net.width=wide: must be float"),
        (["student.net._target_=kd.models.nope.net"], "student.net._target_=kd.models.nope.net: "),
        (["data=image_folder"], "data.root has no value; give it as data.root=…"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


HOSTILE = [
    *("os.system", "subprocess.Popen", "builtins.eval", "hostile.net", "hydra.utils.instantiate"),
    *(
        "kd.config.command.os.system",
        "torch.os.system",
        "kd.io.provenance.subprocess.run",
        "kd.config.command.hydra.main",
    ),
    *(
        "torch.load",
        "torch.hub.load",
        "torch.serialization.pickle.loads",
        "kd.build.parts.get_object",
    ),
    *("kd.config.command.os.system.__call__", "torch.utils.collect_env.run", "torch.load.__call__"),
]


@pytest.mark.parametrize("target", HOSTILE)
def test_what_a_stranger_might_call_is_not_even_imported(target, tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')\ndef net(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    message = "may call kd, torch|executes code that it loads|plain function|neither a class"
    with pytest.raises(UserError, match=f"optimizer._target_={target}: .*({message})"):
        check_config(composed(f"optimizer._target_={target}"))


def test_what_no_check_has_seen_is_not_called_either():
    """Peers and members are named by models of their own, outside the config that is checked."""
    net = OmegaConf.create({"_target_": "torch.nn.Linear", "bias": {"_target_": "os.getcwd"}})
    with pytest.raises(UserError, match=r"mode.peers=evil: a config may call kd, torch"):
        make(net, "mode.peers=evil")


def test_packages_can_be_added(tmp_path, monkeypatch):
    code = "from torch.optim import SGD\nclass Mine(SGD): ..."
    (tmp_path / "mine_of_a_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    override = "optimizer._target_=mine_of_a_test.Mine"
    with pytest.raises(UserError, match="KD_ALLOW_TARGETS=mine_of_a_test"):
        check_config(composed(override))
    monkeypatch.setenv("KD_ALLOW_TARGETS", "other, mine_of_a_test")
    check_config(composed(override))


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(UserError, match=r"(?s)2 mistakes.*temperature=-1.*alpha=7"):
        check_config(composed("method.temperature=-1", "method.alpha=7"))


def test_the_hash_names_the_experiment():
    base = config_hash(composed())
    assert base == config_hash(composed("paths.output=elsewhere", "logger=csv", "resume=x"))
    assert base != config_hash(composed("method.alpha=0.5"))
    assert base != config_hash(composed("seed=1"))


def test_settings_are_flat_and_tell_jobs_apart():
    chosen = settings(composed("method.temperature=3", "method.alpha=0.4", "optimizer.lr=0.2"))
    assert chosen["method.temperature"] == 3
    assert chosen["method.alpha"] == 0.4
    assert chosen["optimizer.lr"] == 0.2
    assert chosen["method"] == "kd"
    assert all(isinstance(v, str | int | float | bool) for v in chosen.values())


def test_models_outside_the_repository_are_options(tmp_path):
    (tmp_path / "model").mkdir()
    content = {"defaults": ["resnet8", "_self_"], "name": "mine", "net": {"width": 2.0}}
    OmegaConf.save(OmegaConf.create(content), tmp_path / "model" / "mine.yaml")
    register_models(tmp_path)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", [f"hydra.searchpath=[file://{tmp_path}]", "student=mine"])
    assert (cfg.student.name, cfg.student.net.width) == ("mine", 2.0)
