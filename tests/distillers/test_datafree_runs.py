"""Data-free distillation: images of the asked classes, no training images, exact resuming."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from support import TwoStages, built, composed, configured, linear_net, make_distiller, random_batch

from kd.data.loader import TensorLoader
from kd.data.normalise import Normalise
from kd.distillers.datafree import DataFreeDistiller
from kd.distillers.image_bank import ImageBank
from kd.errors import UserError
from kd.objectives.kd import SoftTargets
from kd.teachers.frozen import FrozenTeacher
from kd.training.run import run
from kd.validation.check import check_config

SMALL = (
    *("method=datafree", "method.width=8", "method.bank=256", "method.count=64"),
    *("method.asked=5", "method.lr=0.005", "method.initial=12", "trainer.limit_train_batches=6"),
    "teacher.training.trainer.max_epochs=8",
)


class Final(Callback):
    """Keep the state dict at the end of training."""

    state: ClassVar[dict] = {}

    def on_train_start(self, trainer, pl_module) -> None:
        self.state.clear()

    def on_train_end(self, trainer, pl_module) -> None:
        self.state.update({k: v.clone() for k, v in pl_module.state_dict().items()})


def start(folder, output, *overrides) -> dict[str, torch.Tensor]:
    final = "+callbacks.final={_target_: test_datafree_runs.Final}"
    options = *SMALL, "trainer.max_epochs=2", final, *overrides
    run(configured(folder, output, *options), folder)
    return dict(Final.state)


@pytest.fixture(scope="module")
def whole(output, tmp_path_factory):
    """Folder, and state at the end, of an uninterrupted run of 12 batches."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, start(folder, output, "logger=csv")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(v.equal(other[k]) for k, v in one.items())


def test_the_teacher_finds_the_asked_class_in_the_images(whole, output):
    folder, _ = whole
    bank = load_file(folder / "bank.safetensors")
    (trained,) = (output / "teachers").glob("resnet8-*")
    teacher, _ = built("resnet8")
    teacher.load_state_dict(load_file(trained / "student.safetensors"))
    with torch.no_grad():
        found = teacher(Normalise([0.3053], [0.3760])(bank["images"])).argmax(1)
    assert (found == bank["target"]).float().mean() > 0.5, "chance is 0.1"
    assert len(bank["target"].unique()) == 10
    assert (folder / "csv" / "metrics.csv").read_text().count("train/generator/acc") == 1


@pytest.mark.slow
def test_the_student_learns_without_images(output, tmp_path):
    overrides = ["method=datafree", "trainer.max_epochs=10", "student.net.width=1"]
    overrides += ["teacher.training.trainer.max_epochs=10"]
    result: Mapping[str, Any] = run(configured(tmp_path, output, *overrides), tmp_path)
    assert result["test/acc_last"] > 0.6, "chance is 0.1"


def test_images_and_labels_of_the_training_set_have_no_effect(whole, output, tmp_path, monkeypatch):
    shown, noise = TensorLoader.show, torch.Generator().manual_seed(1)

    def random(self, index, view):
        batch = shown(self, index, view)
        if not self.sampler.shuffle:  # validation and test
            return batch
        image = torch.randint(256, batch.input.shape, generator=noise, dtype=torch.uint8)
        return batch._replace(input=image, target=torch.zeros_like(batch.target))

    monkeypatch.setattr(TensorLoader, "show", random)
    assert same(start(tmp_path, output), whole[1])


