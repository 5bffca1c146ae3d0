"""Records of strangers: what they may name, and what is refused before anything is imported."""

import copy
import functools
import importlib
import pkgutil
import random
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict
from support import composed, unresolved

from kd.config.compose import CONF_DIR, register_models
from kd.config.own_names import own_names
from kd.config.record import register_resumed, write_record
from kd.config.targets import SLOTS
from kd.config.verify import Refusal, verify
from kd.errors import UserError

OWN = own_names([CONF_DIR])


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


# Every option of conf/ in one config at least
COMMANDS = [
    *([f"method={name}"] for name in options("method")),
    *([f"mode={name}"] for name in options("mode")),
    *([f"experiment={name}"] for name in options("experiment")),
    *([f"teacher={name}", f"student={name}"] for name in options("model")),
    *([f"data={name}", f"data.root={CONF_DIR}"] for name in ("cifar100", "image_folder", "mnist")),
    ["data=coco", f"data.root={CONF_DIR}"],
    ["data=digits_scenes", "data.scenes={train: 9, val: 3, test: 3}"],
    ["data=text", f"data.root={CONF_DIR / 'train.yaml'}", "data.text_column='the text'"],
    ["data=text", f"data.tokenizer={CONF_DIR}", "student=hf", f"student.net.path={CONF_DIR}"],
    *([f"data/augment={name}"] for name in options("data/augment")),
    *([f"+data/second={name}"] for name in options("data/second")),
    *([f"optimizer={name}"] for name in options("optimizer")),
    *([f"scheduler={name}"] for name in options("scheduler")),
    *([f"schedule@method.schedules.alpha={name}"] for name in options("schedule")),
    *(
        [f"trainer={name}", f"logger={log}"]
        for name in options("trainer")
        for log in ("csv", "none")
    ),
    ["optimizer._target_=torch.optim.RMSprop", "~optimizer.nesterov", "teacher=ensemble"],
    ["teacher.checkpoint=/a/run of mine", "student.checkpoint=x.pt", "resume='a/b=c.ckpt'"],
    ["+trainer.max_time='00:12:00:00'", "trainer.precision=bf16-mixed", "debug=fast"],
    ["student.net.width=0.5", "optimizer.lr=1e-4", "figures=[3,17]", "compile=max-autotune"],
]


@pytest.mark.parametrize(
    "step", [17, pytest.param(2, marks=pytest.mark.slow)], ids=["some", "more"]
)
def test_what_conf_offers_is_accepted(step, tmp_path):
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for command in COMMANDS[::-step]:
            words = [f"+{word}" if word.startswith("schedule@") else word for word in command]
            cfg = compose("train", ["paths.run=elsewhere", *words])
            found = verify(OmegaConf.to_container(cfg), tmp_path, OWN, {})
            assert found.refusals == [], command
            assert found.content == OmegaConf.to_container(cfg)


@pytest.mark.parametrize(
    "word",
    [
        "data.cache_dir=/tmp/elsewhere",
        "data.tokenizer=/no/such/file",
        "student=hf student.net.path=org/net",
    ],
)
def test_files_of_texts_that_only_an_own_command_may_name(word, tmp_path):
    content = OmegaConf.to_container(composed("data=text", *word.split()))
    (refusal,) = verify(content, tmp_path, OWN, {}).refusals
    assert ".".join(refusal.place) == word.split()[-1].partition("=")[0]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return unresolved(composed("method=fitnet", "method.initial=0.4"))


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def test_stages_of_a_chain_name_each_other(recorded, tmp_path):
    stage = copy.deepcopy(recorded)
    stage["paths"]["chain"] = "/moved/since"
    stage["teacher"]["checkpoint"] = stage["student"]["checkpoint"] = "${paths.chain}/1_resnet8"
    assert verify(stage, tmp_path, OWN, {}).refusals == []


