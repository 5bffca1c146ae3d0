"""What the user's own config may build: anything that has the base class of its place."""

import re
import sys
from types import ModuleType

import pytest
from lightning import Callback
from omegaconf import OmegaConf
from support import composed
from torch import nn

from kd.build.data import build_data
from kd.build.instantiate import make
from kd.config.targets import SLOTS, dotted, slot_of
from kd.errors import UserError
from kd.validation.check import check_config

WRONG = {
    "data": ("data._target_=torch.nn.ReLU", "LightningDataModule"),
    "data.view": ("data.view._target_=torchvision.transforms.v2.Resize", "kd.data.views.ViewSpace"),
    "data.augment": (
        "data.augment={_target_: torchvision.transforms.v2.RandomErasing}",
        "kd.data.augment.Augmentation",
    ),
    "student.net": ("student.net._target_=torch.optim.SGD", "torch.nn.Module"),
    "teacher.net": ("teacher.net._target_=torch.optim.SGD", "torch.nn.Module"),
    "callbacks.*": ("+callbacks.top5={_target_: torchmetrics.Accuracy}", "lightning.Callback"),
    "logger.*": ("+logger.mine={_target_: torch.nn.ReLU}", "lightning.pytorch.loggers.Logger"),
    "method.objectives.*": (
        "method.objectives.soft._target_=torch.nn.KLDivLoss",
        "kd.objectives.base.Objective",
    ),
    "method.schedules.*": (
        "+method.schedules={alpha: {_target_: torch.nn.ReLU}}",
        "kd.schedules.Schedule",
    ),
    "method.weights.*": (
        "method.weights.soft={_target_: torch.nn.ReLU}",
        "kd.schedules.Schedule",
    ),
    "mode.distiller": ("mode.distiller._target_=lightning.LightningModule", "Distiller"),
    "optimizer": ("optimizer._target_=torch.optim.lr_scheduler.StepLR", "torch.optim.Optimizer"),
    "scheduler": (
        "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
        "kd.schedules.Schedule",
    ),
    "trainer": ("trainer._target_=lightning.Fabric", "lightning.Trainer"),
}


@pytest.mark.parametrize("slot", WRONG)
def test_another_base_class_is_named(slot):
    override, base = WRONG[slot]
    name = override.partition("_target_")[2].strip("=:} ")
    with pytest.raises(UserError, match=rf"_target_={name}: must be a \w+, .*{base}"):
        check_config(composed(override))


@pytest.mark.parametrize("slot", WRONG)
def test_a_class_that_there_is_not_is_named_with_its_place(slot):
    override, _ = WRONG[slot]
    name = override.partition("_target_")[2].strip("=:} ")
    with pytest.raises(
        UserError, match=r"\n  [\w.]+\._target_=kd\.nothing\.Foo: kd has no 'nothing'"
    ):
        check_config(composed(override.replace(name, "kd.nothing.Foo")))


def test_the_teachers_training_has_the_same_slots():
    trained = {slot.removeprefix("teacher.training.") for slot in SLOTS} - {*SLOTS}
    assert trained == set()
    with pytest.raises(UserError, match=r"training.scheduler._target_=.*kd.schedules.Schedule"):
        check_config(composed("teacher.training.scheduler._target_=torch.nn.ReLU"))


@pytest.mark.parametrize("value", ["text", "3", "{lr: 1}", "[1]"])
def test_a_callback_that_names_no_class(value):
    message = r"callbacks.x: has no _target_, the name of a subclass of lightning.Callback"
    with pytest.raises(UserError, match=message):
        check_config(composed(f"+callbacks.x={value}"))


@pytest.fixture
def mine(monkeypatch):
    """A module `mine`, importable by its name."""
    module = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def test_a_class_of_ones_own_needs_no_permission(mine):
    class Stop(Callback):
        pass

    mine.Stop = Stop
    check_config(composed("+callbacks.mine={_target_: mine.Stop}"))


def test_a_function_is_checked_by_what_it_returns(mine):
    mine.net = lambda **facts: nn.Linear(2, 2)
    mine.text = lambda **facts: "text"
    assert isinstance(make({"_target_": "mine.net"}, "student.net"), nn.Linear)
    message = r"teacher=x: must be a Module, a subclass of torch.nn.Module, got builtins.str"
    with pytest.raises(UserError, match=message):
        make(OmegaConf.create({"_target_": "mine.text"}), "student.net", "teacher=x")
    mine.number = 3
    with pytest.raises(UserError, match=r"mine.number is neither a class nor a function"):
        check_config(composed("student.net._target_=mine.number"))
    with pytest.raises(UserError, match=r"must be a subclass of kd.data.augment.Augmentation, not"):
        check_config(composed("data.augment={_target_: mine.net}"))


def test_nets_outside_the_checked_config_are_checked_when_they_are_built():
    """Peers and members name models, whose configs are composed after the check."""
    net = OmegaConf.create({"_target_": "torch.optim.SGD"})
    with pytest.raises(UserError, match=r"mode.peers=evil: must be a Module"):
        make(net, "student.net", "mode.peers=evil")


def test_data_of_another_kind_are_refused_where_they_are_built():
    with pytest.raises(UserError, match=r"data: must be a LightningDataModule"):
        build_data(composed("data._target_=torch.nn.ReLU"))


def test_places_are_written_as_on_the_command_line():
    place = ("method", "stages", "0", "weights", "soft")
    assert dotted(place) == "method.stages[0].weights.soft"
    assert slot_of(place) == "method.stages.*.weights.*"
    assert slot_of(("callbacks",)) is None
    assert slot_of(("callbacks", "a", "b")) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim.SDG", "torch.optim has no 'SDG'; did you mean 'SGD'?"),
        ("torch.optim.sgd", "torch.optim.sgd is neither a class nor a function"),
        ("torch.opttim.SGD", "torch has no 'opttim'"),
        ("elsewhere.Mine", "there is no module 'elsewhere' in the current folder or"),
        ("'.SGD'", "there is no module '' in the current folder or"),
        ("torch.optim.SGD.x", "torch.optim.SGD has no 'x'"),
    ],
)
def test_a_misspelt_class_names_the_nearest(name, message):
    with pytest.raises(UserError, match=rf"optimizer\._target_=.*: {re.escape(message)}"):
        check_config(composed(f"optimizer._target_={name}"))


def test_a_module_of_ones_own_that_fails_to_import_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_of_a_test.py").write_text("import missing_of_a_test")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"_target_=broken_of_a_test.Mine: .*missing_of_a_test"):
        check_config(composed("optimizer._target_=broken_of_a_test.Mine"))