@pytest.mark.parametrize("step", [8, pytest.param(10, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one(step, whole, output, tmp_path):
    stop = f"+callbacks.stop={{_target_: support.InterruptAt, step: {step}}}"
    with pytest.raises(SystemExit, match="130"):
        start(tmp_path, output, stop)
    assert same(start(tmp_path, output, f"resume={tmp_path}"), whole[1])


def distiller(teacher=None, **options):
    torch.manual_seed(0)
    live = FrozenTeacher(teacher or TwoStages(), {}, [])
    settings = {"count": 6, "bank": 12, "steps": 2, "width": 2, "initial": 1, **options}
    made = make_distiller(
        DataFreeDistiller, {"soft": SoftTargets(4.0)}, student=TwoStages(), tap_paths={},
        teacher=live, **settings,
    )  # fmt: skip
    made.normalisation = ([0.5], [0.25])
    made.build_adapters(torch.zeros(2, 1, 8, 8), torch.arange(9) % 3)
    return made


def test_a_round_leaves_both_nets_as_they_are():
    made = distiller().train()
    made.training_step(random_batch(), 0)  # the first round has no student
    before = {k: v.clone() for k, v in made.student.state_dict().items()}
    teacher = {k: v.clone() for k, v in made.live.net.state_dict().items()}
    generator = made.generated.synthesis.generator.last[0].weight.clone()
    made._generate()
    assert same(made.student.state_dict(), before)
    assert same(made.live.net.state_dict(), teacher)
    assert made.student.training
    assert all(p.grad is None for p in made.student.parameters())
    assert not made.generated.synthesis.generator.last[0].weight.equal(generator)
    assert len(made.generated.bank) == 12


def test_the_optimizer_trains_the_student_alone():
    made = distiller()
    assert {id(p) for p in made.parameter_groups()} == {id(p) for p in made.student.parameters()}


def test_the_common_generator_follows_a_part_of_the_way():
    starts, ends = [], []
    for share in (1.0, 0.25):
        made = distiller(common=share)
        starts.append(made.generated.synthesis.generator.project.weight.detach().clone())
        made._generate()
        ends.append(made.generated.synthesis.generator.project.weight.detach().clone())
    assert starts[0].equal(starts[1])
    torch.testing.assert_close(ends[1] - starts[1], 0.25 * (ends[0] - starts[0]))


def test_a_diverging_generator_ends_the_run():
    made = distiller(lr=0.5)
    with torch.no_grad():
        made.generated.synthesis.generator.project.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"in all 2 steps of a round; lower method\.lr=0\.5"):
        made._generate()
    assert len(made.generated.bank) == 0


def test_the_bank_keeps_the_latest_images():
    bank = ImageBank(4, (1, 2, 2))
    for first in (0, 3):
        target = torch.arange(first, first + 3)
        bank.add(target.view(3, 1, 1, 1).expand(3, 1, 2, 2) / 255, target)
        assert bank.images[: len(bank), 0, 0, 0].equal(bank.target[: len(bank)].byte())
    assert sorted(bank.target.tolist()) == [2, 3, 4, 5]
    assert bank.newest(3)[:, 0, 0, 0].tolist() == [5, 4, 3]
    assert set(bank.draw(100).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": linear_net(0)}, "the teacher has no batch norm"),
        ({"every": 0}, "every and initial must be ≥ 1"),
        ({"bank": 5}, "bank must be ≥ count=6, got 5"),
        ({"steps": 0}, "steps must be > 0"),
        ({"common": 1.5}, r"common must be in \(0, 1\]"),
        ({"asked": -1.0}, "must be ≥ 0"),
        ({"statistics": 0, "asked": 0, "adversarial": 0}, "must be > 0, got 0 for all"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        distiller(**settings)


def test_a_teacher_without_batch_norm_is_refused_before_it_is_trained(output, tmp_path):
    cfg = configured(tmp_path, output, "method=datafree", teacher=("teacher=lightnn",))
    with pytest.raises(UserError, match=r"teacher=lightnn: .*no batch norm.*teacher=resnet20"):
        run(cfg, tmp_path)
    assert not list((output / "teachers").glob("lightnn*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=pskd"], "mode=pskd: method=datafree has a mode of its own; leave mode out"),
        (["method.lr=0"], "method=datafree: lr must be > 0, got 0"),
        (["method.bank=5"], "method=datafree: bank must be ≥ count=128, got 5"),
        (["teacher=ensemble"], "teacher=ensemble: method=datafree needs the net of one teacher"),
        (
            ["data=text", "teacher=transformer_mini", "student=transformer_mini_2"],
            "method=datafree: not for text classification; choose method=",
        ),
        (["control=shuffled"], "control=shuffled: method=datafree has images of its own"),
        (
            [
                "+method.objectives.views._target_=kd.objectives.crld.CrossView",
                "+method.weights.views=1",
            ],
            "compares two views of each image, and method=datafree gives it one",
        ),
    ],
)
def test_combinations_that_it_cannot_train_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        check_config(composed("method=datafree", *overrides))


def test_cached_outputs_are_refused_on_demand(output, tmp_path):
    cfg = configured(tmp_path, output, *SMALL, "teacher.cache.mode=on")
    with pytest.raises(UserError, match=r"teacher.cache=on: method=datafree trains on images"):
        run(cfg, tmp_path)


def test_data_of_unknown_normalisation_are_refused():
    made = distiller()
    made.normalisation = None
    with pytest.raises(UserError, match=r"give data\.mean and data\.std"):
        made.build_adapters(torch.zeros(2, 1, 8, 8), torch.arange(9) % 3)