HOSTILE = {
    "a stage elsewhere": ("teacher.checkpoint", "${paths.chain}/../x"),
    "a stage as a name": ("method.name", "${paths.chain}/x"),
    "a class elsewhere": ("student.net._target_", "mypackage.MyNet"),
    "a builtin": ("callbacks.x._target_", "builtins.eval"),
    "a path of attributes": ("callbacks.x._target_", "kd.train.Path.rmdir"),
    "a class of conf/ under another name": ("optimizer._target_", "torch.optim.sgd.SGD"),
    "a look-alike": ("optimizer._target_", "torch.optim.ЅGD"),
    "spaces": ("optimizer._target_", "torch.optim.SGD "),
    "an interpolated class": ("optimizer._target_", "${oc.env:HOME}"),
    "a list as a class": ("optimizer._target_", ["torch.optim.SGD"]),
    "an optimizer elsewhere": ("student.net._target_", "torch.optim.RMSprop"),
    "a class in an argument": ("student.net.x._target_", "torch.optim.SGD"),
    "a class in a list": ("trainer.devices", [{"_target_": "torch.optim.SGD"}]),
    "a class in a list of lists": ("method.x", [[{"_target_": "torch.optim.SGD"}]]),
    "a class where none is built": ("student.taps._target_", "torch.optim.SGD"),
    "a class at the root": ("_target_", "torch.optim.SGD"),
    "a profiler": ("trainer.profiler", "advanced"),
    "plugins": ("trainer.plugins", []),
    "an upload": ("trainer.model_registry", "theirs"),
    "a strategy": ("trainer.strategy._target_", "lightning.pytorch.strategies.DDPStrategy"),
    "partial": ("optimizer._partial_", True),
    "positional arguments": ("optimizer._args_", []),
    "recursion": ("method.objectives.hint._recursive_", False),
    "conversion": ("data._convert_", "none"),
    "the environment": ("method.tap", "${oc.env:SECRET}"),
    "a decoded node": ("callbacks.x", "${oc.decode:'{_target_: os.getcwd}'}"),
    "a created node": ("callbacks.x", "${oc.create:{a: 1}}"),
    "Hydra's own part": ("method.tap", "${hydra:job.env_set}"),
    "a nested interpolation": ("method.tap", "${oc.env:${method.name}}"),
    "another node": ("callbacks.x", "${logger.tensorboard}"),
    "curves elsewhere": ("logger.csv.save_dir", "/somewhere"),
    "curves in the data": ("logger.csv.save_dir", "${data.root}"),
    "curves in a parent": ("logger.csv.name", "../../x"),
    "curves in the parent": ("logger.csv.version", ".."),
    "curves in an absolute folder": ("logger.tensorboard.sub_dir", "/somewhere"),
    "events elsewhere": ("logger.tensorboard.log_dir", "x"),
    "a name that leaves the folder": ("method.name", "x/../../../somewhere"),
    "a name with an escape": ("student.name", "x\x1b[2J"),
    "a seed that leaves the folder": ("seed", "../../../x"),
    "an output folder elsewhere": ("paths.output", "/somewhere"),
    "teachers elsewhere": ("paths.teachers", "/somewhere/teachers"),
    "a cache elsewhere": ("paths.cache", "~/cache"),
    "data that are not there": ("data.root", "/nowhere at all"),
    "decoded images elsewhere": ("data.cache_dir", "x"),
    "weights of a net": ("student.net.checkpoint_path", "x.pt"),
    "weights of a hub": ("student.net.arch", "hf-hub:theirs/net"),
    "a config of weights": ("student.net.pretrained_cfg", {"file": "x"}),
    "bytes": ("data.mean", b"x"),
    "a path": ("data.mean", Path("/x")),
    "a key that leaves the folder": ("student.taps", {"../../x": "stem"}),
    "a key with a dot": ("method", {"x.y": 1}),
    "a list of callbacks": ("callbacks", ["x"]),
    "a text as objectives": ("method.objectives", "x"),
    "a list as teacher": ("teacher", ["x"]),
    "nothing as trainer": ("trainer", None),
    "a net as a callback": ("callbacks.x._target_", "kd.models.timm_net.timm_net"),
    "a logger as a net": ("student.net._target_", "lightning.pytorch.loggers.TensorBoardLogger"),
    "a number as key": ("method.x", {1: 2}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_record_is_refused(case, recorded, tmp_path):
    key, value = HOSTILE[case]
    cfg = OmegaConf.create(recorded, flags={"allow_objects": True})
    parent = OmegaConf.create(nested(key, value), flags={"allow_objects": True})
    if isinstance(value, list | None) or isinstance(OmegaConf.select(cfg, key), DictConfig):
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    content = unresolved(OmegaConf.merge(cfg, parent))
    refusals = verify(content, tmp_path, OWN, {}).refusals
    assert all(str(refusal).isprintable() for refusal in refusals)
    assert [r for r in refusals if ".".join(r.place).startswith(key)], refusals


def test_the_command_replaces_what_is_refused(recorded, tmp_path):
    """`???` is nothing but a place for the override, whatever becomes of it."""
    content = {**recorded, "optimizer": {"_target_": "mypackage.Mine", "lr": 0.1}}
    found = verify(content, tmp_path, OWN, {"optimizer._target_": "other.Mine"})
    assert found.refusals == []
    assert found.content["optimizer"] == {"_target_": "???", "lr": 0.1}
    assert verify(content, tmp_path, OWN, {"optimizer": "{lr: 1}"}).refusals
    assert verify(content, tmp_path, OWN, {"optimizer_": "x"}).refusals
    found = verify(recorded, tmp_path, OWN, {"optimizer._target_": "other.Mine"})
    assert found.content == recorded  # Hydra applies it


def test_the_output_root_in_which_the_run_lies_is_accepted(recorded, tmp_path):
    own, other = tmp_path / "mine", tmp_path / "other"
    run = own / "runs" / "a"
    for output, folder, accepted in [
        (own, run, True),
        (own, own / "sweeps" / "x" / "0_kd", True),
        (other, run, False),
        (tmp_path, run, False),
        (own / "runs" / "..", run, True),
        (own / "runs" / "a", run, False),
    ]:
        content = {**recorded, "paths": {"output": str(output), "run": "x"}}
        assert (verify(content, folder, OWN, {}).refusals == []) is accepted, (output, folder)
    content = {**recorded, "paths": {"teachers": str(own / "teachers"), "run": "x"}}
    assert verify(content, run, OWN, {}).refusals == []


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        ("mypackage.Mine", "a.b=mypackage.Mine"),
        ("/a b/it's", "a.b='/a b/it\\'s'"),
        (True, "a.b=true"),
        (None, "a.b=null"),
        (0.5, "a.b=0.5"),
        ("${x}", None),
        ("a\nb", None),
        ({"a": 1}, None),
    ],
)
def test_a_refused_value_is_typed_again(value, typed):
    assert Refusal(("a", "b"), value, "").typed == typed
    assert Refusal(("a", "0"), value, "").typed is None


# Callables of the libraries

LIBRARIES = ("torch", "torchvision", "timm", "lightning", "torchmetrics", "kd")
# Importing these runs programs or needs libraries that are not installed.
SKIPPED = ("__main__", "_inductor", "testing", "onnx", "tests", "_test", "cuda", "__init__")


@functools.cache
def library_callables() -> list[str]:
    """Dotted paths of public and private callables in modules of the libraries."""
    chance, found = random.Random(0), []
    modules = []
    for library in LIBRARIES:
        package = importlib.import_module(library)
        loaded = [name for name in sys.modules if name.startswith(f"{library}.")]
        listed = [m.name for m in pkgutil.iter_modules(package.__path__, f"{library}.")]
        modules += sorted({*loaded, *listed})
    for name in chance.sample(modules, 400):
        module = sys.modules.get(name)
        if module is None and not any(part in name for part in SKIPPED):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    module = importlib.import_module(name)
                except Exception:  # a library of its own is missing
                    continue
        names = [] if module is None else sorted(vars(module))
        members = [n for n in names if callable(getattr(module, n, None))]
        found += [f"{name}.{member}" for member in chance.sample(members, min(3, len(members)))]
    torch_optim = importlib.import_module("torch.optim")
    optimizers = {f"torch.optim.{name}" for name in vars(torch_optim)}  # a record may name any
    return chance.sample(sorted({*found} - OWN.targets - optimizers), 240)


def test_nothing_of_a_library_is_built_for_a_record(tmp_path, monkeypatch):
    """240 callables, each in every place where something is built."""
    cfg = composed("method=fitnet", "data/augment=mixup")
    slots = [slot.replace(".*", ".x") for slot in SLOTS if "stages" not in slot]
    targets = library_callables()
    assert len({target.split(".")[0] for target in targets}) == len(LIBRARIES)
    imported: list[str] = []
    monkeypatch.setattr("kd.config.targets.import_module", imported.append)
    for target in targets:
        for slot in slots:
            assert verify(nested(slot, {"_target_": target}), tmp_path, OWN, {}).refusals
    for slot, target in zip(
        slots[::2], targets[::18], strict=False
    ):  # as the command reads a record
        theirs = copy.deepcopy(cfg)
        with open_dict(theirs):
            OmegaConf.update(theirs, slot, {"_target_": target}, merge=False, force_add=True)
        write_record(tmp_path, theirs)
        message = re.escape(f"{slot}._target_={target}: neither conf/ nor a --config-dir names it")
        with pytest.raises(UserError, match=message):
            register_resumed([f"resume={tmp_path}"])
    assert imported == []
    write_record(tmp_path, cfg)
    assert register_resumed([f"resume={tmp_path}"]) is not None
